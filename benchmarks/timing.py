"""Programs take turns, A B C A B C, so that all of them meet the same machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.machine import others_s


class Timing(NamedTuple):
    """Turns of one program."""

    updates: int  # gradient updates in each turn
    seconds: list[float]  # of each turn

    @property
    def rates(self) -> list[float]:
        """Gradient updates a second, turn by turn."""
        return [self.updates / spent for spent in self.seconds]


def take_turns(
    programs: Sequence[Callable[[int], int]],
    repeats: int,
    turn_s: float,
    before_round: Callable[[], None] = lambda: None,
) -> tuple[list[Timing], float]:
    """Times warmed-up programs in turn.

    Turns last about ``turn_s`` seconds for all, or one chunk of the slowest program
    before them if that is longer. A program trains so many chunks and returns the
    gradient updates done; ``before_round`` is called before each round of turns.

    Returns:
      The turns of each program, and the share of the machine's processor time that
      went to other processes meanwhile. A large share makes the figures worthless:
      threads that wait for each other suffer out of proportion.

    Raises:
      RuntimeError: a turn did another number of updates than its chunks should.
    """
    plans = []
    for run in programs:
        chunks, updates, seconds = _plan(run, turn_s)
        plans.append((run, chunks, Timing(updates, [])))
        turn_s = max(turn_s, seconds)
    began, others = time.perf_counter(), others_s()
    for _ in range(repeats):
        before_round()
        for run, chunks, timing in plans:
            updates, seconds = _timed(run, chunks)
            timing.seconds.append(seconds)
            check_updates("turn", updates, timing.updates)
    available_s = (time.perf_counter() - began) * (os.cpu_count() or 1)
    share = max(0.0, others_s() - others) / available_s
    return [timing for _, _, timing in plans], share


def check_updates(name: str, done: int, due: int) -> int:
    """``done``, if it equals ``due``.

    Raises:
      RuntimeError: the time taken would mean nothing.
    """
    if done != due:
        raise RuntimeError(f"{name}: {done} gradient updates where {due} were due")
    return done


def _plan(run: Callable[[int], int], turn_s: float) -> tuple[int, int, float]:
    """Chunks of a turn, the updates due in it, and about how many seconds it takes."""
    chunks, (updates, spent) = 1, _timed(run, 1)
    while spent < turn_s / 4:  # too short to extrapolate
        chunks *= 4
        updates, spent = _timed(run, chunks)
    wanted = max(1, math.ceil(chunks * turn_s / spent))
    return wanted, updates // chunks * wanted, spent / chunks * wanted


def _timed(run: Callable[[int], int], chunks: int) -> tuple[int, float]:
    start = time.perf_counter()
    done = run(chunks)
    return done, time.perf_counter() - start
