"""Deterministic transport between peers of one process, with optional faults.

The hub keeps its own time, which stands still between calls of ``advance``. Losses and
travel times are drawn from a seed. With neither loss nor delay a message has arrived
when ``broadcast`` returns.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

from p2p_sac_jax.agent.ops.identity import Identity, make_identity, make_roster
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.transport.base import OnMessage, OnQuery
from p2p_sac_jax.config import ConfigError

MAX_IN_FLIGHT = 65_536  # messages to one peer
_START_S = 1.7e9


class Hub:
    """Connects the peers of one process.

    Args:
      peers: names of the roster, in order.
      mode: of the network.
      network: its name.
      loss: probability in [0, 1] that a message, query or reply is lost.
      delay_s: largest travel time; each message draws its own, queries and replies
        take none.
      seed: of loss and delay.
    """

    def __init__(
        self,
        peers: Iterable[str],
        mode: str = "private",
        network: str = "in_process",
        *,
        loss: float = 0.0,
        delay_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.identities = {name: make_identity(name) for name in peers}
        self.roster = make_roster(network, mode, self.identities.values())
        self.loss, self.delay_s = loss, delay_s
        self._random = random.Random(seed)
        self._now_s = _START_S
        self._open: dict[str, InProcessTransport] = {}
        self._flight: list[tuple[float, int, str, str, bytes]] = []
        self._in_flight: Counter[str] = Counter()  # by receiver
        self._order = 0
        self._group: dict[str, int] = {}
        self._delivering = False

    def now_s(self) -> float:
        """Seconds since 1970 on the hub's clock."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Advances time, and delivers what arrives meanwhile, in order."""
        if self._delivering:  # a handler that sends: the caller below delivers
            return
        end_s = self._now_s + seconds
        self._delivering = True
        try:
            while self._flight and self._flight[0][0] <= end_s:
                due_s, _, source, target, raw = heapq.heappop(self._flight)
                self._in_flight[target] -= 1
                self._now_s = max(self._now_s, due_s)
                transport = self._open.get(target)
                if transport is not None and self.linked(source, target):
                    transport.receive(source, raw)
        finally:
            self._delivering = False
        self._now_s = end_s

    def partition(self, *groups: Iterable[str]) -> None:
        """Separates groups of peers; the peers in no group form another one."""
        self._group = {
            name: number for number, names in enumerate(groups) for name in names
        }

    def heal(self) -> None:
        """Ends the partition."""
        self._group = {}

    def linked(self, one: str, other: str) -> bool:
        """Whether two peers are in the same group."""
        return self._group.get(one, -1) == self._group.get(other, -1)

    def lost(self) -> bool:
        """Draws whether a transmission is lost."""
        return self._random.random() < self.loss

    def others(self, name: str) -> list[InProcessTransport]:
        """Transports of the peers that a peer can reach, in order of their names."""
        return [
            self._open[other]
            for other in sorted(self._open)
            if other != name and self.linked(name, other)
        ]

    def attach(self, transport: InProcessTransport) -> None:
        """Connects a transport; it replaces one of the same name."""
        self._open[transport.name] = transport

    def detach(self, transport: InProcessTransport) -> None:
        """Disconnects a transport, unless another one has replaced it."""
        if self.has(transport):
            del self._open[transport.name]

    def has(self, transport: InProcessTransport) -> bool:
        """Whether a transport is connected."""
        return self._open.get(transport.name) is transport

    def identity(self, name: str) -> Identity:
        """The identity of a peer of the roster.

        Raises:
          ConfigError: it is not in the roster.
        """
        if name not in self.identities:
            known = ", ".join(self.identities)
            raise ConfigError(f"name={name!r} must be one of: {known}")
        return self.identities[name]

    def send(self, source: str, raw: bytes) -> bool:
        """Sends to all peers within reach; False if there are none."""
        targets = self.others(source)
        for target in targets:
            due_s = self._now_s + self._random.uniform(0.0, self.delay_s)
            if self.lost():
                continue
            if self._in_flight[target.name] >= MAX_IN_FLIGHT:
                target.dropped += 1
                continue
            self._in_flight[target.name] += 1
            self._order += 1
            entry = due_s, self._order, source, target.name, raw
            heapq.heappush(self._flight, entry)
        self.advance(0.0)
        return bool(targets)


class InProcessTransport:
    """One peer's end of a hub: see ``Transport``."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.name, self.dropped = name, 0
        self._hub = hub
        self._on_message: OnMessage | None = None
        self._on_query: OnQuery | None = None

    async def open(self, on_message: OnMessage, on_query: OnQuery) -> None:
        """Connects to the hub."""
        self._on_message, self._on_query = on_message, on_query
        self._hub.attach(self)

    async def close(self) -> None:
        """Disconnects from the hub."""
        self._hub.detach(self)

    def publish(self, raw: bytes) -> bool:
        """Sends to every reachable peer."""
        return self._is_open() and self._hub.send(self.name, raw)

    async def query(self, raw: bytes, timeout_s: float) -> list[tuple[str, bytes]]:
        """Queries every reachable peer."""
        del timeout_s
        await asyncio.sleep(0)  # as every query does: other tasks run meanwhile
        if not self._is_open():
            return []
        return [
            (other.name, reply)
            for other in self._hub.others(self.name)
            if not self._hub.lost()
            for reply in other.reply(self.name, raw)
            if not self._hub.lost()
        ]

    def reachable(self) -> list[str]:
        """Peers in the same part of the hub."""
        if not self._is_open():
            return []
        return [other.name for other in self._hub.others(self.name)]

    def receive(self, source: str, raw: bytes) -> None:
        """Takes a message, from the hub."""
        if self._on_message is not None:
            self._on_message(source, raw)

    def reply(self, source: str, raw: bytes) -> list[bytes]:
        """Replies to a query, from the hub."""
        return [] if self._on_query is None else self._on_query(source, raw)

    def _is_open(self) -> bool:
        return self._hub.has(self)


def in_process_network(hub: Hub, name: str, **options: Any) -> PeerNetwork:
    """The network of one peer of a hub, without a limit on its rate.

    Args:
      hub: its roster and clock are used.
      name: in the roster.
      **options: of ``PeerNetwork``.

    Raises:
      ConfigError: the name is not in the roster.
    """
    hub.advance(0.001)  # every start gets its own epoch
    settings = {"clock": hub.now_s, "burst": float("inf")} | options
    identity = hub.identity(name)
    return PeerNetwork(InProcessTransport(hub, name), identity, hub.roster, **settings)
