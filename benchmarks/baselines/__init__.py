"""Third-party SACs that ours is timed against, installed for that purpose alone.

Nothing but ``benchmarks.bench_peers`` imports this folder, and each module imports its
libraries when asked to, after JAX has been given its devices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

_TURN_S = 1.0  # a turn lasts about as long, or one round if that is longer


class Work(NamedTuple):
    """What is to be done: one environment step to one gradient update, P agents."""

    peers: int  # P, agents with networks and replay of their own
    hidden: int  # width of both hidden layers, relu
    batch: int  # replay rows per update
    replay: int  # rows kept by each agent


class Contestant(NamedTuple):
    """A training program that goes on from where its last call stopped."""

    name: str
    run: Callable[[int], int]  # rounds -> gradient updates done, over all agents
    compile_s: float  # seconds of compiling; 0 where nothing is compiled


def exactly(name: str, done: int, due: int) -> int:
    """``done``, if it is what was due.

    Raises:
      RuntimeError: another number of gradient updates was done, so that the time
        taken would mean nothing.
    """
    if done != due:
        raise RuntimeError(f"{name}: {done} gradient updates where {due} were due")
    return done


class Turns(NamedTuple):
    """What one contestant did in its turns."""

    updates: int  # gradient updates in each turn
    rates: list[float]  # updates a second, turn by turn


def take_turns(
    contestants: Sequence[Contestant], repeats: int
) -> tuple[list[Turns], float]:
    """Times the contestants in turn, ``repeats`` times, after warming each up.

    Turns last about as long for all: a second, or a round of the first contestant
    if that is longer.

    Returns:
      The turns of each contestant, and the share of the machine's processor time
      that went to other processes meanwhile. Much of it makes figures worthless:
      threads that wait for each other suffer out of proportion.

    Raises:
      RuntimeError: a turn did another number of updates than its rounds should.
    """
    from benchmarks.machine import others_s

    turn_s, plans = _TURN_S, []
    for contestant in contestants:
        rounds, due, seconds = _plan(contestant, turn_s)
        plans.append((contestant, rounds, Turns(due, [])))
        turn_s = max(turn_s, seconds)
    began, others = time.perf_counter(), others_s()
    for _ in range(repeats):
        for contestant, rounds, turns in plans:
            done, seconds = _timed(contestant, rounds)
            turns.rates.append(exactly(contestant.name, done, turns.updates) / seconds)
    available_s = (time.perf_counter() - began) * (os.cpu_count() or 1)
    share = max(0.0, others_s() - others) / available_s
    return [turns for _, _, turns in plans], share


def _plan(contestant: Contestant, turn_s: float) -> tuple[int, int, float]:
    """Rounds of a turn, the updates due in it, and about how many seconds it takes."""
    contestant.run(1)
    rounds = 1
    while True:
        updates, seconds = _timed(contestant, rounds)
        if seconds > turn_s / 4:
            break
        rounds *= 4
    wanted = max(1, round(rounds * turn_s / seconds))
    return wanted, updates // rounds * wanted, seconds / rounds * wanted


def _timed(contestant: Contestant, rounds: int) -> tuple[int, float]:
    start = time.perf_counter()
    done = contestant.run(rounds)
    return done, time.perf_counter() - start
