"""A folder belongs to one process at a time.

The owner holds an ``flock`` on the file ``lock`` in the folder, which names it. The
operating system drops the lock of a process that dies, so a file that was left behind
stops nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import pwd
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from p2p_sac_jax.config import ConfigError

FILE = "lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
_ATTEMPTS = 10
_log = logging.getLogger(__name__)


class FolderInUse(ConfigError):
    """Another process owns the folder."""


class FolderLock:
    """Ownership of a folder until ``release``, the end of a ``with`` block, or death.

    Args:
      folder: created if need be, its parents included.
      field: what the user calls the folder, for messages.
      mode: of folders that are created, before the process's umask.

    Raises:
      FolderInUse: another process owns the folder; the line names it.
      ConfigError: the folder cannot be created or written.
    """

    def __init__(self, folder: Path, field: str = "workdir", mode: int = 0o777) -> None:
        self._path = folder / FILE
        self._handle = -1
        self._created: list[Path] = []
        name = f"{field}={str(folder)!r}"
        try:
            self._own(folder, mode, name)
        except FolderInUse:
            self.release()
            raise
        except OSError as error:
            self.release()
            raise ConfigError(f"{name} cannot be used: {error.strerror}") from error

    def release(self) -> None:
        """Gives the folder up; created folders that are empty go. Idempotent."""
        if self._handle >= 0:
            if self._is_current(self._handle):
                self._path.unlink()
            os.close(self._handle)
            self._handle = -1
        with contextlib.suppress(OSError):  # not empty
            for folder in self._created:
                folder.rmdir()
        self._created = []

    def __enter__(self) -> FolderLock:
        """The folder is owned already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Releases the folder."""
        self.release()

    def _own(self, folder: Path, mode: int, name: str) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                for missing in _missing(folder):
                    missing.mkdir(mode, exist_ok=True)
                    self._created.insert(0, missing)
                return self._acquire(name)
            except FileNotFoundError:  # its last owner has just removed the folder
                if not left:
                    raise

    def _acquire(self, name: str) -> None:
        while self._handle < 0:
            # In a folder of others a link would lead to the file to be truncated.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            handle = os.open(self._path, flags, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(handle):
                    self._handle = handle
            except BlockingIOError as error:
                owner = os.read(handle, 4096)
                raise FolderInUse(f"{name} is in use by {_words(owner)}") from error
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                _log.warning("%s: no locks here; let one process use it", name)
                self._handle = handle
            finally:
                if self._handle < 0:
                    os.close(handle)
        os.ftruncate(self._handle, 0)
        os.write(self._handle, _owner())

    def _is_current(self, handle: int) -> bool:
        """Whether the last owner did not remove the file after it was opened here."""
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat())
        except FileNotFoundError:
            return False


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, outermost first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    return missing


def _owner() -> bytes:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        user = str(os.getuid())
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "user": user}
    return json.dumps(owner | {"since": since}).encode() + b"\n"


def _words(content: bytes) -> str:
    try:
        owner = json.loads(content)
        return "process {pid} of {user} on {host} since {since}".format_map(owner)
    except (ValueError, KeyError, TypeError):  # not written yet
        return "another process"


def claim_number(parent: Path) -> Path:
    """Creates and returns the next free numbered folder: ``001``, ``002``, ...

    Two processes that ask at the same time get two folders.

    Raises:
      ConfigError: ``parent`` cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]
        number = max(taken, default=0) + 1
        while True:
            with contextlib.suppress(FileExistsError):
                folder = parent / f"{number:03d}"
                folder.mkdir()
                return folder
            number += 1
    except OSError as error:
        raise ConfigError(f"{str(parent)!r}: {error.strerror}") from error
