"""Refusals: counted by source and reason, logged without drowning the log."""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Collection

from p2p_sac_jax.agent.protocol.envelope import WireError

_log = logging.getLogger(__name__)


class Refusals:
    """Counts what was refused; any thread may read.

    Args:
      sources: that are counted by name; all others are counted as "".
    """

    def __init__(self, sources: Collection[str]) -> None:
        self._sources = frozenset(sources)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, source: str, error: WireError) -> None:
        """Counts one; of equal ones the 1st, 2nd, 4th, 8th, ... are logged."""
        known = source if source in self._sources else ""
        key = known, error.reason.value
        with self._lock:
            self._counts[key] += 1
            count = self._counts[key]
        if count & (count - 1) == 0:
            _log.warning("refused from %.64r: %.200s (%d so far)", source, error, count)

    def by_reason(self) -> dict[str, int]:
        """Number of refusals for each reason that occurred."""
        total: Counter[str] = Counter()
        for (_, reason), count in self._snapshot().items():
            total[reason] += count
        return dict(total)

    def by_source(self) -> dict[str, dict[str, int]]:
        """The same for each source that was refused anything."""
        each: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (source, reason), count in self._snapshot().items():
            each[source][reason] = count
        return dict(each)

    def _snapshot(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._counts)
