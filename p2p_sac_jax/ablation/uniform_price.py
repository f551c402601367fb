"""The best constant price of each peer, a baseline without learning.

It is between the historical price and the oracle, whose price moves with season,
cost and rival price.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.environments.registry import World
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.types import Array

EPISODES = 128  # over which the market's noise is averaged, the same for all prices
NUM_ACTIONS = 41  # of the grid over [-1, 1], and of the one between its neighbours


def best_uniform_price(
    world: World, weeks: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The best constant price of each peer, and its share of the oracle's profit.

    The best of a grid of actions, then of a second one between the neighbours of the
    first grid's best, where profit has a single peak.

    Args:
      world: a market and its P peers.
      weeks: of an episode, which begins with ``reset``.
      seed: of the episodes' noise.

    Returns:
      Price [P] relative to the usual one, and expected profit [P] over the oracle's.

    Raises:
      ConfigError: the world sells nothing.
    """
    environment = world.environment
    if environment.demand is None:
        raise ConfigError("a best uniform price needs environment.name='pricing'")
    peers = jnp.arange(len(world.names))
    search = jax.jit(jax.vmap(partial(_search, environment, weeks), (0, 0, None)))
    price, achieved, oracle = search(world.params, peers, jnp.asarray(seed))
    return np.asarray(price), np.asarray(oracle_fraction(achieved, oracle))


def _search(
    environment: Environment, weeks: int, params: Any, peer: Array, seed: Array
) -> tuple[Array, Array, Array]:
    """Price, profit and the oracle's profit [] of one peer, means over all weeks."""
    key = jax.random.fold_in(jax.random.key(seed), peer)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(EPISODES))

    def mean_profit(action: Array) -> tuple[Array, Array, Array]:
        """Price, mean profit and the oracle's [] of one action [] every week."""
        episode = partial(_episode, environment, weeks, params, action)
        return jax.tree.map(jnp.mean, jax.vmap(episode)(keys))

    def best(actions: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        outcomes = jax.vmap(mean_profit)(actions)
        index = jnp.argmax(outcomes[1])
        return actions[index], jax.tree.map(lambda leaf: leaf[index], outcomes)

    coarse = jnp.linspace(-1.0, 1.0, NUM_ACTIONS)
    centre, _ = best(coarse)
    fine = centre + coarse * (coarse[1] - coarse[0])
    _, outcome = best(jnp.clip(fine, -1.0, 1.0))
    return outcome


def _episode(
    environment: Environment, weeks: int, params: Any, action: Array, key: Array
) -> tuple[Array, Array, Array]:
    """Price, profit and the oracle's profit of every week, [weeks] each."""
    state, _ = environment.reset(jax.random.fold_in(key, 0), params)

    def week(state: Any, number: Array) -> tuple[Any, tuple[Array, Array, Array]]:
        key_week = jax.random.fold_in(key, number)
        step = environment.step(key_week, state, action[None], params)
        score = environment.score(step.info)
        return step.state, (step.info.price, score.achieved, score.oracle)

    _, outcome = jax.lax.scan(week, state, 1 + jnp.arange(weeks))
    return outcome
