"""Signals end a run after the current chunk, with its state saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """A signal stopped a run or a sweep after its state was saved."""

    def __init__(self, number: int, saved: str) -> None:
        """``number`` of the signal; what was ``saved`` in words."""
        name = signal.Signals(number).name
        super().__init__(f"{name}: {saved}; run again to resume")
        self.exit_status = 128 + number


class StopRequest:
    """Records signals that end a run inside its ``with`` block; a second one kills.

    SIGHUP, of a terminal that has gone, is one of them unless it is ignored.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        """No signal so far."""
        self.signal = 0
        self._earlier_handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Installs the handlers; Python allows it in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                ignored = signal.getsignal(number) is signal.SIG_IGN
                if ignored and number == signal.SIGHUP:  # as by nohup
                    continue
                self._earlier_handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores the earlier handlers."""
        for number, handler in self._earlier_handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number
        with contextlib.suppress(OSError):  # not sys.stderr, which may be in use
            os.write(
                2, b"stopping at the next evaluation; the same signal again kills\n"
            )
        signal.signal(number, signal.SIG_DFL)
