"""Demand memory: Bayesian linear regression of log sales on price.

Log sales ``z = ln(q / usual units)`` of one step are ``θᵀx - σ²/2 + σ ε`` with
features ``x`` of the environment's demand model, the first of which is 1: ``θ``
describes the logarithm of *mean* demand. The statistics hold no noise variance, so
they add up whatever the noise turns out to be; it is estimated whenever a posterior is
computed. ``privacy.clipping`` bounds the weight of each step in them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import (
    CoefficientSpec,
    make_base_prior,
    own_price_index,
)
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.demand.base import MemoryModel, Posterior, PriceMemory
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

NOISE_STD = 0.45  # prior guess of the sd of log sales
NOISE_COUNT = 5.0  # real steps that guess is worth
NOISE_STEPS = 4  # fixed-point steps of the noise variance
MIN_SLOPE = 0.5  # a draw flatter than this would ask for an absurd price


# The state is the discounted statistics themselves.
DemandState = DemandStatistics


def make_demand_memory(coefficients: tuple[CoefficientSpec, ...]) -> PriceMemory:
    """Builds the memory of the coefficients that an environment describes.

    Raises:
      ConfigError: there are no coefficients.
    """
    if not coefficients:
        raise ConfigError(
            "memory.kind='demand' must be 'bins' or 'none' in an environment without"
            " a demand model"
        )
    base = make_base_prior(coefficients)
    size, prior_variance = base.size, np.diagonal(base.covariance)
    own_price = own_price_index(coefficients)

    def init() -> DemandState:
        zeros = jnp.zeros(size, jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return DemandState(jnp.outer(zeros, zeros), zeros, zero, zero)

    def summary(state: DemandState) -> DemandSummary:
        noise = posterior(state, base.prior).noise_variance
        precision, shift = _information(state, noise)
        return DemandSummary(precision, shift, state.n)

    def update(
        state: DemandState, experience: Experience, decay: Array, active: Array
    ) -> DemandState:
        """Adds one real step, clipped; older steps keep the weight ``decay`` each."""
        x, z = clip_record(experience.features, experience.log_sales, base.record_scale)
        new = DemandState(
            G=decay * state.G + jnp.outer(x, x),
            h=decay * state.h + x * z,
            yy=decay * state.yy + z**2,
            n=decay * state.n + 1.0,
        )
        return tree_where(active > 0, new, state)

    def exploration_bonus(
        belief: Posterior, candidates: Candidates, action: Array
    ) -> Array:
        distance = candidates.actions - jnp.expand_dims(action, 0)
        nearest = jnp.argmin(jnp.sum(distance**2, axis=-1))
        x = jnp.take(candidates.features, nearest, axis=0)
        variance = jnp.sum((x @ belief.factor) ** 2)
        return jnp.clip(jnp.sqrt(variance / jnp.sum(x**2 * prior_variance)), 0.0, 1.0)

    def draw_values(
        belief: Posterior, candidates: Candidates, key: Array, draws: int
    ) -> Array:
        """``[S, N]`` rewards under drawn demand curves, up to a positive factor."""
        noise = jax.random.normal(key, (draws, size))
        theta = jnp.expand_dims(belief.mean, 0) + noise @ belief.factor.T  # [S, F]
        if own_price:
            slope = sum(theta[:, index] for index in own_price)
            on_slope = np.eye(size, dtype=np.float32)[own_price[0]]
            theta = theta + jnp.outer(jnp.maximum(MIN_SLOPE - slope, 0.0), on_slope)
        log_demand = theta @ candidates.features.T
        # The largest exponent becomes 0: the ranking stays, nothing overflows.
        relative = log_demand - jnp.max(log_demand, axis=-1, keepdims=True)
        return jnp.expand_dims(candidates.gain, 0) * jnp.exp(relative)

    return PriceMemory(
        init=init,
        base_prior=base,
        update=update,
        posterior=posterior,
        summary=summary,
        statistics=lambda state: state,
        exploration_bonus=exploration_bonus,
        draw_values=draw_values,
        mean_values=mean_values,
        rewards=rewards,
        model=MemoryModel(
            prediction_error=prediction_error,
            mean_log_demand=mean_log_demand,
            std_log_demand=std_log_demand,
            sample_log_demand=sample_log_demand,
        ),
    )


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


def std_log_demand(belief: Posterior, features: Array) -> Array:
    """``√(xᵀVx)``, the posterior sd of ``θᵀx``: ``[..., F] -> [...]``."""
    return jnp.sqrt(jnp.sum((features @ belief.factor) ** 2, axis=-1))


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
    of sales is half a noise variance below the log of expected sales.

    Returns:
      ``[]``.
    """
    x = experience.features
    expected = x @ belief.mean - 0.5 * belief.noise_variance
    variance = jnp.sum((x @ belief.factor) ** 2) + belief.noise_variance
    return (experience.log_sales - expected) ** 2 / variance


def mean_values(belief: Posterior, candidates: Candidates) -> Array:
    """``[N]`` worth under the posterior mean curve, ``gain · exp(mᵀx)`` up to a factor.

    The mean of ``exp(θᵀx)`` is greater by ``exp(xᵀVx/2)``: left out here as in
    ``sample_log_demand``, or ignorance alone would ask for the highest price.
    """
    log_demand = mean_log_demand(belief, candidates.features)
    return candidates.gain * jnp.exp(log_demand - jnp.max(log_demand))


def rewards(belief: Posterior, candidates: Candidates) -> tuple[Array, Array, Array]:
    """Mean and sd of a log-normal demand's rewards, and evidence: ``[N]`` each."""
    variance = jnp.sum((candidates.features @ belief.factor) ** 2, axis=-1)
    mean = candidates.gain * jnp.exp(mean_log_demand(belief, candidates.features))
    std = jnp.abs(mean) * jnp.sqrt(jnp.expm1(variance))
    return mean, std, belief.noise_variance / jnp.maximum(variance, 1e-9)
