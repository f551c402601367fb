"""Standard streams that may be closed, full or without a reader.

What a program prints must not decide whether its results survive: a stream that fails
is silent from then on, and the program goes on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO


class TolerantStream:
    """A text stream whose failures are silent; everything else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        """Wraps an open stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text, or nothing."""
        with self._failures_are_silent():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        with self._failures_are_silent():
            self._stream.flush()

    def write_or_fail(self, text: str) -> None:
        """Writes text that is all the program was asked for.

        Raises:
          OSError: it could not be written.
        """
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._silence()
            raise

    def __getattr__(self, name: str) -> Any:
        """Attributes of the stream, such as its encoding."""
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _failures_are_silent(self) -> Any:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._silence()

    def _silence(self) -> None:
        """What is buffered and what follows goes nowhere, at the end of Python too."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()


def guard_standard_streams() -> None:
    """Makes stdout and stderr tolerant; closed ones lead nowhere.

    A file that is opened must not get the number of a closed stream: libraries print
    to that number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number; programs that are started inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)


def tolerant(stream: Any) -> Any:
    """A standard stream as a ``TolerantStream``; None is one that was closed."""
    if isinstance(stream, TolerantStream):
        return stream
    return TolerantStream(stream or open(os.devnull, "w", encoding="utf-8"))
