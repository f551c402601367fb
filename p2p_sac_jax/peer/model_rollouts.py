"""Model rollouts: predicted outcomes of other prices, from the memory's posterior.

Each real week teaches the learner about every price. The stored season, cost and
rival of a real transition stay; another price is charged, and the demand posterior
predicts what would have sold. The network's knowledge enters as the prior of that
posterior, so it teaches the learner without any bias in the Bellman target.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.demand.base import MemoryModel, Posterior
from p2p_sac_jax.environments.base import DemandModel
from p2p_sac_jax.hyper import MemoryHyper, ModelRolloutsHyper
from p2p_sac_jax.tree import half_life_decay
from p2p_sac_jax.types import Array, Transition

# A calibrated memory's standardised squared error averages 1. Above this the
# posterior is wrong about real weeks, and the share falls in proportion.
ERROR_TOLERANCE = 2.0


def model_rollout_share(
    hyper: ModelRolloutsHyper, steps: Array, normalised_error: Array
) -> Array:
    """Share of imagined rows in the learner's batches.

    Args:
      hyper: base share and the number of own steps that halves it (0: never).
      steps: [] own real steps so far.
      normalised_error: [] moving average of the memory's standardised squared error.

    Returns:
      [] in [0, fraction].
    """
    left = half_life_decay(hyper.half_life, steps)
    return hyper.fraction * left * _trusted(normalised_error)


def model_blend_weight(
    hyper: MemoryHyper, steps: Array, normalised_error: Array
) -> Array:
    """How far the policy's price is moved to the one that the memory thinks best.

    Args:
      hyper: own steps that halve the share, from all of it at first (0: none ever).
      steps: [] own real steps so far.
      normalised_error: [] moving average of the memory's standardised squared error.

    Returns:
      [] in [0, 1].
    """
    left = half_life_decay(hyper.model_blend_half_life, steps, never=0.0)
    return left * _trusted(normalised_error)


def _trusted(normalised_error: Array) -> Array:
    return ERROR_TOLERANCE / jnp.maximum(normalised_error, ERROR_TOLERANCE)


class BelievedMarket(NamedTuple):
    """The market of one peer as its memory believes it to be."""

    demand: DemandModel  # of the environment; static
    model: MemoryModel  # predictions of the memory; static
    belief: Posterior
    params: Any  # environment parameters of the peer


def model_rollout(
    market: BelievedMarket, rows: Transition, expected: Array, key: Array
) -> Transition:
    """Replaces every row's action by a uniform one, and its outcome to match.

    Demand coefficients are drawn per row and corrected by half their log variance,
    so that the mean of the predicted demand does not grow with ignorance.

    Args:
      market: what is believed of this peer's market.
      rows: [M, ...] transitions that happened.
      expected: [M] log demand the belief expected of the actions that happened.
      key: typed key.

    Returns:
      [M, ...] transitions that did not happen.
    """
    # One draw for both; the normal's distribution function makes a number uniform.
    dims = rows.action.shape[-1]
    noise = jax.random.normal(key, (rows.action.shape[0], dims + 1))
    action = jax.lax.erf(noise[:, :dims] / math.sqrt(2.0))
    features = jax.vmap(market.demand.features)(rows.obs, action)
    log_demand = market.model.sample_log_demand(market.belief, features, noise[:, dims])
    counterfactual = jax.vmap(market.demand.counterfactual, (0, 0, 0, 0, None))
    return counterfactual(rows, action, log_demand, expected, market.params)


def mix_model_rollouts(
    market: BelievedMarket, rows: Transition, share: Array, batch_size: int, key: Array
) -> Transition:
    """Makes the first ``share`` of every batch of ``rows`` model rollouts.

    Args:
      market: what is believed of this peer's market.
      rows: [M, ...] real transitions, M a multiple of ``batch_size``.
      share: [] in [0, 1]; at 0 the rows come back untouched, bit for bit.
      batch_size: rows per update.
      key: typed key.

    Returns:
      [M, ...] transitions.
    """
    happened = jax.vmap(market.demand.features)(rows.obs, rows.action)
    expected = market.model.mean_log_demand(market.belief, happened)
    predicted = model_rollout(market, rows, expected, key)
    place = (jnp.arange(rows.reward.shape[0]) % batch_size) / batch_size
    chosen = place < share

    def choose(rollout: Array, real: Array) -> Array:
        mask = chosen.reshape(chosen.shape + (1,) * (real.ndim - 1))
        return jnp.where(mask, rollout, real)

    return jax.tree.map(choose, predicted, rows)


def pretrain_rows(market: BelievedMarket, count: int, key: Array) -> Transition:
    """``count`` predicted transitions [count, ...] for a peer without data.

    The weeks are exogenous ones that anybody can observe without selling; what
    would have sold comes from the belief alone.
    """
    week_key, rollout_key = jax.random.split(key)
    weeks = jax.vmap(market.demand.exogenous, (0, None))(
        jax.random.split(week_key, count), market.params
    )
    # The placeholder weeks sold the usual amount, just as expected: no shock.
    expected = jnp.zeros_like(weeks.reward)
    return model_rollout(market, weeks, expected, rollout_key)
