"""Signals: finish the chunk, save, and leave with the usual exit status."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """A signal stopped the run after its state was saved."""

    def __init__(self, number: int, step: int) -> None:
        """``number`` of the signal; ``step`` that the checkpoint holds."""
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at step {step}; run again to go on")
        self.exit_status = 128 + number


class StopRequest:
    """Notes SIGINT and SIGTERM while the ``with`` block runs; a second one kills."""

    _WATCHED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        """No signal yet."""
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Starts watching, where Python allows it: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in self._WATCHED:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Puts the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number
        sys.stderr.write("stopping after this step; the same signal again kills\n")
        signal.signal(number, signal.SIG_DFL)
