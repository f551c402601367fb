"""Demand data of neighbours: pooled as own data, or learned as a prior.

Weights ``[I, J]`` are receivers by senders. A sender's statistics are its own data
alone, so one hop moves every observation exactly once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.linalg import spd_inverse
from p2p_sac_jax.types import Array, DemandSummary, Prior

EM_STEPS = 8
_BLOCK = 32  # receivers whose pairs with all senders are held at once
SPREAD_COUNT = 4.0  # neighbours that the prior guess of the spread is worth
SPREAD_CAP = 0.5  # of the base prior's variance
# A learned mean stays within so many base standard deviations: honest peers come
# nowhere near, and no message moves it so far that own data no longer fit.
PRIOR_REACH = 5.0


def pooled_prior(
    weights: Array, summaries: DemandSummary, base: BasePrior
) -> tuple[Prior, Array]:
    """Posterior of the base prior and all neighbours' data: right if all are alike.

    Args:
      weights: ``[I, J]`` in [0, 1], zero from a peer to itself.
      summaries: leaves ``[J, ...]``.
      base: prior of a peer that knows nothing, ``[F]`` and ``[F, F]``.

    Returns:
      ``Prior`` with leaves ``[I, ...]`` and ``has_prior`` ``[I]``; the base prior to
      the bit, and 0, where no neighbour has data.
    """
    precision = jnp.einsum("ij,jfg->ifg", weights, summaries.precision)
    shift = jnp.einsum("ij,jf->if", weights, summaries.shift)
    base_precision = spd_inverse(jnp.asarray(base.covariance))
    covariance = spd_inverse(base_precision[None] + precision)
    base_shift = base_precision @ base.mean
    mean = jnp.einsum("ifg,ig->if", covariance, base_shift[None] + shift)
    return _or_base(Prior(mean, covariance), _with_data(weights, summaries), base)


def neighbour_prior(
    weights: Array, summaries: DemandSummary, base: BasePrior
) -> tuple[Prior, Array]:
    """Learns from neighbours what peers are like: an empirical-Bayes prior.

    Coefficients of the peers are draws of ``N(μ, T)``, ``T`` diagonal. Neighbour
    ``j`` with own information ``S_j, b_j`` informs ``μ`` with precision
    ``M_j = (I + S_j T)⁻¹ S_j``, on top of ``H = (P0⁻¹ - T)⁻¹`` of the base prior; a
    newcomer's prior is the estimate of ``μ`` widened by ``T``. ``T`` itself comes from
    ``EM_STEPS`` of EM. With ``A_j = (S_j + T⁻¹)⁻¹`` one inverse a pair does it all:
    ``M_j = T⁻¹ A_j S_j``, and ``A_j`` is the covariance of ``θ_j``. (Random-effects
    model, Laird & Ware 1982.)

    Args:
      weights: ``[I, J]`` in [0, 1], zero from a peer to itself.
      summaries: leaves ``[J, ...]``.
      base: prior of a peer that knows nothing, ``[F]`` and a *diagonal* ``[F, F]``.

    Returns:
      ``Prior`` with leaves ``[I, ...]`` and ``has_prior`` ``[I]``; the base prior to
      the bit, and 0, where no neighbour has data. A memory without demand coefficients
      (``F = 0``) always gets its base prior.
    """
    received = _with_data(weights, summaries)
    if base.size == 0:
        return _or_base(_repeat(base, weights.shape[0]), 0.0 * received, base)
    receivers = weights.shape[0]
    if receivers <= _BLOCK:
        return _or_base(_random_effects(received, summaries, base), received, base)
    # A block at a time, so that memory grows with J and not with I J.
    blocks = -(-receivers // _BLOCK)
    rows = jnp.pad(received, ((0, blocks * _BLOCK - receivers), (0, 0)))
    learned = jax.lax.map(
        lambda block: _random_effects(block, summaries, base),
        rows.reshape(blocks, _BLOCK, -1),
    )
    learned = jax.tree.map(
        lambda x: x.reshape(blocks * _BLOCK, *x.shape[2:])[:receivers], learned
    )
    return _or_base(learned, received, base)


def _random_effects(
    received: Array, summaries: DemandSummary, base: BasePrior
) -> Prior:
    """The learned prior of some receivers, of weights ``[I, J]``, by EM."""
    guess, floor = base.spread, base.spread_floor
    base_variance = jnp.diagonal(jnp.asarray(base.covariance))  # [F]
    cap = SPREAD_CAP * base_variance
    mass = jnp.expand_dims(jnp.sum(received, axis=-1), -1)  # [I, 1]

    def step(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        spread = carry[0]  # [I, F] diagonal of T
        inverse = 1.0 / spread
        A = spd_inverse(summaries.precision[None] + _diagonal(inverse)[:, None])
        H = 1.0 / (base_variance[None] - spread)  # [I, F]
        M = jnp.einsum("ij,ijfg,jgh->ifh", received, A, summaries.precision)
        M = jnp.expand_dims(inverse, -1) * M
        evidence = inverse * jnp.einsum("ij,ijfg,jg->if", received, A, summaries.shift)
        uncertainty = spd_inverse(_diagonal(H) + 0.5 * (M + jnp.swapaxes(M, -1, -2)))
        mean = jnp.einsum("ifg,ig->if", uncertainty, H * base.mean[None] + evidence)
        # Each neighbour's own posterior under (μ, T) shows how peers differ.
        shift = summaries.shift[None] + (inverse * mean)[:, None]  # [I, J, F]
        gap = jnp.einsum("ijfg,ijg->ijf", A, shift) - mean[:, None]
        variance = jnp.diagonal(A, axis1=-2, axis2=-1)
        total = jnp.einsum("ij,ijf->if", received, gap**2 + variance)
        updated = (SPREAD_COUNT * guess[None] + total) / (SPREAD_COUNT + mass)
        updated = jnp.clip(updated, floor[None], cap[None])
        return updated, spread, mean, uncertainty

    start = jnp.broadcast_to(
        jnp.clip(guess, floor, cap), (received.shape[0], base.size)
    )
    carry = (start, start, start, _diagonal(start))
    # One pass more than EM needs: mean and uncertainty belong to its last spread.
    _, spread, mean, uncertainty = jax.lax.fori_loop(0, EM_STEPS + 1, step, carry)
    return Prior(mean, _diagonal(spread) + uncertainty)


def mean_prior(
    weights: Array, summaries: DemandSummary, base: BasePrior, *, min_peers: int
) -> tuple[Prior, Array]:
    """A prior out of nothing but the mean coefficients of several neighbours.

    What a single neighbour sends is never used by itself, so it may come out of a
    secure sum. The plain mean over ``n`` neighbours, each a draw of ``N(μ, T)`` known
    with variance ``V``, informs ``μ`` with variance ``(T + V)/n``, on top of what the
    base prior knows of it; ``T`` is the guess, as no mean shows how peers differ.

    Args:
      weights: ``[I, J]`` in [0, 1], zero from a peer to itself; a neighbour counts in
        full or, at weight 0, not at all.
      summaries: leaves ``[J, ...]``, precisions diagonal: ``1/V`` of each sender.
      base: prior of a peer that knows nothing, ``[F]`` and a *diagonal* ``[F, F]``.
      min_peers: neighbours with data that a mean needs.

    Returns:
      ``Prior`` with leaves ``[I, ...]`` and ``has_prior`` ``[I]``; the base prior to
      the bit, and 0, with fewer neighbours. A memory without demand coefficients
      (``F = 0``) always gets its base prior.
    """
    received = (_with_data(weights, summaries) > 0).astype(jnp.float32)
    number = jnp.sum(received, axis=-1)  # [I]
    enough = (number >= min_peers).astype(jnp.float32)
    received = received * enough[:, None]
    if base.size == 0:
        return _or_base(_repeat(base, weights.shape[0]), 0.0 * received, base)
    base_variance = jnp.diagonal(jnp.asarray(base.covariance))
    spread = jnp.minimum(base.spread, SPREAD_CAP * base_variance)
    precision = jnp.diagonal(summaries.precision, axis1=-2, axis2=-1)  # [J, F]
    variance = 1.0 / jnp.where(precision > 0, precision, 1.0)
    share = received / jnp.maximum(number, 1.0)[:, None]
    mean = jnp.einsum("ij,jf->if", share, summaries.shift * variance)
    evidence = 1.0 / (spread[None] + jnp.einsum("ij,jf->if", share, variance))
    evidence = number[:, None] * evidence
    own = 1.0 / (base_variance - spread)
    uncertainty = 1.0 / (own[None] + evidence)
    centre = uncertainty * ((own * base.mean)[None] + evidence * mean)
    learned = Prior(centre, _diagonal(spread[None] + uncertainty))
    return _or_base(learned, received, base)


def _with_data(weights: Array, summaries: DemandSummary) -> Array:
    """Weights ``[I, J]`` without the senders that have no data."""
    return weights * jnp.expand_dims(summaries.count > 0, 0)


def _diagonal(vectors: Array) -> Array:
    """``[..., F]`` to diagonal matrices ``[..., F, F]``."""
    identity = np.eye(vectors.shape[-1], dtype=np.float32)
    shape = (*vectors.shape, vectors.shape[-1])
    return jnp.broadcast_to(jnp.expand_dims(vectors, -1), shape) * jnp.broadcast_to(
        identity, shape
    )


def _repeat(base: BasePrior, receivers: int) -> Prior:
    """The base prior for each receiver, leaves ``[I, ...]``."""
    return Prior(
        jnp.broadcast_to(base.mean, (receivers, *base.mean.shape)),
        jnp.broadcast_to(base.covariance, (receivers, *base.covariance.shape)),
    )


def _or_base(learned: Prior, received: Array, base: BasePrior) -> tuple[Prior, Array]:
    """``learned``, within reach, where a receiver has a sender, else ``base``."""
    has_prior = (jnp.sum(received, axis=-1) > 0).astype(jnp.float32)  # [I]
    own = _repeat(base, received.shape[0])
    reach = PRIOR_REACH * jnp.sqrt(jnp.diagonal(jnp.asarray(base.covariance)))
    mean = jnp.clip(learned.mean, own.mean - reach[None], own.mean + reach[None])
    prior = Prior(
        jnp.where(has_prior[:, None] > 0, mean, own.mean),
        jnp.where(has_prior[:, None, None] > 0, learned.covariance, own.covariance),
    )
    return prior, has_prior
