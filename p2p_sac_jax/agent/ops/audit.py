"""The audit log: what left a peer, when, to whom, and the remaining privacy budget.

One line of JSON for each kind of message, written before the message leaves; if the
write fails, the message does not leave. The log holds no values of a message, since it
must not leak what the mode withholds.
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

from p2p_sac_jax.agent.protocol.envelope import Envelope, parse_signed
from p2p_sac_jax.agent.protocol.payloads import decode_body
from p2p_sac_jax.agent.protocol.sequence_set import SequenceSet
from p2p_sac_jax.config import ConfigError

MAX_BYTES = 16 << 20  # of one file; two are kept
_MAX_RANGES = 1 << 16  # recorded for a requester; a peer keeps far fewer messages

_log = logging.getLogger(__name__)


class AuditLog:
    """Lines of JSON in a file, which is rotated when full.

    A message that a requester has received before is not recorded again, so repeated
    requests do not fill the log.

    Attributes:
      budget: returns the remaining privacy budget; called for each line.

    Args:
      path: of the file, readable by its owner alone.
      max_bytes: of a file; the previous one is kept beside it.
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
        self._pulled: dict[str, SequenceSet] = {}  # own messages, by requester
        self._failed = 0
        try:
            self._append(b"")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    def record_broadcast(self, own: bytes, to: Sequence[str]) -> bool:
        """Records an own message before it is broadcast.

        Args:
          own: signed message.
          to: connected peers; without any the message is kept, and may be pulled.

        Returns:
          False if it could not be recorded and must not leave.
        """
        return self._write([(own, parse_signed(own).envelope)], to, pulled=False)

    def record_pull(self, own: Collection[bytes], requester: str) -> bool:
        """Records own messages before they are sent to a requester, "" if unknown."""
        fresh = []
        for raw in own:
            envelope = parse_signed(raw).envelope
            pulled = self._pulled.get(requester)
            if pulled is None or pulled.epoch < envelope.epoch:
                pulled = SequenceSet(envelope.epoch, _MAX_RANGES)
                self._pulled[requester] = pulled
            if envelope.sequence not in pulled:
                fresh.append((raw, envelope))
        if not self._write(fresh, (requester,), pulled=True):
            return False
        for _, envelope in fresh:
            self._pulled[requester].add(envelope.sequence, envelope.sequence)
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
                    "message withheld, audit log failed: %s (%d so far)",
                    error,
                    self._failed,
                )
            return False
        return True

    def _append(self, text: bytes) -> None:
        """Opens, writes and closes: lines are few, and no handle stays open."""
        self._rotate()
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

    def _rotate(self) -> None:
        try:
            if self._path.stat().st_size > self._max_bytes:
                self._path.replace(self._path.with_suffix(".old" + self._path.suffix))
        except FileNotFoundError:
            pass
        except OSError as error:  # the long file still serves
            _log.warning("audit log could not be rotated: %s", error)
