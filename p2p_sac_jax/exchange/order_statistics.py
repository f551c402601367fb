"""Weighted order statistics over senders: medians and trimmed means.

Axis 1 is that of the senders. A weight of 0 takes its entry out, whatever it holds.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.types import Array

# Sums of up to 64 shares are exact to about 4e-6: closer than this is a tie.
_TIE = 1e-5
_ROUNDING = 1e-6  # a share times a number that should have been whole


def byzantine_counts(byzantine_fraction: float, senders: int) -> np.ndarray:
    """How many of n senders may be byzantine, for n = 0 ... ``senders``.

    f = floor(byzantine_fraction · n), and never so many that no majority is left:
    trimming the most that is possible from both ends leaves the median.

    Args:
      byzantine_fraction: share in [0, 0.5).
      senders: J.

    Returns:
      [J + 1] int32.
    """
    n = np.arange(senders + 1)
    most = np.maximum(n - 1, 0) // 2
    return np.minimum(np.floor(byzantine_fraction * n + _ROUNDING), most).astype(
        np.int32
    )


def weighted_median(values: Array, edge_weight: Array) -> Array:
    """Midway between the lower and the upper weighted median over axis 1.

    The same as the ordinary median where weights are equal.

    Args:
      values: [I, J, ...]; read only where its weight is positive.
      edge_weight: [I, J, ...] non-negative, same shape.

    Returns:
      [I, ...]; 0 where there is no weight.
    """
    values, share = _ordered(values, edge_weight)
    below = jnp.cumsum(share, axis=1)
    lower = jnp.argmax(below >= 0.5 - _TIE, axis=1, keepdims=True)
    upper = jnp.argmax(below > 0.5 + _TIE, axis=1, keepdims=True)
    low, high = (jnp.take_along_axis(values, at, axis=1) for at in (lower, upper))
    return jnp.squeeze(0.5 * low + 0.5 * high, axis=1)


def trimmed_mean(values: Array, edge_weight: Array, byzantine_fraction: float) -> Array:
    """Weighted mean over axis 1 without the extremes (Yin et al. 2018).

    Of n senders the share f/n of their mass is cut off at both ends, f from
    ``byzantine_counts``: with equal weights the f smallest and the f largest. A sender
    across a cut counts with the part that is left of it.

    Args:
      values: [I, J, ...]; read only where its weight is positive.
      edge_weight: [I, J, ...] non-negative, same shape.
      byzantine_fraction: share in [0, 0.5).

    Returns:
      [I, ...]; 0 where there is no weight.
    """
    senders = jnp.sum(edge_weight > 0.0, axis=1, keepdims=True)
    counts = byzantine_counts(byzantine_fraction, edge_weight.shape[1])
    shares = (counts / np.maximum(np.arange(counts.size), 1)).astype(np.float32)
    cut = jnp.take(shares, senders)
    values, share = _ordered(values, edge_weight)
    end = jnp.cumsum(share, axis=1)
    kept = jnp.minimum(end, 1.0 - cut) - jnp.maximum(end - share, cut)
    # What rounding leaves of a sender that is cut off could still be a huge number.
    kept = jnp.where(kept > _TIE, kept, 0.0)
    total = jnp.sum(kept, axis=1)
    return jnp.sum(kept * values, axis=1) / jnp.where(total > 0.0, total, 1.0)


def _ordered(values: Array, edge_weight: Array) -> tuple[Array, Array]:
    """Values in ascending order, those without weight last and 0; shares sum to 1."""
    key = jnp.where(edge_weight > 0.0, values, jnp.inf)
    key, edge_weight = jax.lax.sort((key, edge_weight), dimension=1, num_keys=1)
    total = jnp.sum(edge_weight, axis=1, keepdims=True)
    share = edge_weight / jnp.where(total > 0.0, total, 1.0)
    return jnp.where(edge_weight > 0.0, key, 0.0), share
