"""How values are shared: what a receiver makes of its neighbours' values.

A rule turns one round into a value [I, K] on the receiver's own scale and its weight
[I, K]. A new rule is one function, one entry of ``VALUE_SHARING`` with the use that the
learner makes of it, and its NumPy reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange import weights
from p2p_sac_jax.exchange.insight import has_scale, normalise
from p2p_sac_jax.hyper import ExchangeHyper
from p2p_sac_jax.types import Array, Insight

# (edge weight [I, J], sender weight [J, K], x [J, K], own [I, K], own weight [I, K])
# -> (mean [I, K], mass [I, K]); see ``aggregators.Aggregator``.
Aggregate = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]


class ValueSharingInputs(NamedTuple):
    """What every rule reads; insights are sanitized."""

    received: Insight  # [J, K]; a count of 0 marks values that may not be used
    own: Insight  # [I, K]
    edge_weight: Array  # [I, J] all 0 where network_weight is 0
    sender_weight: Array  # [J, K]
    hyper: ExchangeHyper
    now: Array  # [] seconds on the shared clock
    annealing: Array  # [I, 1] share of the network's values left by own steps
    aggregate: Aggregate  # how several messages become one


Estimate = Callable[[ValueSharingInputs], tuple[Array, Array]]


class ValueSharing(NamedTuple):
    """A rule, and what the learner does with its value and weight."""

    estimate: Estimate
    use: str  # "none" not at all; "mix", "max" in the bootstrap; "shaping" in rewards


def _none(inputs: ValueSharingInputs) -> tuple[Array, Array]:
    """Values are not shared."""
    zeros = jnp.zeros((inputs.edge_weight.shape[0], inputs.received.valid.shape[1]))
    return zeros, zeros


def _scalar(inputs: ValueSharingInputs) -> tuple[Array, Array]:
    """Raw values, recency x confidence, and a constant weight, one cell for all.

    The formula this project started from, kept as a documented negative: the
    weight fades neither with age (``age_max_s`` does not apply) nor with own data,
    and the switches of recency and confidence leave it alone.
    """
    received, own, hyper = inputs.received, inputs.own, inputs.hyper
    if received.valid.shape[1] != 1:
        raise ValueError("exchange.value_sharing='scalar' works on one cell, K = 1")
    recency = weights.temporal(
        inputs.now, received.timestamp, hyper.recency_tau_s, jnp.inf
    )
    weight = recency * received.confidence * received.valid * _usable(received)
    value, mass = inputs.aggregate(
        inputs.edge_weight, weight, received.state_value, own.state_value, _known(own)
    )
    return value, weights.network_share(hyper, _has(mass))


def _per_cell(inputs: ValueSharingInputs) -> tuple[Array, Array]:
    """Shapes of the value function, cell by cell, on the receiver's own scale."""
    weight = inputs.sender_weight * _usable(inputs.received)
    value, mass, readable = _rescaled(inputs, weight)
    share = weights.network_share(inputs.hyper, _has(mass))
    return value, share * inputs.annealing * readable


def _precision(inputs: ValueSharingInputs) -> tuple[Array, Array]:
    """As per_cell, with both sides weighed by their evidence.

    w = w_t · Π_net/(Π_net + Π_local). Π_net = Σ_j w_ij n_j is also the weight of the
    average, Π_local = n · confidence.
    """
    weight = inputs.sender_weight * inputs.received.count
    value, network, readable = _rescaled(inputs, weight)
    local = inputs.own.count * inputs.own.confidence * inputs.own.valid
    total = network + local
    share = network / jnp.where(total > 0.0, total, 1.0)
    ceiling = jnp.minimum(inputs.hyper.network_weight, 1.0) * inputs.annealing
    return value, ceiling * share * readable


def _rescaled(inputs: ValueSharingInputs, weight: Array) -> tuple[Array, Array, Array]:
    """Network values on each receiver's scale [I, K], mass [I, K], readable [I, 1].

    A peer with data in fewer than two cells has no scale: as a receiver it cannot
    read shapes (readable is 0), as a sender it has none to share.
    """
    shape, _, _ = jax.vmap(normalise)(inputs.received)
    weight = weight * jax.vmap(has_scale)(inputs.received)[:, None]
    own_shape, centre, scale = jax.vmap(normalise)(inputs.own)
    mean, mass = inputs.aggregate(
        inputs.edge_weight, weight, shape, own_shape, _known(inputs.own)
    )
    readable = jax.vmap(has_scale)(inputs.own)[:, None]
    return centre[:, None] + scale[:, None] * mean, mass, readable


def _has(mass: Array) -> Array:
    """1 where any weight arrived, else 0."""
    return jnp.where(mass > 0.0, 1.0, 0.0)


def _usable(received: Insight) -> Array:
    """1 where a sender's values may be used, else 0."""
    return jnp.where(received.count > 0.0, 1.0, 0.0)


def _known(own: Insight) -> Array:
    """1 where a receiver has data of its own, else 0."""
    return jnp.where((own.valid > 0.0) & (own.count > 0.0), 1.0, 0.0)


VALUE_SHARING: dict[str, ValueSharing] = {
    "none": ValueSharing(_none, use="none"),
    "scalar": ValueSharing(_scalar, use="mix"),
    "per_cell": ValueSharing(_per_cell, use="mix"),
    "precision": ValueSharing(_precision, use="mix"),
    "shaping": ValueSharing(_precision, use="shaping"),
    "max": ValueSharing(_precision, use="max"),
}
