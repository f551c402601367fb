"""Receipt log: every message is recorded before it is delivered.

One line for each range of messages: sender, epoch, first and last sequence. Lines go
to the operating system unbuffered, so they survive the death of the process, and a
restarted peer delivers nothing twice. The peer's own starts are recorded too: each
epoch is larger than the last, even if the clock was set back a little.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS
from p2p_sac_jax.agent.protocol.sequence_set import MAX_RANGES, SequenceSet
from p2p_sac_jax.config import ConfigError

MAX_LINES = 50_000  # appended before the file is compacted
_FILE, _LOCK = "receipt_log", "lock"
_log = logging.getLogger(__name__)


class ReceiptLog:
    """The sequence sets of all senders, in a folder that one process owns at a time.

    Args:
      folder: created if missing; None records nothing.
      max_ranges: of a sequence set.
      max_lines: appended before the file is compacted.

    Raises:
      ConfigError: another process owns the folder, it is not writable, or the file is
        damaged.
    """

    def __init__(
        self,
        folder: Path | None,
        max_ranges: int = MAX_RANGES,
        max_lines: int = MAX_LINES,
    ) -> None:
        self.received: dict[str, SequenceSet] = {}  # by sender
        self._max_ranges, self._max_lines = max_ranges, max_lines
        self._folder = folder
        self._file = self._lock = -1
        self._lines = 0
        self.open()

    def open(self) -> None:
        """Locks the folder, reads the file and compacts it; nothing if it is open."""
        if self._folder is None or self._file >= 0:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            self._acquire_lock()
            self._read()
            self._compact()
        except ConfigError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def close(self) -> None:
        """Releases the folder; idempotent."""
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1

    def append(self, sender: str, epoch: int, sequence: int) -> None:
        """Records one message in the file and in its sender's sequence set.

        Raises:
          OSError: the write failed; nothing has changed.
        """
        if self._file >= 0:
            self._write(_line(sender, epoch, sequence, sequence))
        self._add(sender, epoch, sequence, sequence)
        if self._lines > self._max_lines:
            try:
                self._compact()
            except OSError as error:  # the long file still serves
                _log.warning("receipt log could not be compacted: %s", error)
                self._lines = 0

    def start(self, name: str, now_ms: int) -> int:
        """Records a start of the own peer and returns its epoch, in ms.

        Raises:
          ConfigError: the write failed.
        """
        past = self.received.get(name)
        epoch = now_ms if past is None else max(now_ms, past.epoch + 1)
        try:
            if epoch > now_ms + FUTURE_MS:
                # The clock was ahead and has been corrected since: no peer accepted
                # a message of so late an epoch.
                del self.received[name]
                self._compact()
                epoch = now_ms
            self.append(name, epoch, 0)
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            raise self._unusable(error) from error
        return epoch

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"folder={str(self._folder)!r} must be writable: {error.strerror}"
        )

    def _acquire_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"folder={str(self._folder)!r} must belong to one running peer;"
                " another one uses it"
            ) from error

    def _read(self) -> None:
        path = self._path
        # Text behind the last line end was being written when power failed.
        *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            try:
                sender, *numbers = line.decode("ascii").split(" ")
                epoch, first, last = map(int, numbers)
            except ValueError as error:
                raise ConfigError(
                    f"receipt log {str(path)!r} is damaged at line {number}: restore"
                    " it, or remove it and accept that old messages may be delivered"
                    " again"
                ) from error
            self._add(sender, epoch, first, last)

    def _add(self, sender: str, epoch: int, first: int, last: int) -> None:
        received = self.received.get(sender)
        if received is None or epoch > received.epoch:
            received = self.received[sender] = SequenceSet(epoch, self._max_ranges)
        if epoch == received.epoch:
            received.add(first, last)

    def _compact(self) -> None:
        """Replaces the file by the shortest equivalent one, atomically."""
        if self._folder is None:
            return
        text = b"".join(
            _line(sender, received.epoch, first, last)
            for sender, received in self.received.items()
            for first, last in received.ranges()
        )
        fresh = self._path.with_suffix(".new")
        handle = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600
        )
        try:
            _write_all(handle, text)
            os.fsync(handle)
            os.replace(fresh, self._path)
        except BaseException:
            os.close(handle)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._lines = handle, 0

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            _write_all(self._file, line)
        except OSError:
            os.ftruncate(self._file, size)  # half a line would spoil the next
            raise
        self._lines += 1

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / _FILE


def _line(sender: str, epoch: int, first: int, last: int) -> bytes:
    return f"{sender} {epoch} {first} {last}\n".encode("ascii")


def _write_all(handle: int, text: bytes) -> None:
    while text:
        text = text[os.write(handle, text) :]
