"""Peers over zenoh in processes of their own, and raw sessions of attackers.

Run as a program this is a peer: a line of JSON on stdin is an order, and it
writes one for each event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zenoh

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.identity import load_roster
from p2p_sac_jax.agent.transport.zenoh_settings import (
    alive_key,
    insight_key,
    make_settings,
)
from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


class Peer:
    """A peer's process, and everything it has sent."""

    def __init__(self, folder: Path, places: Mapping[str, str]) -> None:
        self.name = folder.name
        self.events: list[dict[str, Any]] = []
        others = [place for name, place in places.items() if name != self.name]
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder), places[self.name], *others],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def publish(self, *texts: str) -> None:
        self.order(publish=texts)

    def received(self, source: str) -> list[str]:
        """Texts whose source is ``source``, in order."""
        return [e["text"] for e in self.events if e.get("source") == source]

    def requesters(self) -> list[str]:
        return [event["requester"] for event in self.events if "requester" in event]

    def reachable(self) -> list[str]:
        """As reported by the peer now."""
        count = len(self.events)
        self.order(status=True)
        return wait_until(
            lambda: [e for e in self.events[count:] if "reachable" in e], "a status"
        )[0]["reachable"]

    def ask(self, text: str, timeout_s: float = 5.0) -> list[list[str]]:
        """Replies to a query, as [source, text]."""
        count = len(self.events)
        self.order(query=text, timeout_s=timeout_s)
        return wait_until(
            lambda: [e for e in self.events[count:] if "replies" in e], "replies"
        )[0]["replies"]

    def wait_for(self, *names: str) -> None:
        """Waits until exactly these peers are reachable."""
        wait_until(
            lambda: sorted(self.reachable()) == sorted(names),
            f"{self.name} to reach {names}",
        )

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit status after a signal, and what it wrote to stderr."""
        self.process.send_signal(number)
        try:
            status = self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        assert self.process.stdin is not None
        error = self.process.stderr.read()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return status, error

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


class Attacker:
    """A raw session that keeps to no rule, and what it receives.

    Args:
      folder: with its key, certificate and authorities.
      name: of the peer it replaces.
      places: HOST:PORT of everyone; it listens at its own.
    """

    def __init__(self, folder: Path, name: str, places: Mapping[str, str]) -> None:
        roster = load_roster(folder)
        others = [place for other, place in places.items() if other != name]
        config = make_settings(folder, name, roster, [places[name]], others)
        config.insert_json5("access_control", '{"enabled": false}')
        self.received: list[str] = []
        self.session = zenoh.open(config)
        self._key = insight_key(roster.network, name)
        liveliness = self.session.liveliness()
        self._alive = liveliness.declare_token(alive_key(roster.network, name))
        names = (*places, "*")
        for key in (*(insight_key(roster.network, n) for n in names), "p2p/**"):
            self.session.declare_subscriber(
                key,
                lambda sample: self.received.append(sample.payload.to_string()),
                allowed_origin=zenoh.Locality.REMOTE,
            )

    def put(self, text: str | bytes, key: str = "") -> None:
        self.session.put(
            key or self._key, text, congestion_control=zenoh.CongestionControl.BLOCK
        )

    def ask(self, key: str, timeout_s: float = 1.0) -> list[str]:
        replies = self.session.get(
            key, target=zenoh.QueryTarget.ALL, timeout=timeout_s, payload="?"
        )
        return [reply.ok.payload.to_string() for reply in replies if reply.ok]

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()


@contextlib.contextmanager
def running(folder: Path, places: Mapping[str, str], *names: str) -> Iterator[Any]:
    """Peers in processes of their own, by name, that end with the block."""
    with contextlib.ExitStack() as stack:
        peers = {name: Peer(folder / name, places) for name in names}
        for peer in peers.values():
            stack.enter_context(peer)
        yield peers


def copy_folder(source: Path, target: Path, **texts: bytes) -> Path:
    """A copy of an identity's folder, with some of its files replaced."""
    target.mkdir()
    names = (files.SIGNING_KEY, files.TLS_KEY, files.CERTIFICATE, files.AUTHORITY)
    for name in (*names, files.ROSTER):
        text = texts.get(name.replace(".", "_"), (source / name).read_bytes())
        (target / name).write_bytes(text)
        (target / name).chmod(0o600)
    return target


async def _main(folder: str, listen: str, *connect: str) -> None:
    loop = asyncio.get_running_loop()
    transport = ZenohTransport(folder, listen=[listen], connect=connect)
    tasks = set()

    def write(**event: Any) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    def answer(source: str, raw: bytes) -> list[bytes]:
        write(requester=source)
        text = raw.decode()
        return [f"{transport.name} {number} {text}".encode() for number in range(2)]

    async def ask(text: str, timeout_s: float) -> None:
        found = {
            peer: await transport.query(peer, text.encode(), timeout_s)
            for peer in transport.reachable()
        }
        write(replies=[(peer, raw.decode()) for peer in found for raw in found[peer]])

    def obey(line: str) -> None:
        order = json.loads(line)
        for text in order.get("publish", ()):
            transport.publish(text.encode())
        if "query" in order:
            task = loop.create_task(ask(order["query"], order["timeout_s"]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if "status" in order:
            write(reachable=list(transport.reachable()), dropped=transport.dropped)

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line)

    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await transport.open(
        lambda source, raw: write(source=source, text=raw.decode()), answer
    )
    threading.Thread(target=read, daemon=True).start()
    await stop.wait()
    await transport.close()
    await transport.close()  # idempotent


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
