"""What the adversary sees of a round."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.simulation.attack_vectors import read_estimates
from p2p_sac_jax.types import Array, Received


class AdversaryView(NamedTuple):
    """All that the adversary sees, with V estimates in a message."""

    received: Received  # [J, ...] the messages, finite
    own: Received  # [I, ...] the receivers' own
    edge: Array  # [I, J]
    honest: Array  # [J] 1 where a sender is honest
    rank: Array  # [J] int32 place of a byzantine sender among the byzantine
    estimates: Array  # [J, V] each sender's own, the honest mean where it has none
    known: Array  # [J, V] 1 where an honest sender has data
    mean: Array  # [J, V] of the honest, a sender's own where they have no data
    std: Array  # [V] of the honest
    template: Received  # [J, ...] all but the estimates is the honest mean
    base: BasePrior | None  # None where demand is not shared
    key: Array
    now: Array  # [] seconds


def view_of(
    received: Received,
    own: Received,
    edge: Array,
    is_byzantine: Array,
    base: BasePrior | None,
    key: Array,
    now: Array,
) -> AdversaryView:
    """The view of a round, arguments as in ``AdversaryView``."""
    received, own = _finite(received), _finite(own)
    honest = jnp.where(is_byzantine, 0.0, 1.0)
    own_estimates, has = read_estimates(received)
    known = honest[:, None] * has
    mean = _mean_or_own(own_estimates, known)
    heads = jnp.maximum(jnp.sum(known, axis=0), 1.0)
    variance = jnp.sum(known * jnp.square(own_estimates - mean), axis=0) / heads
    return AdversaryView(
        received=received,
        own=own,
        edge=edge,
        honest=honest,
        rank=jnp.maximum(jnp.cumsum(is_byzantine.astype(jnp.int32)) - 1, 0),
        estimates=jnp.where(has > 0, own_estimates, mean),
        known=known,
        mean=mean,
        std=jnp.sqrt(variance),
        template=_template(received, honest),
        base=base,
        key=key,
        now=now,
    )


def _finite(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 0.0), tree)


def _mean_or_own(x: Array, weight: Array) -> Array:
    """Mean of x over senders, a sender's own x where no sender weighs anything.

    Args:
      x: [J, ...].
      weight: [J] or of the first axes of x, 0 or 1.

    Returns:
      The shape of x.
    """
    weight = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim))
    heads = jnp.sum(weight, axis=0, keepdims=True)
    mean = jnp.sum(weight * x, axis=0, keepdims=True) / jnp.maximum(heads, 1.0)
    return jnp.where(heads > 0, mean, x)


def _template(received: Received, honest: Array) -> Received:
    """Messages [J, ...] in which all but the estimates is the honest mean."""
    insight, demand, performance, _ = received
    cells = honest[:, None] * jnp.where(insight.valid > 0, 1.0, 0.0)
    data = honest * jnp.where(demand.count > 0, 1.0, 0.0)
    with_data = honest * has_data(received)
    # Not the mean of times: rounding could put it into the future.
    stamps = jnp.where(cells > 0, insight.timestamp, np.finfo(np.float32).min)
    newest = jnp.max(stamps, axis=0, keepdims=True)
    stamped = jnp.max(cells, axis=0, keepdims=True) > 0
    mean = jax.tree.map(lambda x: _mean_or_own(x, cells), insight)
    return Received(
        insight=mean._replace(timestamp=jnp.where(stamped, newest, insight.timestamp)),
        demand=jax.tree.map(lambda x: _mean_or_own(x, data), demand),
        performance=_mean_or_own(performance, with_data),
        trend=received.trend,
    )


def has_data(received: Received) -> Array:
    """[J] 1 where a sender has any data."""
    valid = jnp.max(received.insight.valid, axis=-1) > 0
    return jnp.where(valid | (received.demand.count > 0), 1.0, 0.0)
