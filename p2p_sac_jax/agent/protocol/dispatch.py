"""Dispatch: hands deliveries to their handlers; a broken handler harms nobody."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_PENDING = 1024  # handlers that were started and have not come to their end

_log = logging.getLogger(__name__)


class Dispatch(Generic[T]):
    """Handlers by kind of delivery, plain functions or coroutine functions.

    Plain functions run at once, coroutines as tasks, started in order of delivery.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._handlers: defaultdict[str, list[Callable[[T], Awaitable[None] | None]]]
        self._handlers = defaultdict(list)
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether so many handlers are pending that nothing more should be taken."""
        return len(self._tasks) >= MOST_PENDING

    def register(
        self, kind: str, handler: Callable[[T], Awaitable[None] | None]
    ) -> None:
        """Adds a handler; those of one kind are called in the order they came."""
        self._handlers[kind].append(handler)

    def deliver(self, kind: str, delivery: T) -> None:
        """Calls the handlers of a kind."""
        for handler in self._handlers[kind]:
            try:
                pending = handler(delivery)
                if isawaitable(pending):
                    self._start(pending)
            except Exception:
                self._failed()

    async def close(self) -> None:
        """Cancels the handlers that are pending."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, pending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(pending)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        try:
            task.result()
        except Exception:
            self._failed()

    def _failed(self) -> None:
        self.errors += 1
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            _log.exception("a message handler failed (%d so far)", self.errors)
