"""The estimates in a message as one vector: values, policy, trend, demand.

Attacks are formulas on that vector.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.linalg import spd_inverse
from p2p_sac_jax.types import Array, DemandSummary, Received

# Ridges for little data; the second is relative to the diagonal.
_RIDGE, _RELATIVE_RIDGE = 1e-3, 1e-5


def read_estimates(received: Received) -> tuple[Array, Array]:
    """Estimates of messages as vectors.

    Args:
      received: leaves [J, ...].

    Returns:
      estimates [J, V], 0 where the sender has no data, and known [J, V], 1 where it
      has. V = 4 K + K A + F: state values, action values, entropies, trends, action
      means, demand coefficients.
    """
    insight, demand = received.insight, received.demand
    senders, cells, actions = insight.action_mean.shape
    valid = jnp.where(insight.valid > 0, 1.0, 0.0)
    parts = [insight.state_value, insight.action_value, insight.entropy, received.trend]
    parts += [insight.action_mean.reshape(senders, cells * actions)]
    known = [valid] * 4 + [jnp.repeat(valid, actions, axis=-1)]
    if demand.shift.shape[-1]:
        parts += [implied_coefficients(demand)]
        data = jnp.where(demand.count > 0, 1.0, 0.0)
        known += [jnp.broadcast_to(data[:, None], demand.shift.shape)]
    has = jnp.concatenate(known, axis=-1)
    return jnp.where(has > 0, jnp.concatenate(parts, axis=-1), 0.0), has


def write_estimates(estimates: Array, template: Received) -> Received:
    """Messages of the given estimates, with all else as in ``template``.

    Args:
      estimates: [..., V], in the order of ``read_estimates``.
      template: leaves [..., ...].
    """
    insight, demand = template.insight, template.demand
    cells, actions = insight.action_mean.shape[-2:]
    ends = [cells, 2 * cells, 3 * cells, 4 * cells, (4 + actions) * cells]
    ends = ends if demand.shift.shape[-1] else ends[:-1]
    parts = jnp.split(estimates, ends, axis=-1)
    state_value, action_value, entropy, trend, action_mean = parts[:5]
    if demand.shift.shape[-1]:
        shift = _product(demand.precision, parts[5])
        demand = demand._replace(shift=shift)
    insight = insight._replace(
        state_value=state_value,
        action_value=action_value,
        entropy=entropy,
        action_mean=action_mean.reshape(insight.action_mean.shape),
    )
    return template._replace(
        insight=insight, demand=demand, trend=jnp.clip(trend, -1.0, 1.0)
    )


def implied_coefficients(demand: DemandSummary) -> Array:
    """Demand coefficients [..., F] that sufficient statistics imply, F > 0."""
    shape = demand.precision.shape
    diagonal = jnp.diagonal(demand.precision, axis1=-2, axis2=-1)
    level = jnp.mean(jnp.abs(diagonal), axis=-1, keepdims=True)
    # Noise may have made the diagonal negative: lift what is below zero.
    ridge = _RIDGE + _RELATIVE_RIDGE * level + jnp.maximum(-diagonal, 0.0)
    identity = jnp.broadcast_to(np.eye(shape[-1], dtype=np.float32), shape)
    lifted = demand.precision + jnp.expand_dims(ridge, -1) * identity
    return _product(spd_inverse(lifted), demand.shift)


def _product(matrix: Array, vector: Array) -> Array:
    return jnp.einsum("...fg,...g->...f", matrix, vector, precision="highest")
