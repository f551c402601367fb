"""Demand memory: Bayesian linear regression of log sales on price.

Log sales ``z = ln(q / usual units)`` of one step are ``θᵀx - σ²/2 + σ ε`` with
features ``x = [1, -(p-1), (-(p-r)), y, cos, sin]``: ``θ`` describes the logarithm of
*mean* demand. The statistics hold no noise variance, so they add up whatever the
noise turns out to be; it is estimated whenever a posterior is asked for. No step
weighs more in them than ``records`` allows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.demand.base import (
    REGION_DRAWS,
    STD_DRAWS,
    Posterior,
    PriceMemory,
    Regions,
    distance_to_best,
    rank_regions,
)
from p2p_sac_jax.linalg import cholesky, spd_inverse
from p2p_sac_jax.privacy.clipping import clip_record
from p2p_sac_jax.tree import tree_where
from p2p_sac_jax.types import (
    Array,
    Candidates,
    DemandStatistics,
    DemandSummary,
    Experience,
    Prior,
)

# Base prior by coefficient: level, slope, (reference price), rival, cos, sin.
_PRIOR_MEAN = (0.0, 2.0, 0.0, 0.0, 0.0, 0.0)
_PRIOR_STD = (1.0, 2.0, 0.5, 1.0, 0.3, 0.3)
_REFERENCE = 2  # the coefficient left out where there is no reference effect

NOISE_STD = 0.45  # prior guess of the sd of log sales
NOISE_COUNT = 5.0  # real steps that guess is worth
NOISE_STEPS = 4  # fixed-point steps of the noise variance
MIN_SLOPE = 0.5  # a draw flatter than this would ask for an absurd price


# The state is the discounted statistics themselves.
DemandState = DemandStatistics


def make_demand_memory(num_features: int) -> PriceMemory:
    """Builds the memory for 5 features, or 6 with a reference price.

    Raises:
      ConfigError: any other number of features.
    """
    prior = base_prior(num_features)
    prior_variance = np.diagonal(prior.covariance)

    def init() -> DemandState:
        zeros = jnp.zeros(num_features, jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return DemandState(jnp.outer(zeros, zeros), zeros, zero, zero)

    def summary(state: DemandState) -> DemandSummary:
        noise = posterior(state, prior).noise_variance
        precision, shift = _information(state, noise)
        return DemandSummary(precision, shift, state.n)

    def exploration_bonus(
        belief: Posterior, candidates: Candidates, action: Array
    ) -> Array:
        distance = candidates.actions - jnp.expand_dims(action, 0)
        nearest = jnp.argmin(jnp.sum(distance**2, axis=-1))
        x = jnp.take(candidates.features, nearest, axis=0)
        variance = jnp.sum((x @ belief.factor) ** 2)
        return jnp.clip(jnp.sqrt(variance / jnp.sum(x**2 * prior_variance)), 0.0, 1.0)

    return PriceMemory(
        init=init,
        base_prior=prior,
        update=update,
        posterior=posterior,
        summary=summary,
        statistics=lambda state: state,
        exploration_bonus=exploration_bonus,
        optimal_exploration_std=optimal_exploration_std,
        promising_regions=promising_regions,
    )


def base_prior(num_features: int) -> Prior:
    """Prior of a peer that knows nothing, NumPy leaves ``[F]`` and ``[F, F]``.

    Raises:
      ConfigError: ``num_features`` is neither 5 nor 6.
    """
    if num_features not in (5, 6):
        raise ConfigError(
            f"num_features={num_features} of a demand memory must be 5, or 6 with a"
            " reference price"
        )
    keep = [i for i in range(6) if num_features == 6 or i != _REFERENCE]
    std = np.asarray(_PRIOR_STD, np.float32)[keep]
    return Prior(np.asarray(_PRIOR_MEAN, np.float32)[keep], np.diag(std**2))


def update(
    state: DemandState, experience: Experience, decay: Array, active: Array
) -> DemandState:
    """Adds one real step, clipped; older steps keep the weight ``decay`` each time.

    Args:
      state: statistics so far.
      experience: ``features`` ``[F]`` and ``log_sales`` ``[]`` are read.
      decay: ``[]`` in (0, 1], 1 forgets nothing.
      active: ``[]`` 1 to learn, 0 to leave the state as it is.
    """
    x, z = clip_record(experience.features, experience.log_sales)
    new = DemandState(
        G=decay * state.G + jnp.outer(x, x),
        h=decay * state.h + x * z,
        yy=decay * state.yy + z**2,
        n=decay * state.n + 1.0,
    )
    return tree_where(active > 0, new, state)


def posterior(state: DemandState, prior: Prior) -> Posterior:
    """Gaussian posterior of the coefficients with the noise variance plugged in.

    ``V = (P0 + G/σ²)⁻¹``, ``m = V (P0 μ0 + (h + σ²/2 G₀)/σ²)``; ``σ²`` is the fixed
    point of its expected value under an inverse-gamma-like prior (type-II maximum
    likelihood with the posterior's own spread counted in, MacKay 1992).

    Args:
      state: own statistics.
      prior: mean ``[F]`` and covariance ``[F, F]``.
    """
    prior_precision = spd_inverse(jnp.asarray(prior.covariance))
    prior_shift = prior_precision @ prior.mean
    intercept = np.eye(state.h.shape[0], dtype=np.float32)[0]

    def step(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        noise = carry[0]
        precision, shift = _information(state, noise)
        covariance = spd_inverse(prior_precision + precision)
        mean = covariance @ (prior_shift + shift)
        centre = mean - 0.5 * noise * intercept
        fit = state.yy - 2.0 * centre @ state.h + centre @ state.G @ centre
        residual = jnp.maximum(fit + jnp.sum(state.G * covariance), 0.0)
        guess = NOISE_COUNT * NOISE_STD**2
        return (guess + residual) / (NOISE_COUNT + state.n), noise, mean, covariance

    start = jnp.asarray(NOISE_STD**2, jnp.float32)
    carry = (start, start, jnp.asarray(prior.mean), jnp.asarray(prior.covariance))
    # One pass more than the noise needs: mean and covariance belong to its last value.
    _, noise, mean, covariance = jax.lax.fori_loop(0, NOISE_STEPS + 1, step, carry)
    return Posterior(mean, covariance, noise, cholesky(covariance))


def _information(state: DemandState, noise_variance: Array) -> tuple[Array, Array]:
    """Precision ``S`` and shift ``b`` that the data add to any prior."""
    precision = state.G / noise_variance
    return precision, state.h / noise_variance + 0.5 * state.G[:, 0]


def mean_log_demand(belief: Posterior, features: Array) -> Array:
    """``mᵀx``, the expected log of demand over usual units: ``[..., F] -> [...]``."""
    return features @ belief.mean


def sample_log_demand(belief: Posterior, features: Array, noise: Array) -> Array:
    """``θᵀx - xᵀVx/2`` for a draw ``θ ~ N(m, V)`` of its own for every ``x``.

    Of such a draw only ``θᵀx ~ N(mᵀx, xᵀVx)`` matters, so one normal number is
    enough. The correction keeps the mean of the exponential at ``exp(mᵀx)``; without
    it ignorance alone would promise sales, and most at the highest price.

    Args:
      belief: posterior of one peer.
      features: ``[..., F]``.
      noise: ``[...]`` standard normal.

    Returns:
      ``[...]`` ln(units / usual units), unclipped.
    """
    variance = jnp.sum((features @ belief.factor) ** 2, axis=-1)
    return features @ belief.mean + jnp.sqrt(variance) * noise - 0.5 * variance


def prediction_error(belief: Posterior, experience: Experience) -> Array:
    """Squared error of a step not yet learned over its predicted variance.

    About 1 on average where the memory knows what it does not know. The expected log
    of sales lies half a noise variance below the log of expected sales.

    Returns:
      ``[]``.
    """
    x = experience.features
    expected = x @ belief.mean - 0.5 * belief.noise_variance
    variance = jnp.sum((x @ belief.factor) ** 2) + belief.noise_variance
    return (experience.log_sales - expected) ** 2 / variance


def optimal_exploration_std(
    belief: Posterior, candidates: Candidates, action: Array, key: Array
) -> Array:
    """How far the best price may be from ``action``, see ``distance_to_best``."""
    values = _draw_values(belief, candidates, key, STD_DRAWS)
    return distance_to_best(values, candidates, action)


def promising_regions(belief: Posterior, candidates: Candidates, key: Array) -> Regions:
    """Regions by Thompson sampling; mean and sd are those of a log-normal demand."""
    values = _draw_values(belief, candidates, key, REGION_DRAWS)
    variance = jnp.sum((candidates.features @ belief.factor) ** 2, axis=-1)  # [N]
    mean = candidates.gain * jnp.exp(mean_log_demand(belief, candidates.features))
    std = jnp.abs(mean) * jnp.sqrt(jnp.expm1(variance))
    count = belief.noise_variance / jnp.maximum(variance, 1e-9)
    return rank_regions(values, candidates, mean, std, count)


def draw_best_actions(
    belief: Posterior, candidates: Candidates, key: Array, draws: int
) -> Array:
    """``[S, A]`` best candidate under each of ``draws`` demand curves (Thompson)."""
    values = _draw_values(belief, candidates, key, draws)
    return candidates.actions[jnp.argmax(values, axis=-1)]


def best_action(belief: Posterior, candidates: Candidates) -> Array:
    """``[A]`` best candidate under the posterior mean curve, ``gain · exp(mᵀx)``.

    The mean of ``exp(θᵀx)`` is greater by ``exp(xᵀVx/2)``: left out here as in
    ``sample_log_demand``, or ignorance alone would ask for the highest price.
    """
    log_demand = mean_log_demand(belief, candidates.features)
    value = candidates.gain * jnp.exp(log_demand - jnp.max(log_demand))
    return candidates.actions[jnp.argmax(value)]


def _draw_values(
    belief: Posterior, candidates: Candidates, key: Array, draws: int
) -> Array:
    """``[S, N]`` rewards under drawn demand curves, each up to a positive factor."""
    size = belief.mean.shape[0]
    noise = jax.random.normal(key, (draws, size))
    theta = jnp.expand_dims(belief.mean, 0) + noise @ belief.factor.T  # [S, F]
    slope = theta[:, 1] + (theta[:, _REFERENCE] if size == 6 else 0.0)
    on_slope = np.eye(size, dtype=np.float32)[1]
    theta = theta + jnp.outer(jnp.maximum(MIN_SLOPE - slope, 0.0), on_slope)
    log_demand = theta @ candidates.features.T
    # The largest exponent becomes 0: the ranking stays, nothing overflows.
    relative = log_demand - jnp.max(log_demand, axis=-1, keepdims=True)
    return jnp.expand_dims(candidates.gain, 0) * jnp.exp(relative)
