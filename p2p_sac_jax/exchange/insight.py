"""Insight: one peer's summary of its own values and policy, cell by cell."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.hyper import ExchangeHyper
from p2p_sac_jax.types import Array, Insight

# Float32 noise of a mean is about 1e-7 of its size; both floors sit well above it.
_VARIANCE_FLOOR = 1e-12  # of a cell's values, relative to their mean square
_SCALE_FLOOR = 1e-4  # of the spread between cells, relative to its centre
_TINY = 1e-6  # keeps both floors positive where all values are zero


class InsightInputs(NamedTuple):
    """What one peer computes on M replay rows drawn uniformly."""

    cell: Array  # [M] int32 public context cell
    state_value: Array  # [M] soft state value, own reward units
    action_value: Array  # [M] value of the greedy action, same units
    entropy: Array  # [M] nats, of the Gaussian before the tanh
    action_mean: Array  # [M, A] greedy action
    action_std: Array  # [M, A] policy std before the tanh
    size: Array  # [] real steps in replay, 0 while there is no data
    td_error: Array  # [] running mean of |TD error|, own reward units


def make_insight(
    inputs: InsightInputs, num_cells: int, seen: Array, hyper: ExchangeHyper
) -> Insight:
    """Averages replay rows by context cell and rates each average.

    confidence = n/(n + n0) · 1/(1 + Var[v]/s²) · exp(-β·td_error), with n the real
    steps of the cell, Var[v] the variance of values within it and s² the
    count-weighted variance of the cell means. The middle factor is 1 while fewer
    than two cells have data: there is no spread to compare with.

    Args:
      inputs: values on M uniform replay rows; see ``InsightInputs``.
      num_cells: size K of the public codebook; 1 gives the scalar insight.
      seen: [K] or [] seconds on the shared clock at which each cell was last
        visited: an insight is as old as the newest data behind it.
      hyper: ``n0`` and ``td_penalty`` (β) are read.

    Returns:
      Insight with fields [K] and [K, A]; every entry of a cell without data is 0.
    """
    member = jax.nn.one_hot(inputs.cell, num_cells, dtype=jnp.float32)  # [M, K]
    rows = jnp.sum(member, axis=0)  # [K]

    # A contraction, not a scatter: it adds in a fixed order on every device.
    def cell_mean(x: Array) -> Array:
        columns = x.reshape(x.shape[0], -1)
        total = jnp.matmul(member.T, columns, precision="highest")
        mean = total / jnp.maximum(rows, 1.0)[:, None]
        return mean.reshape(num_cells, *x.shape[1:])

    value = cell_mean(inputs.state_value)
    within = cell_mean(jnp.square(inputs.state_value - value[inputs.cell]))
    count = jnp.maximum(inputs.size, 0.0) * rows / inputs.cell.shape[0]
    valid = jnp.where(count > 0.0, 1.0, 0.0)
    _, between = _moments(value, count)

    noise = _VARIANCE_FLOOR * (1.0 + jnp.mean(jnp.square(inputs.state_value)))
    distinct = (between + noise) / (between + noise + within)
    distinct = jnp.where(jnp.sum(valid) >= 2.0, distinct, 1.0)
    evidence = count / (count + hyper.n0 + jnp.where(count > 0.0, 0.0, 1.0))
    confidence = evidence * distinct * jnp.exp(-hyper.td_penalty * inputs.td_error)

    insight = Insight(
        state_value=value,
        action_value=cell_mean(inputs.action_value),
        entropy=cell_mean(inputs.entropy),
        confidence=jnp.clip(confidence, 0.0, 1.0),
        timestamp=jnp.broadcast_to(seen, (num_cells,)).astype(jnp.float32),
        action_mean=cell_mean(inputs.action_mean),
        action_std=cell_mean(inputs.action_std),
        count=count,
        valid=valid,
    )
    return jax.tree.map(lambda x: _mask(valid, x), insight)


def normalise(insight: Insight) -> tuple[Array, Array, Array]:
    """Splits one peer's state values into their shape, level and scale.

    Peers share shape, not level: a receiver reads ``centre + scale · shape`` with
    its own centre and scale.

    Args:
      insight: one peer's, fields [K].

    Returns:
      shape [K], 0 in cells without data; centre [], the count-weighted mean over
      valid cells, 0 if there are none; scale [] > 0, their count-weighted std,
      floored at 1e-4 of the centre.
    """
    weight = jnp.where(insight.valid > 0.0, insight.count, 0.0)
    centre, variance = _moments(insight.state_value, weight)
    floor = _SCALE_FLOOR * jnp.abs(centre) + _TINY
    scale = jnp.sqrt(jnp.maximum(variance, jnp.square(floor)))
    return _mask(insight.valid, (insight.state_value - centre) / scale), centre, scale


def has_scale(insight: Insight) -> Array:
    """[] 1 where one peer has data in two cells, so that its values have a shape."""
    seen = jnp.where(insight.count > 0.0, insight.valid, 0.0)
    return jnp.where(jnp.sum(seen) >= 2.0, 1.0, 0.0)


def _moments(value: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and variance [] of value [K]; both 0 without any weight."""
    total = jnp.sum(weight)
    share = weight / jnp.where(total > 0.0, total, 1.0)
    mean = jnp.sum(share * value)
    return mean, jnp.sum(share * jnp.square(value - mean))


def _mask(valid: Array, x: Array) -> Array:
    """Keeps x [K, ...] where valid [K]; the rest is 0."""
    keep = valid.reshape(valid.shape + (1,) * (x.ndim - 1)) > 0.0
    return jnp.where(keep, x, 0.0)
