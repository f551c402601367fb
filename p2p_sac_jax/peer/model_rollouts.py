"""Imagined prices: the price memory as a world model of one peer.

Each real week teaches every price. The stored season, cost and rival of a real
transition stay; another price is charged, and the demand posterior says what
would have sold. The network's knowledge enters as the prior of that posterior,
so it teaches the learner without any bias in the Bellman target.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.demand import posterior as demand
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


def model_rollout(
    model: DemandModel,
    posterior: demand.Posterior,
    rows: Transition,
    expected: Array,
    params: Any,
    key: Array,
) -> Transition:
    """Replaces every row's action by a uniform one, and its outcome to match.

    Demand coefficients are drawn per row and corrected by half their log variance,
    so that the mean of the imagined demand does not grow with ignorance.

    Args:
      model: how demand arises in this environment.
      posterior: belief about this peer's demand.
      rows: [M, ...] transitions that happened.
      expected: [M] log demand the belief expected of the actions that happened.
      params: environment parameters of this peer.
      key: typed key.

    Returns:
      [M, ...] transitions that did not happen.
    """
    # One draw for both; the normal's distribution function makes a number uniform.
    dims = rows.action.shape[-1]
    noise = jax.random.normal(key, (rows.action.shape[0], dims + 1))
    action = jax.lax.erf(noise[:, :dims] / math.sqrt(2.0))
    features = jax.vmap(model.features)(rows.obs, action)
    log_demand = demand.sample_log_demand(posterior, features, noise[:, dims])
    counterfactual = jax.vmap(model.counterfactual, (0, 0, 0, 0, None))
    return counterfactual(rows, action, log_demand, expected, params)


def mix_model_rollouts(
    model: DemandModel,
    posterior: demand.Posterior,
    rows: Transition,
    share: Array,
    batch_size: int,
    params: Any,
    key: Array,
) -> Transition:
    """Makes the first ``share`` of every batch of ``rows`` imaginary.

    Args:
      model: how demand arises in this environment.
      posterior: belief about this peer's demand.
      rows: [M, ...] real transitions, M a multiple of ``batch_size``.
      share: [] in [0, 1]; at 0 the rows come back untouched, bit for bit.
      batch_size: rows per update.
      params: environment parameters of this peer.
      key: typed key.

    Returns:
      [M, ...] transitions.
    """
    happened = jax.vmap(model.features)(rows.obs, rows.action)
    expected = demand.mean_log_demand(posterior, happened)
    imagined = model_rollout(model, posterior, rows, expected, params, key)
    place = (jnp.arange(rows.reward.shape[0]) % batch_size) / batch_size
    chosen = place < share

    def choose(fiction: Array, fact: Array) -> Array:
        mask = chosen.reshape(chosen.shape + (1,) * (fact.ndim - 1))
        return jnp.where(mask, fiction, fact)

    return jax.tree.map(choose, imagined, rows)


def pretrain_rows(
    model: DemandModel,
    posterior: demand.Posterior,
    count: int,
    params: Any,
    key: Array,
) -> Transition:
    """``count`` imagined transitions [count, ...] for a peer without a past.

    The weeks are exogenous ones that anybody can observe without selling; what
    would have sold comes from the belief alone.
    """
    week_key, imagine_key = jax.random.split(key)
    weeks = jax.vmap(model.exogenous, (0, None))(
        jax.random.split(week_key, count), params
    )
    # The placeholder weeks sold the usual amount, just as expected: no shock.
    expected = jnp.zeros_like(weeks.reward)
    return model_rollout(model, posterior, weeks, expected, params, imagine_key)
