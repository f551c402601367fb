"""Reasons to refuse a message, and counters of the refusals."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from enum import StrEnum

READ_S = 60.0  # between two lines on what one peer refuses

_log = logging.getLogger(__name__)


class Refusal(StrEnum):
    """Reasons to refuse a message; the list is complete, so counters are bounded."""

    oversize = "oversize"
    garbage = "garbage"  # not an envelope
    not_canonical = "not_canonical"  # a second encoding of the same value
    wrong_version = "wrong_version"
    wrong_network = "wrong_network"
    wrong_mode = "wrong_mode"
    wrong_kind = "wrong_kind"
    wrong_settings = "wrong_settings"  # its hello does not agree with the own one
    unknown_sender = "unknown_sender"  # not in the roster
    wrong_source = "wrong_source"  # the connection belongs to another peer
    echo = "echo"  # own message
    rate = "rate"
    stale_epoch = "stale_epoch"  # from before the sender's last start
    replay = "replay"
    future = "future"
    bad_body = "bad_body"  # other fields than those of the mode
    bad_number = "bad_number"  # not finite, or too large
    bad_signature = "bad_signature"
    busy = "busy"  # handlers lag behind; the message is pulled later
    receipt_log = "receipt_log"  # the disk failed; the message is pulled later
    shape = "shape"  # array sizes differ from the receiver's
    content = "content"  # a handler had another reason


class RefusalError(Exception):
    """A message is refused: the only exception that reading a message raises."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason, self.detail = reason, detail


class RefusalCounter:
    """Counts refusals by source and reason; any thread may read.

    Args:
      sources: counted by name; all others are counted as "".
    """

    def __init__(self, sources: Collection[str]) -> None:
        self._sources = frozenset(sources)
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()
        # By peer: what it last stated, what of that is new, and when it may be logged.
        self._stated: dict[str, Counter[Refusal]] = {}
        self._new: defaultdict[str, Counter[Refusal]] = defaultdict(Counter)
        self._next_s: defaultdict[str, float] = defaultdict(float)

    def add(self, source: str, error: RefusalError) -> None:
        """Counts one refusal; the 1st, 2nd, 4th, 8th, ... of a kind are logged."""
        known = source if source in self._sources else ""
        with self._lock:
            self._counts[known][error.reason.value] += 1
            count = self._counts[known][error.reason.value]
        if count & (count - 1) == 0:
            data = {
                "peer": source[:64],
                "reason": error.reason.value,
                "detail": error.detail[:200],
                "count": count,
            }
            _log.warning("refused from a peer", extra={"data": data})

    def read(self, peer: str, refused: Iterable[tuple[Refusal, int]]) -> None:
        """Logs what a peer has refused of the own messages, at most once a minute.

        Peers state counts since their own start. What the first statement holds may be
        from before the start of this peer, and is left out.
        """
        counts, now_s = Counter(dict(refused)), time.monotonic()
        before = self._stated.get(peer, counts)
        if any(counts[reason] < n for reason, n in before.items()):
            before = Counter()  # it has restarted
        self._stated[peer], new = counts, self._new[peer]
        new += counts - before
        if new and now_s >= self._next_s[peer]:
            data = {"peer": peer, "refused": dict(new)}
            _log.warning("messages refused by a peer", extra={"data": data})
            new.clear()
            self._next_s[peer] = now_s + READ_S

    def of(self, source: str) -> dict[Refusal, int]:
        """Number of refusals of one source by reason."""
        with self._lock:
            return {Refusal(r): n for r, n in self._counts.get(source, {}).items()}

    def by_reason(self) -> dict[str, int]:
        """Number of refusals for each reason that occurred."""
        return dict(sum(map(Counter, self.by_source().values()), Counter()))

    def by_source(self) -> dict[str, dict[str, int]]:
        """Number of refusals by source and reason."""
        with self._lock:
            return {source: dict(counts) for source, counts in self._counts.items()}
