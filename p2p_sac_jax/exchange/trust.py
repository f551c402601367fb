"""Adaptive trust: every receiver judges messages by how they fit its own data.

Confidence and counts that a sender states do not enter. Compared are its demand curve
with the receiver's weeks, and the shape of its values with the receiver's own, each
over evidence that the receiver has gathered.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.exchange.insight import has_scale, normalise
from p2p_sac_jax.hyper import WeightsHyper
from p2p_sac_jax.linalg import spd_inverse
from p2p_sac_jax.types import Array, DemandSummary, Insight

EVIDENCE_STEPS = 8.0  # own steps at which the error of a message counts for half
# Honest numbers stay far below; squares and products of what passes stay finite.
_MAX_COEFFICIENT = 1e3
_MAX_SHAPE = 10.0
_MAX_ERROR = 1e3
_RIDGE = 1e-4  # of the mean eigenvalue of own information
_TINY = 1e-6


def uniform_trust(receivers: int, senders: int) -> Array:
    """Trust [I, J] before any evidence: 1/J each."""
    return jnp.full((receivers, senders), 1.0 / senders, jnp.float32)


def coefficients(summaries: DemandSummary, base: BasePrior) -> tuple[Array, Array]:
    """Demand coefficients of each sender: its posterior under the base prior.

    Args:
      summaries: sanitized, leaves [J, ...].
      base: prior of a peer that knows nothing, [F] and [F, F].

    Returns:
      Means [J, F], within ±1e3 and finite whatever was sent, and variances [J, F].
    """
    if base.size == 0:
        return summaries.shift, summaries.shift
    base_precision = spd_inverse(jnp.asarray(base.covariance))
    shift = (base_precision @ base.mean)[None] + summaries.shift
    covariance = spd_inverse(base_precision[None] + summaries.precision)
    mean = jnp.einsum("jfg,jg->jf", covariance, shift, precision="highest")
    # What cannot be computed gets the largest error.
    mean = jnp.where(jnp.isnan(mean), _MAX_COEFFICIENT, mean)
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    return jnp.clip(mean, -_MAX_COEFFICIENT, _MAX_COEFFICIENT), variance


def demand_error(own: DemandSummary, theta: Array) -> Array:
    """How much worse a sender's demand curve fits a receiver's weeks than its own.

    Mean squared error of log sales over the noise variance, above that of the
    receiver's own least squares: (θᵀSθ - 2bᵀθ + bᵀS⁻¹b)/n, times n/(n + 8) as few
    weeks prove little. Two contractions over F², no [I, J, F] array.

    Args:
      own: the receivers' own data, leaves [I, ...].
      theta: [J, F] from ``coefficients``.

    Returns:
      [I, J] in [0, 1e3]; zeros for F = 0.
    """
    (receivers, num_features), senders = own.shift.shape, theta.shape[0]
    if num_features == 0:
        return jnp.zeros((receivers, senders))
    S, b = own.precision, own.shift
    squares = (theta[:, :, None] * theta[:, None, :]).reshape(senders, -1)
    quadratic = jnp.matmul(S.reshape(receivers, -1), squares.T, precision="highest")
    linear = jnp.matmul(b, theta.T, precision="highest")
    # Ridge keeps an S without full rank invertible; b is in its range.
    ridge = _RIDGE * jnp.trace(S, axis1=-2, axis2=-1) / num_features + _TINY
    identity = jnp.eye(num_features)[None] * ridge[:, None, None]
    best = jnp.einsum("if,ifg,ig->i", b, spd_inverse(S + identity), b)
    per_step = (quadratic - 2.0 * linear + best[:, None]) / _at_least_one(own.count)
    evidence = own.count / (own.count + EVIDENCE_STEPS)
    return _bounded(per_step * evidence[:, None])


def value_error(own: Insight, sent: Insight) -> Array:
    """Distance of the shape of a sender's values from the receiver's own.

    Mean over the cells both know of (own confidence) x (difference of shapes)². The
    weight is the receiver's confidence, so early values of its own prove little, and
    a sender cannot avoid the comparison by stating a low one.

    Args:
      own: the receivers', fields [I, K].
      sent: the senders', sanitized, fields [J, K].

    Returns:
      [I, J] in [0, 1e3], 0 where there is nothing in common to compare.
    """
    mine, known = _shapes(own)
    theirs, sent_known = _shapes(sent)
    weight = known * own.confidence

    def contract(x: Array, y: Array) -> Array:
        return jnp.matmul(x, y.T, precision="highest")

    squares = contract(weight * jnp.square(mine), sent_known)
    squares += contract(weight, sent_known * jnp.square(theirs))
    squares -= 2.0 * contract(weight * mine, sent_known * theirs)
    return _bounded(squares / jnp.maximum(contract(known, sent_known), 1.0))


def update_trust(
    trust: Array, error: Array, received: Array, hyper: WeightsHyper
) -> Array:
    """Moves trust towards softmax(-error/T) of the senders of a round, at rate η.

    trust ← (1-η)·trust + η·softmax(-error/T)·(what trust they had together), so the
    others keep theirs and rows keep their sum. A lone sender has no other
    to be compared with.

    Args:
      trust: [I, J] non-negative.
      error: [I, J] of the senders; NaN counts as the largest.
      received: [I, J] positive, or True, where i received from j in this round.
      hyper: ``trust_rate`` (η) and ``trust_temperature`` (T) are read.

    Returns:
      [I, J]; ``trust`` bit for bit where η = 0 or nothing arrived.
    """
    present = jnp.asarray(received) > 0
    cost = jnp.where(present, _bounded(error), _MAX_ERROR)
    least = jnp.min(cost, axis=-1, keepdims=True)
    temperature = jnp.maximum(hyper.trust_temperature, _TINY)
    odds = jnp.where(present, jnp.exp((least - cost) / temperature), 0.0)
    total = jnp.sum(odds, axis=-1, keepdims=True)
    shared = jnp.sum(jnp.where(present, trust, 0.0), axis=-1, keepdims=True)
    verdict = shared * odds / jnp.where(total > 0.0, total, 1.0)
    rate = hyper.trust_rate
    updated = (1.0 - rate) * trust + rate * verdict
    return jnp.where(present & (rate > 0.0), updated, trust)


def _shapes(insight: Insight) -> tuple[Array, Array]:
    """Normalised values and 1 where they are known, both of the shape [_, K]."""
    shape, _, _ = jax.vmap(normalise)(insight)
    known = (insight.valid > 0.0) & (insight.count > 0.0)
    known &= (jax.vmap(has_scale)(insight) > 0.0)[:, None]
    shape = jnp.where(known, jnp.clip(shape, -_MAX_SHAPE, _MAX_SHAPE), 0.0)
    return shape, jnp.where(known, 1.0, 0.0)


def _at_least_one(count: Array) -> Array:
    """Divisors [I, 1] out of counts [I]."""
    return jnp.maximum(count, 1.0)[:, None]


def _bounded(error: Array) -> Array:
    """Errors in [0, 1e3]; NaN becomes 1e3."""
    return jnp.clip(jnp.where(jnp.isnan(error), _MAX_ERROR, error), 0.0, _MAX_ERROR)
