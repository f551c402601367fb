"""One peer's process in a stress test, honest or byzantine; see ``network_stress``.

An honest peer writes down, unbuffered, each message before it sends it and each one
that is delivered to it. Orders come as lines on stdin, answers are lines on stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.envelope import Envelope, sign
from p2p_sac_jax.agent.protocol.payloads import encode_body
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
from tests.helpers.byzantine import KIND, Byzantine

BYZANTINE = "byzantine_peer"
SYNC_EVERY_S = 2.0

Orders = Mapping[str, Callable[[], Awaitable[Any]]]


def content(sender: str, start: int, number: int) -> dict[str, np.ndarray]:
    """Content of an honest peer's ``number``-th message of a start."""
    mean = np.random.default_rng([*sender.encode(), start, number]).normal(size=16)
    known = np.array([start, number], np.float32)
    return {"mean": mean.astype("f4"), "variance": np.ones(16, "f4"), "known": known}


def make_log(path: Path) -> Callable[..., None]:
    """Writes lines that survive the death of the process."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return lambda *fields: os.write(file, f"{' '.join(map(str, fields))}\n".encode())


async def paced(rate: float) -> AsyncIterator[int]:
    """1, 2, ... at a steady rate; what a stop has missed is not made up for."""
    due, number = time.monotonic(), 0
    while True:
        yield (number := number + 1)
        due = max(due + 1.0 / rate, time.monotonic() - 0.2)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def most_mb() -> float:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def honest(folder: Path, transport: ZenohTransport, rate: float) -> None:
    identity, roster = load_identity(folder), load_roster(folder)
    network = PeerNetwork(transport, identity, roster, folder=folder / "state")
    sent, received = make_log(folder / "sent"), make_log(folder / "received")
    start = random.SystemRandom().randrange(1, 1 << 23)

    def take(delivery: Delivery) -> None:
        fields = delivery.fields
        sent = [int(number) for number in np.resize(fields["known"], 2)]
        expected = content(delivery.sender, *sent)
        same = all(np.array_equal(fields[name], expected[name]) for name in expected)
        received(delivery.sender if same else "unknown", *sent)

    async def make_message() -> None:
        async for number in paced(rate):
            sent(identity.name, start, number)
            await network.broadcast(KIND, content(identity.name, start, number))

    async def sync() -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            await network.sync()

    network.register_message_handler(KIND, take)
    await network.connect()
    tasks = [asyncio.create_task(make_message()), asyncio.create_task(sync())]

    async def quiet() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def report() -> dict[str, Any]:
        counters = network.status().counters
        return {"counters": counters._asdict(), "most_mb": most_mb()}

    await obey({"quiet": quiet, "sync": network.sync, "report": report})
    await quiet()
    await network.disconnect()


async def byzantine_peer(folder: Path, transport: ZenohTransport, rate: float) -> None:
    identity, roster = load_identity(folder), load_roster(folder)
    now = int(time.time() * 1000)
    fields = content(identity.name, 1, 1)
    values = (1, roster.network, roster.mode, KIND, identity.name, now, 1, now)
    body = encode_body(roster.mode, KIND, fields)
    first = sign(Envelope(*values, body), identity.signing_key)
    make_log(folder / "sent")(identity.name, 1, 1)
    byzantine = Byzantine(identity, roster, first, now, seed=0)
    draws = random.Random(1)
    sent_first = asyncio.Event()

    async def make_message() -> None:
        # Receivers that do not know its epoch could not refuse a stale one.
        while len(transport.reachable()) < len(roster.keys) - 1:
            await asyncio.sleep(0.05)
        for _ in range(20):
            transport.publish(first)
            await asyncio.sleep(0.02)
        sent_first.set()
        async for _ in paced(rate):
            transport.publish(byzantine.next())

    async def ask() -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S / 8)
            for peer in transport.reachable():
                question = draws.randbytes(draws.randrange(4000))
                await transport.query(peer, question, 1.0)

    await transport.open(
        lambda _, raw: byzantine.captured.append(raw),
        lambda *_: [byzantine.next() for _ in range(40 * sent_first.is_set())],
    )
    tasks = [asyncio.create_task(make_message()), asyncio.create_task(ask())]

    async def quiet() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def report() -> dict[str, Any]:
        return {"byzantine": dict(byzantine.sent), "most_mb": most_mb()}

    await obey({"ready": sent_first.wait, "quiet": quiet, "report": report})
    await quiet()
    await transport.close()


async def obey(orders: Orders) -> None:
    """Obeys the orders on stdin until SIGTERM."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGTERM, queue.put_nowait, "")

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(queue.put_nowait, line.strip())

    threading.Thread(target=read, daemon=True).start()
    while order := await queue.get():
        sys.stdout.write(json.dumps(await orders[order]()) + "\n")
        sys.stdout.flush()


async def main(path: str, rate: str, listen: str, *connect: str) -> None:
    folder = Path(path)
    transport = ZenohTransport(folder, listen=[listen], connect=connect)
    role = byzantine_peer if transport.name == BYZANTINE else honest
    await role(folder, transport, float(rate))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
