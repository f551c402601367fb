"""The cost of an exchange round beside training, measured in one process."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.sizes import repeated_world
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.experiment.programs import compile_program

STEPS_PER_ROUND = 10


def exchange_cost(
    peers: int, updates_per_step: int, repeats: int, config: TrainConfig
) -> dict[str, Any]:
    """Times one exchange round beside the steps between two rounds.

    One networked run in the pricing market, one round every ``STEPS_PER_ROUND``
    steps, all peers active. The two programs take turns, and medians are compared.

    Args:
      peers: P; beyond 16 the stores repeat.
      updates_per_step: gradient updates in each step.
      repeats: timed rounds of each program.
      config: the rest of the configuration.

    Returns:
      Seconds of a round's steps (exchange included) and of its exchange alone,
      medians and ranges; ``added``: exchange over the steps without it; compile time.
    """
    config = _sized(config, peers, updates_per_step)
    placement = choose_placement(config)
    setup = build_experiment(config, placement, repeated_world(config))
    population, inputs = setup.population, (setup.peer_inputs, setup.run_inputs)
    began = time.perf_counter()
    state = compile_program(population.init, inputs)(*inputs)
    clock = jnp.asarray(0, jnp.int32)
    arguments = state, *inputs, clock
    chunk = compile_program(population.run_chunk, arguments)
    exchange = compile_program(population.communicate, arguments)
    compile_s = time.perf_counter() - began

    def run(program: Callable) -> tuple[float, Any]:
        start = time.perf_counter()
        result = jax.block_until_ready(program(state, *inputs, clock))
        return time.perf_counter() - start, result

    times: dict[str, list[float]] = {"steps": [], "exchange": []}
    for index in range(repeats + 1):
        clock = jnp.asarray(index * STEPS_PER_ROUND, jnp.int32)
        exchange_s, _ = run(exchange)
        steps_s, (state, _) = run(chunk)
        if index:  # the first of each warms up
            times["exchange"].append(exchange_s)
            times["steps"].append(steps_s)
    steps_s, exchange_s = (statistics.median(times[name]) for name in times)
    return {
        "peers": peers,
        "updates_per_step": updates_per_step,
        "layout": placement.layout,
        "devices": placement.devices,
        "compile_s": round(compile_s, 2),
        "round_s": round(steps_s, 5),
        "round_range_s": [round(f(times["steps"]), 5) for f in (min, max)],
        "exchange_s": round(exchange_s, 6),
        "exchange_range_s": [round(f(times["exchange"]), 6) for f in (min, max)],
        "added": round(exchange_s / (steps_s - exchange_s), 4),
    }


def _sized(config: TrainConfig, peers: int, updates: int) -> TrainConfig:
    return dataclasses.replace(
        config,
        arms="network",
        steps=100 * STEPS_PER_ROUND,
        evaluate_every=STEPS_PER_ROUND,
        checkpoint_every=STEPS_PER_ROUND,
        population=dataclasses.replace(config.population, peers=peers),
        sac=dataclasses.replace(
            config.sac, updates_per_step=updates, learning_starts=1
        ),
        exchange=dataclasses.replace(config.exchange, interval=STEPS_PER_ROUND),
    )
