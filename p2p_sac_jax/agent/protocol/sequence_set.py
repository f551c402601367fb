"""Window: which messages of a sender have been taken, in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from p2p_sac_jax.agent.protocol.envelope import LAST

MOST_RANGES = 1024


class SequenceSet:
    """Sequence numbers taken within one epoch of a sender, as disjoint ranges.

    Losses leave gaps, which a sync fills. Of gaps, the oldest is given up (counted as
    taken) where there would be more than ``most`` ranges, so a sender that skips
    numbers costs itself old messages and nobody memory.
    """

    def __init__(self, epoch: int, most: int = MOST_RANGES) -> None:
        self.epoch = epoch
        self._most = most
        self._first = [0]  # the number 0 counts as taken: sequences start at 1
        self._last = [0]

    def __contains__(self, sequence: int) -> bool:
        place = bisect_right(self._first, sequence) - 1
        return place >= 0 and sequence <= self._last[place]

    def __len__(self) -> int:
        return len(self._first)

    @property
    def newest(self) -> int:
        """The largest sequence number taken, 0 before the first."""
        return self._last[-1]

    def add(self, first: int, last: int) -> None:
        """Takes the numbers ``first`` to ``last``, both included."""
        low = bisect_right(self._first, first)
        if low and self._last[low - 1] >= first - 1:  # touches the range below
            low -= 1
        high = bisect_right(self._first, last + 1)
        if low < high:
            first = min(first, self._first[low])
            last = max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]
        while len(self._first) > self._most:
            del self._first[1], self._last[0]

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The numbers taken, as (first, last), ascending."""
        return zip(self._first, self._last, strict=True)

    def gaps(self) -> list[tuple[int, int]]:
        """The numbers missing, as (first, last), ascending; the last goes to LAST."""
        ends = [*self._first[1:], LAST + 1]
        pairs = zip(self._last, ends, strict=True)
        return [(a + 1, b - 1) for a, b in pairs if a + 1 < b]
