"""Sanitizes received messages, once, before anything else reads them.

An impossible value is clipped where honest values have a bound (confidence, counts,
trends), and dropped where they have none. Honest messages pass unchanged, bit for bit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.privacy.clipping import LEAST_NOISE_VARIANCE, RECORD_BOUND
from p2p_sac_jax.types import Array, DemandSummary, Insight, Received

# No honest entry comes near; squares and sums of what passes stay finite.
MAX_ABS_VALUE = 1e9
ENTROPY_BOUND = 5.0  # nats a dimension; no policy's log std reaches so far
# Least eigenvalue, on a unit diagonal, that rounding may have made negative.
_SEMIDEFINITE = 1e-5
_NO_DATA = 1e-20  # a regressor of less precision has never been seen


def sanitize_insight(
    insight: Insight, max_count: Array | float = MAX_ABS_VALUE
) -> Insight:
    """Bounds what was received, so that no sender can poison an average.

    Confidence is clipped to [0, 1] and becomes 0 where it is not a number; counts are
    clipped to ``max_count``, entropies to ±5 nats a dimension. A cell with an entry
    that is not finite, beyond ±1e9, or a negative count is treated as a cell without
    data: all its entries become 0.

    Args:
      insight: fields [..., K] and [..., K, A].
      max_count: [] real steps that anybody can have seen by now.

    Returns:
      Insight of the same shapes, everywhere finite; ``valid`` is exactly 0 or 1.
    """
    confidence = jnp.where(jnp.isfinite(insight.confidence), insight.confidence, 0.0)
    insight = insight._replace(confidence=jnp.clip(confidence, 0.0, 1.0))
    values = (insight.state_value, insight.action_value, insight.entropy, insight.count)
    credible = (insight.valid > 0.0) & (insight.count >= 0.0)
    credible &= jnp.isfinite(insight.timestamp)
    for x in values:
        credible &= _bounded(x)
    for x in (insight.action_mean, insight.action_std):
        credible &= jnp.all(_bounded(x), axis=-1)

    def keep(x: Array) -> Array:
        extra = (1,) * (x.ndim - credible.ndim)
        return jnp.where(credible.reshape(credible.shape + extra), x, 0.0)

    kept = jax.tree.map(keep, insight)
    most = ENTROPY_BOUND * insight.action_mean.shape[-1]
    return kept._replace(
        entropy=jnp.clip(kept.entropy, -most, most),
        valid=jnp.where(credible, 1.0, 0.0),
        count=jnp.minimum(kept.count, max_count),
    )


def sanitize_demand(
    summary: DemandSummary,
    record_scale: Array,
    max_count: Array | float = MAX_ABS_VALUE,
) -> DemandSummary:
    """Drops demand statistics that no data can have, scales down those of too many.

    Dropped whole, all zeros: an entry that is not finite or beyond ±1e9, a negative
    count, or a precision, made symmetric, that is not positive semi-definite to 1e-5
    on a unit diagonal. No week's record is beyond a bound, so precision is at most so
    much a step; a larger one shrinks to that. One that is nearly singular has its
    diagonal raised by 2e-5, so that any prior plus what passes can be inverted in
    float32. More steps than ``max_count`` become as many, and precision and shift
    shrink alike.

    Args:
      summary: leaves [..., F, F], [..., F] and [...]; F may be 0.
      record_scale: [F] weights of the regressors in the norm of a record.
      max_count: [] real steps that anybody can have seen by now.

    Returns:
      DemandSummary of the same shapes, everywhere finite.
    """
    credible = _bounded(summary.count) & (summary.count >= 0.0)
    credible &= jnp.all(_bounded(summary.shift), axis=-1)
    credible &= jnp.all(_bounded(summary.precision), axis=(-2, -1))
    precision = jnp.where(credible[..., None, None], summary.precision, 0.0)
    precision, semidefinite = _semidefinite(precision)
    credible &= semidefinite
    count = jnp.where(credible, summary.count, 0.0)
    too_many = count > max_count
    scale = jnp.where(too_many, max_count / jnp.where(too_many, count, 1.0), 1.0)
    scale = scale * _precision_factor(precision, count, record_scale)
    scale = jnp.where(credible, scale, 0.0)
    shift = jnp.where(credible[..., None], summary.shift, 0.0)
    return DemandSummary(
        precision=precision * scale[..., None, None],
        shift=shift * scale[..., None],
        count=jnp.minimum(count, max_count),
    )


def sanitize_received(
    received: Received, record_scale: Array, max_count: Array | float
) -> Received:
    """Bounds all that was received.

    Args:
      received: leaves [J, ...].
      record_scale: [F] weights of the regressors in the norm of a record.
      max_count: [] steps of the clock: no peer can have seen more.

    Returns:
      Received, everywhere finite: a performance that is not a number is the worst
      there is, a trend that is not is none.
    """
    performance, trend = received.performance, received.trend
    finite = jnp.where(jnp.isfinite(performance), performance, -MAX_ABS_VALUE)
    known = jnp.where(jnp.isfinite(trend), trend, 0.0)
    return Received(
        insight=sanitize_insight(received.insight, max_count),
        demand=sanitize_demand(received.demand, record_scale, max_count),
        performance=jnp.clip(finite, -MAX_ABS_VALUE, MAX_ABS_VALUE),
        trend=jnp.clip(known, -1.0, 1.0),
    )


def _precision_factor(precision: Array, count: Array, record_scale: Array) -> Array:
    """Factor [...] that brings a precision down to what its steps can hold."""
    if precision.shape[-1] == 0:
        return jnp.ones(count.shape)
    most = count * RECORD_BOUND**2 / LEAST_NOISE_VARIANCE
    received = jnp.diagonal(precision, axis1=-2, axis2=-1) @ record_scale**2
    beyond = received > most
    return jnp.where(beyond, most / jnp.where(beyond, received, 1.0), 1.0)


def _bounded(x: Array) -> Array:
    """True within ±1e9; comparisons, so that NaN is False and never computed with."""
    return (x <= MAX_ABS_VALUE) & (x >= -MAX_ABS_VALUE)


def _semidefinite(matrix: Array) -> tuple[Array, Array]:
    """Symmetric part of [..., F, F], safe to invert, and where that holds [...]."""
    matrix = 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))
    diagonal = jnp.diagonal(matrix, axis1=-2, axis2=-1)
    seen = diagonal > _NO_DATA
    scale = jnp.where(seen, 1.0 / jnp.sqrt(jnp.where(seen, diagonal, 1.0)), 0.0)
    # A correlation beyond ±1 is none, whatever its size.
    unit = jnp.clip(matrix * scale[..., :, None] * scale[..., None, :], -2.0, 2.0)
    identity = np.broadcast_to(np.eye(matrix.shape[-1], dtype=bool), matrix.shape)
    least = _least_pivot(jnp.where(identity, 1.0 + _SEMIDEFINITE, unit))
    # Of a regressor never seen nothing can be known, nor how it goes with others.
    blank = seen[..., :, None] | (jnp.abs(matrix) <= _SEMIDEFINITE)
    sound = (least > 0.1 * _SEMIDEFINITE) & jnp.all(blank, axis=(-2, -1))
    singular = least < 3.0 * _SEMIDEFINITE
    raised = singular[..., None, None] & identity
    return jnp.where(raised, (1.0 + 2.0 * _SEMIDEFINITE) * matrix, matrix), sound


def _least_pivot(matrix: Array) -> Array:
    """Smallest diagonal entry [...] that symmetric elimination comes upon.

    Positive for positive definite matrices alone. Unrolled like ``linalg.cholesky``,
    which would take the root of whatever it meets; this stops at the first bad entry,
    and while all that are left are good nothing can grow.
    """
    rest = matrix
    least = jnp.ones(matrix.shape[:-2])
    for k in range(matrix.shape[-1]):
        left = jnp.diagonal(rest, axis1=-2, axis2=-1)[..., k:]
        least = jnp.minimum(least, jnp.min(left, axis=-1))
        go_on = least > 0.1 * _SEMIDEFINITE
        column = jnp.where(go_on[..., None], rest[..., :, k], 0.0)
        pivot = jnp.where(go_on, rest[..., k, k], 1.0)
        rest = rest - (column / pivot[..., None])[..., None] * column[..., None, :]
    return least
