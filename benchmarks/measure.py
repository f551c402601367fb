"""Loops and limits take turns, so that all of them meet the same machine."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.machine import others_s
from benchmarks.machine_limits import Limit, Limits
from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError
from p2p_sac_jax.experiment.devices import Placement, choose_placement

TURN_S = 0.5  # a turn of a loop lasts at least about as long


class Case(NamedTuple):
    """One loop to be timed."""

    size: str  # name of its size
    config: TrainConfig
    auto: bool  # whether layout "auto" would have chosen the same
    devices: int = 1  # that it will use


class Timed(NamedTuple):
    """What a loop did in its turns; the loop itself is gone, and so is its memory."""

    case: Case
    placement: Placement
    compile_s: float
    memory: dict[str, int]  # bytes, see ``TrainingLoop``
    updates: int  # gradient updates of all peers in each turn
    seconds: list[float]  # of each turn

    @property
    def rates(self) -> list[float]:
        """Gradient updates a second, turn by turn."""
        return [self.updates / spent for spent in self.seconds]


class Sitting(NamedTuple):
    """Loops that took turns with each other."""

    timed: list[Timed]
    limits: list[Limit]  # turn by turn
    others: float  # share of processor time that other programs took meanwhile


def make_cases(size: str, configs: Sequence[TrainConfig]) -> list[Case]:
    """Cases for configurations, without those that would run as an earlier one does.

    Args:
      size: name of the configurations' size.
      configs: they may ask for the same layout in different words.

    Raises:
      ConfigError: a device is absent.
    """
    cases, seen = [], set()
    for config in configs:
        # First, so that JAX starts with every device that anybody may want.
        chosen = choose_placement(dataclasses.replace(config, layout="auto", devices=0))
        placement = choose_placement(config)
        layout, devices = placement.layout, placement.devices
        config = dataclasses.replace(config, layout=layout)
        key = dataclasses.replace(config, devices=devices)
        if key not in seen:
            seen.add(key)
            auto = (layout, devices) == (chosen.layout, chosen.devices)
            cases.append(Case(size, config, auto, devices))
    return cases


def measure(
    cases: Sequence[Case],
    limits: Limits,
    repeats: int,
    say: Callable[[str], None],
    turn_s: float = TURN_S,
) -> Iterator[Sitting]:
    """Times all cases in as few sittings as memory allows.

    A loop that does not fit beside those already there waits for the next sitting;
    one that does not fit alone is left out, and ``say`` tells so.

    Args:
      cases: loops in the order of their turns.
      limits: measured once in every turn.
      repeats: turns of each loop.
      say: takes one line about progress.
      turn_s: seconds of a turn, at least.
    """
    held: list[tuple[Case, TrainingLoop]] = []
    for case in cases:
        loop, problem = _build(case)
        if loop is None and held:
            yield take_turns(held, limits, repeats, turn_s)
            held.clear()
            loop, problem = _build(case)
        if loop is None:
            say(f"{case.size}, left out: {problem}")
            continue
        say(
            f"{case.size}, P={case.config.population.peers},"
            f" {loop.placement.layout}: compiled in {loop.compile_s:.1f} s"
        )
        held.append((case, loop))
        loop = None  # ``held`` alone keeps it
    if held:
        yield take_turns(held, limits, repeats, turn_s)


def _build(case: Case) -> tuple[TrainingLoop | None, str]:
    """A loop, warmed up, or why there is none."""
    gc.collect()
    try:
        loop = TrainingLoop(case.config)
        loop.run()  # memory that only a running program needs
        return loop, ""
    except InsufficientMemoryError as error:
        return None, str(error)


def take_turns(
    loops: Sequence[tuple[Case, TrainingLoop]],
    limits: Limits,
    repeats: int,
    turn_s: float = TURN_S,
) -> Sitting:
    """Times loops in turn, A B C A B C, and the limits once in every round.

    Args:
      loops: warmed up.
      limits: of this machine.
      repeats: turns of each.
      turn_s: seconds of a turn, at least.
    """
    plans = [_plan(loop, turn_s) for _, loop in loops]
    timed = [
        Timed(case, loop.placement, loop.compile_s, loop.memory, updates, [])
        for (case, loop), (_, updates) in zip(loops, plans, strict=True)
    ]
    measured, began, others = [], time.perf_counter(), others_s()
    for _ in range(repeats):
        measured.append(limits.measure())
        for turn, (_, loop), (chunks, _) in zip(timed, loops, plans, strict=True):
            done, spent = _run(loop, chunks)
            if done != turn.updates:
                raise RuntimeError(f"{done} updates in a turn, {turn.updates} were due")
            turn.seconds.append(spent)
    available = (time.perf_counter() - began) * (os.cpu_count() or 1)
    return Sitting(timed, measured, max(0.0, others_s() - others) / available)


def _plan(loop: TrainingLoop, turn_s: float) -> tuple[int, int]:
    """Chunks that fill a turn, and the gradient updates they do."""
    chunks, (updates, spent) = 1, _run(loop, 1)
    while spent < turn_s / 4:  # too short to tell how long it takes
        chunks *= 4
        updates, spent = _run(loop, chunks)
    wanted = max(1, math.ceil(chunks * turn_s / spent))
    return wanted, updates // chunks * wanted


def _run(loop: TrainingLoop, chunks: int) -> tuple[int, float]:
    start = time.perf_counter()
    done = loop.run(chunks)
    return done, time.perf_counter() - start
