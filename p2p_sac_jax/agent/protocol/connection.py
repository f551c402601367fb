"""An agent's hold on a network that may be away: nothing here raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Mapping
from typing import Any

import numpy as np

from p2p_sac_jax.agent.protocol.envelope import Refusal
from p2p_sac_jax.agent.protocol.peer_network import Network

_log = logging.getLogger(__name__)


class Connection:
    """The calls that an agent makes, and how many of them failed.

    Args:
      network: None is nobody at all.
      sync_interval: seconds between pulls of what was missed.
    """

    def __init__(self, network: Network | None, sync_interval: float) -> None:
        self.errors = 0
        self._network = network
        self._interval, self._synced = sync_interval, -np.inf

    async def tell(self, message: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
        """Sends a message's fields by kind; who is away pulls them later.

        Returns:
          True if anything left at once.
        """
        left = False
        for kind, fields in message.items():
            if self._network is not None:
                sent = self._network.broadcast(kind, fields)
                left |= bool(await self._attempt(kind, sent))
        return left

    async def sync(self) -> int:
        """Pulls what was missed; returns how many messages, 0 if it did not work."""
        if self._network is None:
            return 0
        self._synced = time.monotonic()
        return await self._attempt("sync", self._network.sync()) or 0

    async def sync_if_due(self) -> None:
        """Pulls what was missed if the last time is ``sync_interval`` ago."""
        if time.monotonic() - self._synced >= self._interval:
            await self.sync()

    def outdate(self) -> None:
        """What is known is of long ago: the next ``sync_if_due`` pulls."""
        self._synced = -np.inf

    def refuse(self, sender: str, reason: Refusal) -> None:
        """Has a message counted that was of no use."""
        if self._network is not None:
            self._network.refuse(sender, reason)

    def failed(self, what: str, error: Exception) -> None:
        """Counts what went wrong, and says so."""
        self.errors += 1
        _log.warning("%s failed: %s", what, error)

    async def _attempt(self, what: str, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Exception as error:  # whatever it is, the agent goes on alone
            self.failed(what, error)
            return None
