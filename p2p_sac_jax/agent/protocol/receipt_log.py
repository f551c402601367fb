"""Journal: what was taken is written down before it is delivered.

One line for each range of messages: sender, epoch, first and last sequence. Lines go
to the operating system unbuffered, so they survive the death of the process, and a
peer that starts again delivers nothing twice. The own start is a line, too: the next
one is larger, even where the clock was set back a little.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS
from p2p_sac_jax.agent.protocol.sequence_set import MOST_RANGES, SequenceSet
from p2p_sac_jax.config import ConfigError

LONG = 50_000  # lines appended before the journal is written anew
_FILE, _LOCK = "receipt_log", "lock"
_log = logging.getLogger(__name__)


class ReceiptLog:
    """The windows of all senders, in a folder that one process owns at a time.

    Args:
      folder: made if it is not there; None keeps nothing.
      most_ranges: of a window.
      long: lines that are appended before the file is written anew.

    Raises:
      ConfigError: another process owns the folder, or it cannot be written to, or
        the file is damaged.
    """

    def __init__(
        self, folder: Path | None, most_ranges: int = MOST_RANGES, long: int = LONG
    ) -> None:
        self.windows: dict[str, SequenceSet] = {}  # by sender
        self._most, self._long = most_ranges, long
        self._folder = folder
        self._file = self._lock = -1
        self._lines = 0
        self.open()

    def open(self) -> None:
        """Takes the folder, reads it and writes it anew; nothing if it is open."""
        if self._folder is None or self._file >= 0:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            self._take()
            self._read()
            self._compact()
        except ConfigError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def close(self) -> None:
        """Lets go of the folder; idempotent."""
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1

    def append(self, sender: str, epoch: int, sequence: int) -> None:
        """Takes one message down; its sender's window has it from now on.

        Raises:
          OSError: it could not be written; nothing has changed.
        """
        if self._file >= 0:
            self._write(_line(sender, epoch, sequence, sequence))
        self._take_range(sender, epoch, sequence, sequence)
        if self._lines > self._long:
            try:
                self._compact()
            except OSError as error:  # the long one serves as well
                _log.warning("journal could not be written anew: %s", error)
                self._lines = 0

    def start(self, name: str, now_ms: int) -> int:
        """Writes a start of the own peer down and returns its epoch, in ms.

        Raises:
          ConfigError: it could not be written.
        """
        past = self.windows.get(name)
        epoch = now_ms if past is None else max(now_ms, past.epoch + 1)
        try:
            if epoch > now_ms + FUTURE_MS:  # a clock that was set right since: no
                del self.windows[name]  # peer took anything of so late a start
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

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"folder={str(self._folder)!r} must belong to one running peer;"
                " another one uses it"
            ) from error

    def _read(self) -> None:
        path = self._path
        # What stands behind the last line end was being written when power failed.
        *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            try:
                sender, *numbers = line.decode("ascii").split(" ")
                epoch, first, last = map(int, numbers)
            except ValueError as error:
                raise ConfigError(
                    f"journal {str(path)!r} is damaged at line {number}: restore it,"
                    " or remove it and accept that old messages may come again"
                ) from error
            self._take_range(sender, epoch, first, last)

    def _take_range(self, sender: str, epoch: int, first: int, last: int) -> None:
        window = self.windows.get(sender)
        if window is None or epoch > window.epoch:
            window = self.windows[sender] = SequenceSet(epoch, self._most)
        if epoch == window.epoch:
            window.add(first, last)

    def _compact(self) -> None:
        """Replaces the file by the shortest that says the same, in one step."""
        if self._folder is None:
            return
        text = b"".join(
            _line(sender, window.epoch, first, last)
            for sender, window in self.windows.items()
            for first, last in window.ranges()
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
            os.ftruncate(self._file, size)  # half a line would swallow the next
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
