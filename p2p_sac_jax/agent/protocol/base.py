"""The network as an agent sees it: interface, deliveries, status, safe calls."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from p2p_sac_jax.agent.protocol.refusals import Refusal

Health = Literal["alone", "degraded", "connected"]

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """One authentic message, delivered exactly once."""

    sender: str
    kind: str
    fields: dict[str, np.ndarray]  # flat float32 arrays
    time_ms: int  # the sender's clock, at most the own clock at arrival
    epoch: int
    sequence: int


Handler = Callable[[Delivery], Awaitable[None] | None]


class Counters(NamedTuple):
    """Events since the start."""

    sent: int  # messages that left at once
    kept: int  # own messages that could not leave, kept for others to pull
    bytes_sent: int  # of those that left at once
    delivered: int  # messages, by broadcast or by sync
    pulled: int  # of them by sync
    duplicates: int  # known messages in the replies to a sync; harmless
    dropped: int  # by the transport, because this peer was slow
    handler_errors: int
    refused: dict[str, int]  # by reason
    refused_from: dict[str, dict[str, int]]  # by source, "" if unknown, and reason
    log_messages: int  # kept for others, own and received
    log_bytes: int


class Status(NamedTuple):
    """State of the network, for people and monitors."""

    connected: bool  # between ``connect`` and ``disconnect``
    mode: str
    peers: tuple[str, ...]  # of the roster, reachable now
    last_sync_s: float | None  # seconds since the last sync; None before the first
    health: Health  # none, some or all of the others are reachable
    counters: Counters


class AgentNetwork(Protocol):
    """What an agent needs of a network. No method raises because of other peers."""

    name: str
    mode: str
    peers: tuple[str, ...]  # the roster, in order, own name included

    async def connect(self) -> None:
        """Starts; other peers may come later, or never.

        Raises:
          ConfigError: the port or folder of this peer is in use.
        """
        ...

    async def disconnect(self) -> None:
        """Stops; idempotent."""
        ...

    def register_message_handler(self, kind: str, handler: Handler) -> None:
        """Adds a handler of a kind of message; several are called in order.

        Raises:
          ConfigError: there is no such kind.
        """
        ...

    async def broadcast(self, kind: str, fields: Mapping[str, np.ndarray]) -> bool:
        """Sends to all peers, and keeps a copy for those that are unreachable.

        Args:
          kind: of message.
          fields: arrays by name, exactly the fields of the mode and kind.

        Returns:
          True if the message left at once.

        Raises:
          ConfigError: the fields are not those of the mode and kind.
        """
        ...

    async def sync(self) -> int:
        """Pulls missing messages from all peers; returns how many arrived."""
        ...

    def refuse(self, sender: str, reason: Refusal) -> None:
        """Counts a delivery whose content a handler could not use."""
        ...

    def status(self) -> Status:
        """The state at this moment."""
        ...


class Connection:
    """An agent's calls to a network that may fail: nothing here raises.

    Args:
      network: None is no network at all.
      sync_interval: seconds between pulls of missing messages.
    """

    def __init__(self, network: AgentNetwork | None, sync_interval: float) -> None:
        self.errors = 0
        self._network = network
        self._interval, self._synced = sync_interval, -math.inf

    async def send(self, message: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
        """Sends a message's fields by kind; unreachable peers pull them later.

        Returns:
          True if any part left at once.
        """
        left = False
        for kind, fields in message.items():
            if self._network is not None:
                sent = self._network.broadcast(kind, fields)
                left |= bool(await self._attempt(kind, sent))
        return left

    async def sync(self) -> int:
        """Pulls missing messages; returns how many, 0 after a failure."""
        if self._network is None:
            return 0
        self._synced = time.monotonic()
        return await self._attempt("sync", self._network.sync()) or 0

    async def sync_if_due(self) -> None:
        """Pulls missing messages if the last sync is ``sync_interval`` ago."""
        if time.monotonic() - self._synced >= self._interval:
            await self.sync()

    def expire(self) -> None:
        """Makes the next ``sync_if_due`` pull."""
        self._synced = -math.inf

    def refuse(self, sender: str, reason: Refusal) -> None:
        """Counts a message that could not be used."""
        if self._network is not None:
            self._network.refuse(sender, reason)

    def failed(self, what: str, error: Exception) -> None:
        """Counts and logs a failure."""
        self.errors += 1
        _log.warning("%s failed: %s", what, error)

    async def _attempt(self, what: str, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Exception as error:  # whatever it is, the agent goes on alone
            self.failed(what, error)
            return None
