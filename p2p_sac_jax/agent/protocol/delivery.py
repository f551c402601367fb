"""Delivery of messages from the threads of a transport to handlers on the event loop.

``Inbox`` crosses from threads to the loop, ``Dispatch`` calls the handlers, and
``in_thread`` runs blocking calls in threads that nothing waits for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_PENDING = 1024  # handlers that have started and not ended
_BATCH = 64  # items delivered before the event loop runs other tasks

_log = logging.getLogger(__name__)


class Inbox(Generic[T]):
    """Bounded queues, one for each source, that the event loop empties in turn.

    A full queue drops what arrives, so that a flooding source neither delays nor
    displaces the others.

    Args:
      loop: the event loop.
      sources: all permitted sources; items of others are dropped.
      deliver: takes source and item on the event loop; its errors are logged.
      max_items: queued for each source.
      max_bytes: queued for each source.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sources: Iterable[str],
        deliver: Callable[[str, T], None],
        *,
        max_items: int,
        max_bytes: int,
    ) -> None:
        self.dropped = 0
        self._loop, self._deliver = loop, deliver
        self._max_items, self._max_bytes = max_items, max_bytes
        self._queues: dict[str, deque[tuple[T, int]]] = {s: deque() for s in sources}
        self._bytes = dict.fromkeys(self._queues, 0)
        self._waiting: deque[str] = deque()  # sources with items, each once, in turn
        self._lock = threading.Lock()
        self._scheduled = False

    def push(self, source: str, item: T, size: int) -> bool:
        """Queues an item of ``size`` bytes from any thread; False if it is dropped."""
        with self._lock:
            queue = self._queues.get(source)
            if (
                queue is None
                or len(queue) >= self._max_items
                or self._bytes[source] + size > self._max_bytes
            ):
                self.dropped += 1
                return False
            if not queue:
                self._waiting.append(source)
            queue.append((item, size))
            self._bytes[source] += size
            # One call on the loop empties what many threads bring.
            scheduled, self._scheduled = self._scheduled, True
        if not scheduled:
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed
                return False
        return True

    def close(self) -> None:
        """Drops all items, and every later one."""
        with self._lock:
            self._queues.clear()
            self._waiting.clear()

    def _drain(self) -> None:
        for _ in range(_BATCH):
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
                _log.exception("an item from %s could not be delivered", source)
        self._loop.call_soon(self._drain)


class Dispatch(Generic[T]):
    """Handlers by kind of message; a failing handler affects no other.

    Plain functions run at once, coroutines as tasks, started in order of delivery.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._handlers: defaultdict[str, list[Callable[[T], Awaitable[None] | None]]]
        self._handlers = defaultdict(list)
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether too many handlers are pending to accept another message."""
        return len(self._tasks) >= MAX_PENDING

    def register(
        self, kind: str, handler: Callable[[T], Awaitable[None] | None]
    ) -> None:
        """Adds a handler; those of one kind are called in order of registration."""
        self._handlers[kind].append(handler)

    def deliver(self, kind: str, delivery: T) -> None:
        """Calls the handlers of a kind."""
        for handler in self._handlers[kind]:
            try:
                pending = handler(delivery)
                if isawaitable(pending):
                    task = asyncio.ensure_future(pending)
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
            except Exception:
                self._failed()

    async def close(self) -> None:
        """Cancels the pending handlers."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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


async def in_thread(
    function: Callable[..., T], *arguments: object, timeout_s: float | None = None
) -> T:
    """Runs a blocking call in a daemon thread, which does not delay the exit.

    ``asyncio.to_thread`` would keep the process alive until ``function`` returns.

    Args:
      function: what to call.
      *arguments: of the function.
      timeout_s: seconds to wait for the result; None waits without limit.

    Raises:
      TimeoutError: there was no result in time; the thread goes on.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # cannot be cancelled from here on

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await asyncio.wrap_future(future)
