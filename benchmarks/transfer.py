"""Policies in held-out stores, before the first week of those stores.

A store can open with another store's policy, or with one pretrained on the network's
demand model. Both are compared with trained policies in their own stores.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment.build import Experiment, build_experiment
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.experiment.programs import compile_programs, train_chunk
from p2p_sac_jax.simulation.population import PeerInputs
from p2p_sac_jax.validation import validate

ARMS = "memory,network"


def transfer(config: TrainConfig) -> list[dict[str, Any]]:
    """Trains until newcomers join, and evaluates all peers before the newcomers act.

    Args:
      config: ``population.newcomers`` held-out stores join at ``join_step``; its arms
        must be ``ARMS``.

    Returns:
      A row for each seed, with shares of the oracle's profit:

      - ``memory_own``: policies of isolated stores in their own markets;
      - ``memory_held_out``: the same in held-out markets, mean over all pairs;
      - ``network_own``: policies of networked stores in their own markets;
      - ``network_held_out``: newcomers in held-out markets, pretrained;
      - ``historical_held_out``: the historical price in held-out markets.

    Raises:
      ConfigError: no store joins late, or the arms are others.
    """
    validate(config)
    joins = config.population.join_step
    if not config.population.newcomers or not joins:
        raise ConfigError(
            f"population.newcomers={config.population.newcomers} must be at least 1"
            " and join late: they are the held-out stores"
        )
    if config.arms != ARMS:
        raise ConfigError(f"arms={config.arms!r} must be {ARMS!r}")
    setup = build_experiment(config, choose_placement(config))
    state, programs = compile_programs(setup)
    for step in range(0, joins, config.evaluate_every):
        state, _ = train_chunk(setup, programs, state, step)
    inputs = setup.run_inputs, jnp.asarray(joins, jnp.int32)
    state = programs.pretrain_on_model(state, setup.peer_inputs, *inputs)
    own, historical = _fractions(programs.evaluate(state, setup.peer_inputs, *inputs))
    peers = config.population.peers
    trained = slice(0, peers - config.population.newcomers)
    newcomers = range(trained.stop, peers)
    held_out = [
        _fractions(programs.evaluate(state, _all_in_market(setup, store), *inputs))[0]
        for store in newcomers
    ]
    by_arm = np.array([arm for arm, _ in setup.labels])
    memory, network = by_arm == "memory", by_arm == "network"
    elsewhere = np.mean([score[trained] for score in held_out], axis=(0, 1))  # [R]
    columns = {
        "seed": [seed for arm, seed in setup.labels if arm == "memory"],
        "memory_own": own[trained, memory].mean(axis=0),
        "memory_held_out": elsewhere[memory],
        "network_own": own[trained, network].mean(axis=0),
        "network_held_out": own[newcomers][:, network].mean(axis=0),
        "historical_held_out": historical[newcomers][:, network].mean(axis=0),
    }
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _fractions(evaluation: Any) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the oracle's profit [P, R]: the policy's, the historical price's."""
    achieved, oracle, historical = (np.asarray(leaf) for leaf in evaluation.score)
    return oracle_fraction(achieved, oracle), oracle_fraction(historical, oracle)


def _all_in_market(setup: Experiment, store: int) -> PeerInputs:
    """All peers, each with its own policy, in the market of one of them."""

    def placed(leaf: jax.Array) -> jax.Array:
        there = np.broadcast_to(np.asarray(leaf)[store], leaf.shape)
        return jax.device_put(there, leaf.sharding)

    peer_inputs = setup.peer_inputs
    return peer_inputs._replace(params=jax.tree.map(placed, peer_inputs.params))
