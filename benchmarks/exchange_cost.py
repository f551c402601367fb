"""The cost of an exchange round beside training, measured in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.programs import compile_program

STEPS_PER_ROUND = 10


def exchange_cost(
    peers: int, updates_per_step: int, repeats: int, config: TrainConfig
) -> dict[str, Any]:
    """Times one exchange round beside the steps between two rounds.

    One networked run in the pricing market, one round every ``STEPS_PER_ROUND``
    steps, all peers active. The two programs take turns, and medians are compared.

    Returns:
      Seconds of a round's steps (exchange included) and of its exchange alone,
      medians and ranges; ``added``: exchange over the steps without it; compile time.
    """
    loop = TrainingLoop(_sized(config, peers, updates_per_step))
    began = time.perf_counter()
    exchange = compile_program(loop.population.communicate, loop.arguments())
    compile_s = loop.compile_s + time.perf_counter() - began

    def timed(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - start

    times: dict[str, list[float]] = {"steps": [], "exchange": []}
    for index in range(repeats + 1):
        exchange_s = timed(lambda: exchange(*loop.arguments()))
        steps_s = timed(loop.run)
        if index:  # the first of each warms up
            times["exchange"].append(exchange_s)
            times["steps"].append(steps_s)
    steps_s, exchange_s = (statistics.median(times[name]) for name in times)
    return {
        "peers": peers,
        "updates_per_step": updates_per_step,
        "layout": loop.placement.layout,
        "devices": loop.placement.devices,
        "compile_s": round(compile_s, 2),
        "round_s": round(steps_s, 5),
        "round_range_s": [round(f(times["steps"]), 5) for f in (min, max)],
        "exchange_s": round(exchange_s, 6),
        "exchange_range_s": [round(f(times["exchange"]), 6) for f in (min, max)],
        "added": round(exchange_s / (steps_s - exchange_s), 4),
    }


def _sized(config: TrainConfig, peers: int, updates: int) -> TrainConfig:
    return replace(
        config,
        arms="network",
        steps=100 * STEPS_PER_ROUND,
        evaluate_every=STEPS_PER_ROUND,
        checkpoint_every=STEPS_PER_ROUND,
        population=replace(config.population, peers=peers),
        sac=replace(config.sac, updates_per_step=updates, learning_starts=1),
        exchange=replace(config.exchange, interval=STEPS_PER_ROUND),
    )
