"""Deterministic transport between peers of one process.

A message has arrived when ``broadcast`` returns. The hub keeps its own time, which
stands still between calls of ``advance``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from p2p_sac_jax.agent.ops.identity import Identity, make_identity, make_roster
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.transport.base import OnMessage, OnQuery
from p2p_sac_jax.config import ConfigError

_START_S = 1.7e9


class Hub:
    """Connects the peers of one process.

    Args:
      peers: names of the roster, in order.
      mode: of the network.
      network: its name.
    """

    def __init__(
        self, peers: Iterable[str], mode: str = "private", network: str = "in_process"
    ) -> None:
        self.identities = {name: make_identity(name) for name in peers}
        self.roster = make_roster(network, mode, self.identities.values())
        self._now_s = _START_S
        self._open: dict[str, InProcessTransport] = {}

    def now_s(self) -> float:
        """Seconds since 1970 on the hub's clock."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Advances the hub's clock."""
        self._now_s += seconds

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

    def others(self, name: str) -> list[InProcessTransport]:
        """Transports that a peer can reach, in order of their names."""
        return [self._open[other] for other in sorted(self._open) if other != name]

    def send(self, source: str, raw: bytes) -> bool:
        """Sends to all peers within reach; False if there are none."""
        targets = self.others(source)
        for target in targets:
            target.receive(source, raw)
        return bool(targets)

    def query(self, source: str, peer: str, raw: bytes) -> list[bytes]:
        """Replies of one peer, none if it is out of reach."""
        reached = {other.name: other for other in self.others(source)}
        return reached[peer].reply(source, raw) if peer in reached else []

    def identity(self, name: str) -> Identity:
        """The identity of a peer of the roster.

        Raises:
          ConfigError: it is not in the roster.
        """
        if name not in self.identities:
            known = ", ".join(self.identities)
            raise ConfigError(f"name={name!r} must be one of: {known}")
        return self.identities[name]


class InProcessTransport:
    """One peer's end of a hub: see ``Transport``."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.name, self.dropped, self.hello = name, 0, ""
        self._hub = hub
        self._on_message: OnMessage | None = None
        self._on_query: OnQuery | None = None

    def announce(self, hello: str) -> None:
        """States the hello."""
        self.hello = hello

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

    async def query(self, peer: str, raw: bytes, timeout_s: float) -> list[bytes]:
        """Queries one peer."""
        del timeout_s
        await asyncio.sleep(0)  # as every query does: other tasks run meanwhile
        return self._hub.query(self.name, peer, raw) if self._is_open() else []

    def reachable(self) -> dict[str, str]:
        """Peers in the same part of the hub, and their hellos."""
        if not self._is_open():
            return {}
        return {other.name: other.hello for other in self._hub.others(self.name)}

    def receivers(self) -> list[str]:
        """As ``reachable``: the hub connects nobody else."""
        return list(self.reachable())

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
