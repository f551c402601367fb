"""The cost of an exchange round beside training, measured in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.bench_results import summary
from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import replace_fields
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
    sized = {
        "arms": "network",
        "steps": 100 * STEPS_PER_ROUND,
        "evaluate_every": STEPS_PER_ROUND,
        "checkpoint_every": STEPS_PER_ROUND,
        "population.peers": peers,
        "sac.updates_per_step": updates_per_step,
        "sac.learning_starts": 1,
        "exchange.interval": STEPS_PER_ROUND,
    }
    loop = TrainingLoop(replace_fields(config, sized))
    began = time.perf_counter()
    exchange = compile_program(loop.population.communicate, loop.arguments())
    compile_s = loop.compile_s + time.perf_counter() - began

    def timed(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - start

    steps, rounds = [], []
    for _ in range(repeats + 1):
        rounds.append(timed(lambda: exchange(*loop.arguments())))
        steps.append(timed(loop.run))
    steps_s, exchange_s = summary(steps[1:], 5), summary(rounds[1:], 6)  # warm
    alone_s = steps_s["median"] - exchange_s["median"]
    return {
        "peers": peers,
        "updates_per_step": updates_per_step,
        "layout": loop.placement.layout,
        "devices": loop.placement.devices,
        "compile_s": round(compile_s, 2),
        "round_s": steps_s,
        "exchange_s": exchange_s,
        "added": round(exchange_s["median"] / alone_s, 4),
    }
