"""Threads that nothing waits for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], timeout_s: float | None = None) -> T:
    """Runs what may wait in a thread that nothing waits for, not even the exit.

    ``asyncio.to_thread`` would keep the process alive until ``function`` returns.

    Args:
      function: what to run.
      timeout_s: seconds that its result is waited for; None is no end.

    Raises:
      TimeoutError: the result was not there in time; the thread goes on.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # from here on nobody can cancel it

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=function.__name__, daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await asyncio.wrap_future(future)
