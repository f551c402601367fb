"""A peer's clock: the system's, without its jumps of a moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

JUMP_S = 1.0  # between two readings, beside the time that has passed
CONFIRM_S = 30.0  # for which a jump has to last before it counts

_log = logging.getLogger(__name__)


class SteadyClock:
    """Seconds since 1970.

    Between jumps it is the system's clock. When that jumps, because a virtual machine
    was paused or a time server was wrong for a moment, this clock goes on as before
    until the jump has lasted for ``CONFIRM_S``.

    Args:
      wall: the system's clock, in seconds since 1970.
      monotonic: seconds, never set.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()
        self._jumped_s: float | None = None  # where a jump led
        self._since_s = 0.0  # and when

    def __call__(self) -> float:
        """The time now."""
        now_s = self._monotonic()
        offset_s = self._wall() - now_s
        by_s = offset_s - self._offset_s
        if abs(by_s) <= JUMP_S:
            self._offset_s, self._jumped_s = offset_s, None
        elif self._jumped_s is None or abs(offset_s - self._jumped_s) > JUMP_S:
            self._jumped_s, self._since_s = offset_s, now_s
            data = {"by_s": round(by_s, 1), "counts_after_s": CONFIRM_S}
            _log.warning("clock has jumped", extra={"data": data})
        elif now_s - self._since_s >= CONFIRM_S:
            self._offset_s, self._jumped_s = offset_s, None
            data = {"by_s": round(by_s, 1)}
            _log.warning("clock is set to where it jumped", extra={"data": data})
        return now_s + self._offset_s
