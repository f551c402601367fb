"""From a transport's threads to the event loop: a bounded queue for each source.

Sources are emptied in turns and full ones drop what comes, so that a peer that floods
neither holds up nor displaces the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from absl import logging

T = TypeVar("T")

_TURN = 64  # items handed over before the event loop gets to do something else


class Inbox(Generic[T]):
    """Items on their way to ``deliver``, which the event loop's thread calls.

    Args:
      loop: the event loop.
      sources: everyone who may send; items of others are dropped.
      deliver: takes source and item; what it raises is logged and goes no further.
      most_items: kept for each source.
      most_bytes: kept for each source.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sources: Iterable[str],
        deliver: Callable[[str, T], None],
        *,
        most_items: int,
        most_bytes: int,
    ) -> None:
        self.dropped = 0
        self._loop, self._deliver = loop, deliver
        self._most_items, self._most_bytes = most_items, most_bytes
        self._queues: dict[str, deque[tuple[T, int]]] = {s: deque() for s in sources}
        self._bytes = dict.fromkeys(self._queues, 0)
        self._waiting: deque[str] = deque()  # sources with items, each once, in turn
        self._lock = threading.Lock()
        self._scheduled = False

    def push(self, source: str, item: T, size: int) -> bool:
        """Takes an item of ``size`` bytes from any thread; False if it is dropped."""
        with self._lock:
            queue = self._queues.get(source)
            if (
                queue is None
                or len(queue) >= self._most_items
                or self._bytes[source] + size > self._most_bytes
            ):
                self.dropped += 1
                return False
            if not queue:
                self._waiting.append(source)
            queue.append((item, size))
            self._bytes[source] += size
            # One call of the loop empties what many threads bring.
            scheduled, self._scheduled = self._scheduled, True
        if not scheduled:
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody is listening any more
                return False
        return True

    def close(self) -> None:
        """Forgets what is in it, and takes nothing more."""
        with self._lock:
            self._queues.clear()
            self._waiting.clear()

    def _drain(self) -> None:
        for _ in range(_TURN):
            with self._lock:
                if not self._waiting:
                    self._scheduled = False
                    return
                source = self._waiting.popleft()
                item, size = self._queues[source].popleft()
                self._bytes[source] -= size
                if self._queues[source]:
                    self._waiting.append(source)
            try:
                self._deliver(source, item)
            except Exception:
                logging.exception("an item of %s could not be taken", source)
        self._loop.call_soon(self._drain)
