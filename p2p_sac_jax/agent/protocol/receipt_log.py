"""Receipt log: every message is recorded before it is delivered.

A line is an entry and a checksum over it and all lines before:

    received SENDER EPOCH FIRST LAST   a range of messages
    void SENDER EPOCH                  an epoch that was ahead of the clock
    before MS                          messages sent before this time are refused

Lines go to the operating system unbuffered, so they survive the death of the process,
and a restarted peer delivers nothing twice. The file ``receipt_count`` holds how many
lines there are, the last checksum, and the boot they were written in, so a log that
lost its end is noticed. If the machine lost power, or the log was removed, what is
missing is unknown: messages sent before that moment are then refused.

The peer's own starts are recorded too: each epoch is larger than the last, even if the
clock was set back a little.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS
from p2p_sac_jax.agent.protocol.sequence_set import MAX_RANGES, SequenceSet
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.folder_lock import FolderLock

MAX_LINES = 50_000  # appended before the file is compacted
_MAX_VOID = 64  # epochs of one sender
_FILE, _COUNT, _COUNT_BYTES = "receipt_log", "receipt_count", 128
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_log = logging.getLogger(__name__)


class _Count(NamedTuple):
    """Content of ``receipt_count``."""

    lines: int
    last: str  # checksum of the last line
    boot: str
    closed: bool  # in order: every line is on disk


class ReceiptLog:
    """The sequence sets of all senders, in a folder that one process owns at a time.

    Attributes:
      received: sequence sets by sender.
      before_ms: messages sent before this time are refused.

    Args:
      folder: created if missing; None records nothing.
      max_ranges: of a sequence set.
      max_lines: appended before the file is compacted.
      clock: seconds since 1970.

    Raises:
      ConfigError: another process owns the folder, it is not writable, or the file is
        damaged.
    """

    def __init__(
        self,
        folder: Path | None,
        max_ranges: int = MAX_RANGES,
        max_lines: int = MAX_LINES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.received: dict[str, SequenceSet] = {}
        self.before_ms = 0
        self._void: defaultdict[str, set[int]] = defaultdict(set)
        self._max_ranges, self._max_lines = max_ranges, max_lines
        self._folder, self._clock = folder, clock
        self._file = self._count = -1
        self._lock: FolderLock | None = None
        self._lines, self._last = 0, ""
        self.open()

    def open(self) -> None:
        """Locks the folder, reads the file and compacts it; nothing if it is open."""
        if self._folder is None or self._file >= 0:
            return
        self._lock = FolderLock(self._folder, "folder", 0o700)
        try:
            flags = os.O_RDWR | os.O_CREAT
            self._count = os.open(self._folder / _COUNT, flags, 0o600)
            self._read()
            self._void_future()
            self._compact()
        except ConfigError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def close(self) -> None:
        """Releases the folder; idempotent."""
        if self._file >= 0:
            os.fsync(self._file)
            self._write_count(self._lines, self._last, closed=True)
            os.fsync(self._count)
        for handle in (self._file, self._count):
            if handle >= 0:
                os.close(handle)
        self._file = self._count = -1
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def append(self, sender: str, epoch: int, sequence: int) -> None:
        """Records one message in the file and in its sender's sequence set.

        Raises:
          OSError: the write failed; nothing has changed.
        """
        self._write(f"received {sender} {epoch} {sequence} {sequence}")
        self._add(sender, epoch, sequence, sequence)
        if self._lines > self._max_lines:
            try:
                self._compact()
            except OSError as error:  # the long file still serves
                _log.warning("receipt log could not be compacted: %s", error)
                self._max_lines += self._max_lines

    def start(self, name: str) -> int:
        """Records a start of the own peer and returns its epoch, in ms.

        Raises:
          ConfigError: the write failed.
        """
        now_ms = int(self._clock() * 1000)
        past = self.latest(name)
        epoch = now_ms if past is None else max(now_ms, past.epoch + 1)
        try:
            self.append(name, epoch, 0)
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            raise self._unusable(error) from error
        return epoch

    def latest(self, sender: str) -> SequenceSet | None:
        """What has arrived of a sender's last start; None if nothing has.

        A start that is ahead of the clock was recorded while the clock was ahead. It
        is void: it hides no other start, and none of its messages is taken any more.
        """
        received = self.received.get(sender)
        if received is not None and self._is_future(received.epoch):
            self._void_future()
            return None
        return received

    def is_void(self, sender: str, epoch: int) -> bool:
        """Whether this start of a sender was voided."""
        return epoch in self._void[sender]

    def _is_future(self, epoch: int) -> bool:
        return epoch > int(self._clock() * 1000) + FUTURE_MS

    def _void_future(self) -> None:
        """Voids starts that are ahead of the clock; see ``latest``."""
        ahead = {
            s: r.epoch for s, r in self.received.items() if self._is_future(r.epoch)
        }
        for sender, epoch in ahead.items():
            _log.warning(
                "start of %s was recorded %.0f s ahead of the clock: void",
                sender,
                epoch / 1000 - self._clock(),
            )
            try:
                self._write(f"void {sender} {epoch}")
            except OSError as error:  # voided again after the next start
                _log.warning("void start could not be recorded: %s", error)
            self._add_void(sender, epoch)

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"folder={str(self._folder)!r} must be writable: {error.strerror}"
        )

    def _read(self) -> None:
        """Reads both files, and decides what to do if they do not fit together."""
        path, count = self._path, self._read_count()
        text = path.read_bytes() if path.exists() else None
        self.received, self.before_ms = {}, 0
        self._void.clear()
        *whole, torn = (text or b"").split(b"\n")
        last, number = "", 0
        fits = not count.lines
        for number, line in enumerate(whole, 1):
            last = self._take_line(line, last)
            if not last:
                break
            fits |= number == count.lines and last == count.last
        if text is None and count.lines:
            self._forget("was removed")
        elif not count.closed and count.boot != _boot():
            self._forget("was not closed before the machine stopped")
        elif (whole and not last) or not fits or (torn and count.closed):
            where = f"at line {number}" if whole and not last else "at its end"
            raise ConfigError(
                f"receipt log {str(path)!r} is damaged {where}: restore it, or remove"
                " it, and messages sent until then are refused"
            )

    def _forget(self, reason: str) -> None:
        self.before_ms = int(self._clock() * 1000) + FUTURE_MS
        _log.warning(
            "receipt log %s: messages sent until %d s from now are refused",
            reason,
            FUTURE_MS // 1000,
        )

    def _take_line(self, line: bytes, last: str) -> str:
        """Takes over one line; returns its checksum, "" if it is not valid."""
        try:
            entry, _, checksum = line.decode("ascii").rpartition(" ")
            if checksum != _checksum(last, entry):
                return ""
            match entry.split(" "):
                case ["received", sender, *numbers]:
                    epoch, first, end = map(int, numbers)
                    self._add(sender, epoch, first, end)
                case ["void", sender, epoch]:
                    self._add_void(sender, int(epoch))
                case ["before", time_ms]:
                    latest_ms = int(self._clock() * 1000) + FUTURE_MS
                    self.before_ms = min(int(time_ms), latest_ms)
                case _:
                    return ""
        except ValueError:
            return ""
        return checksum

    def _add(self, sender: str, epoch: int, first: int, last: int) -> None:
        received = self.received.get(sender)
        if received is None or epoch > received.epoch:
            received = self.received[sender] = SequenceSet(epoch, self._max_ranges)
        if epoch == received.epoch:
            received.add(first, last)

    def _add_void(self, sender: str, epoch: int) -> None:
        received = self.received.get(sender)
        if received is not None and received.epoch == epoch:
            del self.received[sender]
        self._void[sender].add(epoch)
        while len(self._void[sender]) > _MAX_VOID:
            self._void[sender].remove(min(self._void[sender]))

    def _entries(self) -> Iterator[str]:
        """The shortest list of entries that says the same as all so far."""
        if self.before_ms:
            yield f"before {self.before_ms}"
        for sender, epochs in self._void.items():
            known = self.received.get(sender)
            for epoch in sorted(epochs):
                if known is None or epoch > known.epoch:
                    yield f"void {sender} {epoch}"
        for sender, received in self.received.items():
            for first, last in received.ranges():
                yield f"received {sender} {received.epoch} {first} {last}"

    def _compact(self) -> None:
        """Replaces the file by the shortest equivalent one, atomically."""
        if self._folder is None:
            return
        lines, last = [], ""
        for entry in self._entries():
            last = _checksum(last, entry)
            lines.append(f"{entry} {last}\n")
        fresh = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        handle = os.open(fresh, flags, 0o600)
        try:
            _write_all(handle, "".join(lines).encode())
            os.fsync(handle)
            self._write_count(0, "")  # fits the file before and the file after
            os.fsync(self._count)  # a machine that stops now did not close the log
            os.replace(fresh, self._path)
        except BaseException:
            os.close(handle)
            self._write_count(self._lines, self._last)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._lines, self._last = handle, len(lines), last
        self._write_count(self._lines, self._last)

    def _write(self, entry: str) -> None:
        if self._file < 0:
            return
        size = os.fstat(self._file).st_size
        last = _checksum(self._last, entry)
        try:
            _write_all(self._file, f"{entry} {last}\n".encode("ascii"))
        except OSError:
            os.ftruncate(self._file, size)  # half a line would spoil the next
            raise
        self._lines, self._last = self._lines + 1, last
        self._write_count(self._lines, self._last)

    def _write_count(self, lines: int, last: str, *, closed: bool = False) -> None:
        """In place and of constant length, so that it needs no room on the disk."""
        entry = f"{lines} {last or '-'} {_boot()} {int(closed)}"
        text = f"{entry} {_checksum('', entry)}".ljust(_COUNT_BYTES - 1) + "\n"
        os.pwrite(self._count, text.encode("ascii"), 0)

    def _read_count(self) -> _Count:
        text = os.pread(self._count, _COUNT_BYTES, 0).decode("ascii", "replace")
        entry, _, checksum = text.rstrip().rpartition(" ")
        if not text:
            return _Count(0, "", _boot(), closed=True)
        if checksum != _checksum("", entry):
            return _Count(-1, "", _boot(), closed=True)  # fits no log
        lines, last, boot, closed = entry.split(" ")
        return _Count(int(lines), last, boot, closed == "1")

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / _FILE


def _checksum(last: str, entry: str) -> str:
    return hashlib.blake2b(f"{last} {entry}".encode(), digest_size=8).hexdigest()


@functools.cache
def _boot() -> str:
    """Identifies this run of the machine; constant where the system does not tell."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _write_all(handle: int, text: bytes) -> None:
    while text:
        text = text[os.write(handle, text) :]
