"""The audit log: what left a peer, when, in which mode, and what is left to tell.

One line of JSON for each message, written before the next one leaves. Numbers of a
message are not in it: a log of what may leave must not leak what may not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.agent.network import Handler, Network, Status
from p2p_sac_jax.agent.wire import Refusal
from p2p_sac_jax.config import ConfigError

MAX_BYTES = 16 << 20  # of one file; two are kept


class AuditLog:
    """Lines of JSON in a file; a full one makes room for the next.

    Raises:
      ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_bytes = path, max_bytes
        try:
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends a line; on disk, as far as this process can tell, on return."""
        self._file.write(json.dumps(entry) + "\n")
        if self._file.tell() > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_suffix(".old" + self._path.suffix))
            self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Ends the log; idempotent."""
        self._file.close()


class AuditedNetwork:
    """A network that writes down what leaves through it; see ``network.Network``.

    Args:
      network: what carries the messages.
      log: where they are written down.
      budget: what the peer may still tell, for the log; read before each message.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        network: Network,
        log: AuditLog,
        budget: Callable[[], Mapping[str, Any]] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.mode, self.peers = network.name, network.mode, network.peers
        self.budget = budget
        self._network, self._log, self._clock = network, log, clock

    async def connect(self) -> None:
        """See ``Network``."""
        await self._network.connect()

    async def disconnect(self) -> None:
        """See ``Network``."""
        await self._network.disconnect()
        self._log.close()

    def register_message_handler(self, kind: str, handler: Handler) -> None:
        """See ``Network``."""
        self._network.register_message_handler(kind, handler)

    async def broadcast(self, kind: str, fields: Mapping[str, np.ndarray]) -> bool:
        """See ``Network``; the line is written whether or not anybody is there."""
        before = self._network.status().counters.bytes_sent
        left = await self._network.broadcast(kind, fields)
        self._log.write(
            {
                "time": round(self._clock(), 3),
                "mode": self.mode,
                "kind": kind,
                "fields": {name: int(np.size(x)) for name, x in fields.items()},
                "bytes": self._network.status().counters.bytes_sent - before,
                "left": left,
                "budget": dict(self.budget()),
            }
        )
        return left

    async def sync(self) -> int:
        """See ``Network``."""
        return await self._network.sync()

    def refuse(self, sender: str, reason: Refusal) -> None:
        """See ``Network``."""
        self._network.refuse(sender, reason)

    def status(self) -> Status:
        """See ``Network``."""
        return self._network.status()
