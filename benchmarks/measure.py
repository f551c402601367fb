"""Times training loops and the limits of the machine, in as few sessions as fit."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.machine_limits import Limit, Limits
from benchmarks.timing import Timing, take_turns
from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError
from p2p_sac_jax.experiment.devices import Placement, choose_placement

TURN_S = 0.5  # a turn of a loop lasts at least about as long


class Case(NamedTuple):
    """One loop to be timed."""

    size: str  # name of its size
    config: TrainConfig
    auto: bool  # whether layout "auto" chooses the same
    devices: int = 1  # that it will use


class TimedCase(NamedTuple):
    """Turns of one loop; the loop itself has been freed."""

    case: Case
    placement: Placement
    compile_s: float
    memory: dict[str, int]  # bytes, see ``TrainingLoop``
    timing: Timing


class Session(NamedTuple):
    """Loops that took turns with each other."""

    timed: list[TimedCase]
    limits: list[Limit]  # turn by turn
    others: float  # share of processor time of other programs meanwhile


def make_cases(size: str, configs: Sequence[TrainConfig]) -> list[Case]:
    """Cases for configurations, without those that would run as an earlier one does.

    Raises:
      ConfigError: a device is absent.
    """
    cases, seen = [], set()
    for config in configs:
        # First, so that JAX starts with every device that any configuration uses.
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
    progress: Callable[[str], None],
    turn_s: float = TURN_S,
) -> Iterator[Session]:
    """Times all cases in as few sessions as memory allows.

    A loop that does not fit beside the loops in memory waits for the next session;
    one that does not fit alone is left out. ``limits`` are measured once in every
    round of turns, and ``progress`` takes one line about each loop.
    """
    held: list[tuple[Case, TrainingLoop]] = []
    for case in cases:
        loop, problem = _build(case)
        if loop is None and held:
            yield _time(held, limits, repeats, turn_s)
            held.clear()
            loop, problem = _build(case)
        if loop is None:
            progress(f"{case.size}, left out: {problem}")
            continue
        progress(
            f"{case.size}, P={case.config.population.peers},"
            f" {loop.placement.layout}: compiled in {loop.compile_s:.1f} s"
        )
        held.append((case, loop))
        loop = None  # ``held`` alone keeps it
    if held:
        yield _time(held, limits, repeats, turn_s)


def _build(case: Case) -> tuple[TrainingLoop | None, str]:
    """A warmed-up loop, or the reason why there is none."""
    gc.collect()
    try:
        loop = TrainingLoop(case.config)
        loop.run()  # memory that only a running program needs
        return loop, ""
    except InsufficientMemoryError as error:
        return None, str(error)


def _time(
    loops: Sequence[tuple[Case, TrainingLoop]],
    limits: Limits,
    repeats: int,
    turn_s: float,
) -> Session:
    measured: list[Limit] = []
    timings, others = take_turns(
        [loop.run for _, loop in loops],
        repeats,
        turn_s,
        before_round=lambda: measured.append(limits.measure()),
    )
    timed = [
        TimedCase(case, loop.placement, loop.compile_s, loop.memory, timing)
        for (case, loop), timing in zip(loops, timings, strict=True)
    ]
    return Session(timed, measured, others)
