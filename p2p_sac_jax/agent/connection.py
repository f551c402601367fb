"""An agent's calls to its network, which never raise."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Mapping
from typing import Any

import numpy as np

from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.protocol.refusals import Refusal

FIRST_SYNC_S = 5.0

_log = logging.getLogger(__name__)


class Connection:
    """Calls to a network that may fail; failures are counted and logged.

    Args:
      network: None is no network at all.
      sync_interval: seconds between pulls of missing messages.
    """

    def __init__(self, network: PeerNetwork | None, sync_interval: float) -> None:
        self.errors = 0
        self._network = network
        self._interval = sync_interval
        self.expire()
        self._pulling: asyncio.Task[int] | None = None

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

    def sync_if_due(self, now: bool = False) -> None:
        """Starts to pull missing messages, beside the rest, every ``sync_interval``."""
        if self._network is None:
            return
        due = now or time.monotonic() - self._synced >= self._interval
        if due and (self._pulling is None or self._pulling.done()):
            self._pulling = asyncio.create_task(self.sync())

    async def before_exchange(self) -> None:
        """Pulls if due; the first exchange waits for it, at most ``FIRST_SYNC_S``."""
        self.sync_if_due()
        if self._is_first and self._pulling is not None:
            await asyncio.wait({self._pulling}, timeout=FIRST_SYNC_S)
        self._is_first = False

    def expire(self) -> None:
        """Makes the next exchange pull again and wait, as the first does."""
        self._synced, self._is_first = -math.inf, True

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
