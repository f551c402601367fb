"""Times a network of peers: one process each, over mutual TLS on this machine.

    python -m benchmarks.bench_network [--peers=8] [--rate=100] [--seconds=10]

Every peer sends signed insights at a steady rate to all others, which verify and
deliver them. Prints the messages lost before and after a sync, the time from
``broadcast`` to the handler, and the memory of a process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.flag_parsers import at_least, write, write_json
from examples.loopback import connect_all, free_addresses, make_network
from p2p_sac_jax.commands.flags import Program

if TYPE_CHECKING:
    from p2p_sac_jax.agent.protocol.base import Delivery

PROGRAM = Program(__doc__)
_PEERS = PROGRAM.integer("peers", 8, "processes, each a peer")
_RATE = PROGRAM.number("rate", 100.0, "insights a second of each peer")
_SECONDS = PROGRAM.number("seconds", 10.0, "for which they send")
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")

_KIND = "market_insight"
_NUMBERS = 16  # in each of two arrays of an insight
_TIMEOUT_S = 60.0


@PROGRAM.main
def main() -> None:
    """Prints a table, and writes the figures to --out."""
    at_least(2, _PEERS)
    at_least(1.0, _RATE, _SECONDS)
    write(_OUT)  # fails now rather than after the run
    figures = measure(_PEERS.value, _RATE.value, _SECONDS.value)
    for name, value in figures.items():
        print(f"{name:<24}{value:>12,.6g}")
    write_json(_OUT, figures)


def measure(peers: int, rate: float, seconds: float) -> dict[str, float]:
    """Figures of a run; times in milliseconds, memory in MB."""
    from p2p_sac_jax.agent.ops.authority import write_network

    names = [f"peer-{index}" for index in range(peers)]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.SimpleQueue()
    barrier = spawn.Barrier(peers)
    with tempfile.TemporaryDirectory() as folder:
        write_network(Path(folder), "bench", "consortium", names, days=1)
        addresses = free_addresses(names)
        processes = [
            spawn.Process(
                target=_run_peer,
                args=(results, Path(folder, name), addresses, rate, seconds, barrier),
                daemon=True,
            )
            for name in names
        ]
        for process in processes:
            process.start()
        found = dict(results.get() for _ in names)
        for process in processes:
            process.join()
    return _summarise(found, seconds)


def _summarise(found: Mapping[str, Any], seconds: float) -> dict[str, float]:
    expected = sum(len(peer["sent"]) for peer in found.values()) * (len(found) - 1)
    delivered = sum(peer["delivered"] for peer in found.values())
    delays_s = [
        arrived - found[sender]["sent"][number - 1]
        for peer in found.values()
        for sender, number, arrived in peer["before_sync"]
    ]
    p50, p99, largest = np.percentile(np.array(delays_s) * 1e3, (50, 99, 100))
    return {
        "peers": len(found),
        "sent": sum(len(peer["sent"]) for peer in found.values()),
        "deliveries expected": expected,
        "lost before a sync": expected - len(delays_s),
        "lost after a sync": expected - delivered,
        "deliveries a second": len(delays_s) / seconds,
        "bytes of an insight": found["peer-0"]["bytes"],
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "largest ms": float(largest),
        "MB of the largest process": max(peer["mb"] for peer in found.values()),
        "CPU s of all processes": sum(peer["cpu_s"] for peer in found.values()),
    }


def _run_peer(results: Any, *arguments: Any) -> None:
    """A process: one peer that sends, receives, syncs and reports."""
    results.put(asyncio.run(_peer(*arguments)))


async def _peer(
    folder: Path,
    addresses: Mapping[str, str],
    rate: float,
    seconds: float,
    barrier: Any,
) -> tuple[str, dict[str, Any]]:
    name = folder.name
    others = [other for other in addresses if other != name]
    network = make_network(
        folder,
        addresses,
        others,
        folder=folder / "state",
        rate_per_s=4.0 * rate,
        burst=8.0 * rate,
        log_messages=int(2 * rate * seconds) + 1,
    )
    sent: list[float] = []
    received: list[tuple[str, int, float]] = []

    def receive(delivery: Delivery) -> None:
        number = int(delivery.fields["mean"][0])
        received.append((delivery.sender, number, time.monotonic()))

    network.register_message_handler(_KIND, receive)
    await connect_all([network], len(others))
    await asyncio.to_thread(barrier.wait, _TIMEOUT_S)
    await asyncio.sleep(list(addresses).index(name) / len(addresses) / rate)
    began, cpu_s = time.monotonic(), time.process_time()
    for number in range(1, int(rate * seconds) + 1):
        sent.append(time.monotonic())
        await network.broadcast(_KIND, _insight(number))
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
    cpu_s = time.process_time() - cpu_s
    await asyncio.sleep(1.0)
    before_sync = list(received)
    while await network.sync():
        pass
    await asyncio.to_thread(barrier.wait, _TIMEOUT_S)
    counters = network.status().counters
    await network.disconnect()
    return name, {
        "sent": sent,
        "before_sync": before_sync,
        "delivered": len({entry[:2] for entry in received}),
        "bytes": counters.bytes_sent / max(1, counters.sent),
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_s": cpu_s,
    }


def _insight(number: int) -> dict[str, np.ndarray]:
    mean = np.linspace(0.0, 1.0, _NUMBERS, dtype=np.float32)
    mean[0] = number
    known = np.ones(1, np.float32)
    return {"mean": mean, "variance": np.ones_like(mean), "known": known}


if __name__ == "__main__":
    main()
