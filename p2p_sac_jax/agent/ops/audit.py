"""The audit log: what left a peer, when, to whom, and what is left to tell.

One line of JSON for each kind of message that leaves, written before it does: what
cannot be written down stays. Numbers of a message are not in it: a log of what may
leave must not leak what may not.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2p_sac_jax.agent.protocol.envelope import Envelope, open_sealed
from p2p_sac_jax.agent.protocol.payloads import decode_body
from p2p_sac_jax.agent.protocol.sequence_set import SequenceSet
from p2p_sac_jax.config import ConfigError

MAX_BYTES = 16 << 20  # of one file; two are kept
_RANGES = 1 << 16  # of what an asker was told; far more than a peer keeps messages

_log = logging.getLogger(__name__)


class AuditLog:
    """Lines of JSON in a file; a full one makes room for the next.

    What an asker has been given before is not written again, so nobody fills the log
    by asking.

    Attributes:
      budget: what the peer may still tell; read for each line.

    Args:
      path: of the file, which is its owner's alone.
      max_bytes: of a file; the last one is kept beside it.
      clock: seconds since 1970.

    Raises:
      ConfigError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.budget: Callable[[], Mapping[str, Any]] = dict
        self._path, self._max_bytes, self._clock = path, max_bytes, clock
        self._told: dict[str, SequenceSet] = {}  # own messages, by who asked for them
        self._failed = 0
        try:
            self._append(b"")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    def published(self, own: bytes, to: Sequence[str]) -> bool:
        """Writes down that an own message is about to go to all who are there.

        Args:
          own: sealed.
          to: peers that are reachable; without any it is kept, and may be pulled.

        Returns:
          False if it must not leave: it could not be written down.
        """
        return self._write([(own, open_sealed(own).envelope)], to, pulled=False)

    def pulled(self, own: Collection[bytes], asker: str) -> bool:
        """The same for own messages that ``asker`` asks for, "" if unknown."""
        fresh = []
        for raw in own:
            envelope = open_sealed(raw).envelope
            told = self._told.get(asker)
            if told is None or told.epoch < envelope.epoch:
                told = self._told[asker] = SequenceSet(envelope.epoch, _RANGES)
            if envelope.sequence not in told:
                fresh.append((raw, envelope))
        if not self._write(fresh, (asker,), pulled=True):
            return False
        for _, envelope in fresh:
            self._told[asker].add(envelope.sequence, envelope.sequence)
        return True

    def _write(
        self,
        messages: Sequence[tuple[bytes, Envelope]],
        to: Sequence[str],
        *,
        pulled: bool,
    ) -> bool:
        kinds: defaultdict[str, list[tuple[bytes, Envelope]]] = defaultdict(list)
        for raw, envelope in messages:
            kinds[envelope.kind].append((raw, envelope))
        lines = []
        for kind, those in kinds.items():
            numbers: Counter[str] = Counter()
            for _, envelope in those:
                fields = decode_body(envelope.mode, kind, envelope.body)
                numbers.update({name: x.size for name, x in fields.items()})
            entry = {
                "time": round(self._clock(), 3),
                "mode": those[0][1].mode,
                "kind": kind,
                "to": list(to),
                "pulled": pulled,
                "messages": len(those),
                "fields": dict(numbers),
                "bytes": sum(len(raw) for raw, _ in those),
                "budget": dict(self.budget()),
            }
            lines.append(json.dumps(entry).encode() + b"\n")
        try:
            self._append(b"".join(lines))
        except OSError as error:
            self._failed += 1
            if self._failed & (self._failed - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                _log.error(
                    "kept back: no audit log, %s (%d so far)", error, self._failed
                )
            return False
        return True

    def _append(self, text: bytes) -> None:
        """Opens, writes and closes: lines are few, and nothing is left half open."""
        self._make_room()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        handle = os.open(self._path, flags, 0o600)
        try:
            os.fchmod(handle, 0o600)
            size = os.fstat(handle).st_size
            try:
                while text:
                    text = text[os.write(handle, text) :]
            except OSError:
                os.ftruncate(handle, size)  # half a line would spoil the next
                raise
        finally:
            os.close(handle)

    def _make_room(self) -> None:
        try:
            if self._path.stat().st_size > self._max_bytes:
                self._path.replace(self._path.with_suffix(".old" + self._path.suffix))
        except FileNotFoundError:
            pass
        except OSError as error:  # the long one serves as well
            _log.warning("audit log could not be put aside: %s", error)
