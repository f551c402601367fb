"""What is timed: two sizes of one networked run, and enough stores for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.environments.registry import World, make_world
from p2p_sac_jax.validation import validate

_STORES = 16  # real stores, repeated until there are enough peers
# A chunk is what one call of the compiled program does: about as many updates as
# this, so that calls of small populations are not all overhead.
_UPDATES_PER_CHUNK = 256
_CHUNKS = 10_000  # nominal length of the run; no timed loop gets there


SIZES: dict[str, dict[str, Any]] = {
    # Pendulum with the networks and batches that SAC is usually timed with.
    "standard": {
        "environment.name": "pendulum",
        "environment.seconds_per_step": 0.05,
        "sac.batch_size": 256,
        "sac.hidden": 256,
        "sac.discount": 0.99,
        "memory.kind": "none",
        "model_rollouts.fraction": 0.0,
        "exploration.source": "policy",
    },
    # The pricing market with its small networks, price memory and model rollouts.
    "market": {"sac.batch_size": 64, "sac.hidden": 64},
}


def sized_config(
    size: str,
    peers: int,
    *,
    layout: str = "auto",
    exchange_every: int = 16,
    replay: int = 10_000,
    updates_per_step: int = 1,
) -> TrainConfig:
    """A configuration to be timed: one networked run, learning from its first step.

    Args:
      size: "standard" (pendulum, batch 256, hidden 256) or "market" (pricing, batch
        64, hidden 64, default memory and model rollouts).
      peers: P; beyond 16 the stores of the market repeat, see ``repeated_world``.
      layout: as in ``TrainConfig``.
      exchange_every: steps between two rounds of the exchange.
      replay: transitions each peer keeps.
      updates_per_step: gradient updates in each environment step.

    Returns:
      A validated configuration whose ``evaluate_every`` is one chunk.

    Raises:
      ConfigError: an argument is out of range.
    """
    if size not in SIZES:
        raise ConfigError(f"size={size!r} must be one of {', '.join(SIZES)}")
    per_round = max(1, exchange_every * peers * updates_per_step)
    chunk = exchange_every * max(1, _UPDATES_PER_CHUNK // per_round)
    config = replace_fields(
        TrainConfig(),
        SIZES[size]
        | {
            "arms": "network",
            "steps": _CHUNKS * chunk,
            "evaluate_every": chunk,
            "checkpoint_every": chunk,
            "evaluation_weeks": 2,  # nothing here evaluates
            "layout": layout,
            "population.peers": peers,
            "sac.updates_per_step": updates_per_step,
            "sac.replay_capacity": replay,
            "sac.learning_starts": 1,
            "exchange.interval": exchange_every,
        },
    )
    validate(config)
    return config


def repeated_world(config: TrainConfig) -> World:
    """The peers' world; beyond 16 stores of the market, the same stores again."""
    peers = config.population.peers
    if config.environment.name != "pricing" or peers <= _STORES:
        return make_world(config.environment, config.population)
    population = dataclasses.replace(config.population, peers=_STORES)
    world = make_world(config.environment, population)
    repeated = np.arange(peers) % _STORES
    return World(
        environment=world.environment,
        params=jax.tree.map(lambda leaf: np.asarray(leaf)[repeated], world.params),
        names=[world.names[store] for store in repeated],
        context=world.context[repeated],
    )
