"""Modes of sharing values: what a receiver reads out of its neighbours' values.

Each mode turns one round into a value [I, K] on the receiver's own scale and its
weight [I, K]; ``USES`` says what the learner then does with them.
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

# (edge [I, J], weight [J, K], x [J, K], own [I, K], own_weight [I, K])
# -> (mean [I, K], mass [I, K]); robust aggregators lean on the receiver's own x.
Aggregate = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]


class Round(NamedTuple):
    """What every value mode reads; claims are already bounded."""

    sent: Insight  # [J, K]; a count of 0 says that values may not be used
    own: Insight  # [I, K]
    edge: Array  # [I, J] voice of each neighbour, empty where network_weight is 0
    weight: Array  # [J, K] weight of each sender's word
    hyper: ExchangeHyper
    now: Array  # [] seconds on the shared clock
    annealing: Array  # [I, 1] share of the network's values left by own steps
    aggregate: Aggregate  # how several claims become one


ValueSharing = Callable[[Round], tuple[Array, Array]]


def _silent(round_: Round) -> tuple[Array, Array]:
    """Values are not shared."""
    zeros = jnp.zeros((round_.edge.shape[0], round_.sent.valid.shape[1]))
    return zeros, zeros


def _scalar(round_: Round) -> tuple[Array, Array]:
    """Raw values, recency x confidence, and a constant weight, one cell for all.

    The formula this project started from, kept as a documented negative: the
    weight fades neither with age (``age_max_s`` does not apply) nor with own data,
    and the switches of recency and confidence leave it alone.
    """
    sent, own, hyper = round_.sent, round_.own, round_.hyper
    if sent.valid.shape[1] != 1:
        raise ValueError("exchange.value_sharing='scalar' works on one cell, K = 1")
    recency = weights.temporal(round_.now, sent.timestamp, hyper.recency_tau_s, jnp.inf)
    weight = recency * sent.confidence * sent.valid * _usable(sent)
    value, mass = round_.aggregate(
        round_.edge, weight, sent.state_value, own.state_value, _known(own)
    )
    return value, weights.network_share(hyper, _has(mass))


def _per_cell(round_: Round) -> tuple[Array, Array]:
    """Shapes of the value function, cell by cell, on the receiver's own scale."""
    value, mass, heard = _rescaled(round_, round_.weight * _usable(round_.sent))
    share = weights.network_share(round_.hyper, _has(mass))
    return value, share * round_.annealing * heard


def _precision(round_: Round) -> tuple[Array, Array]:
    """As keyed, but each side weighs by its evidence: w = w_t·Π_net/(Π_net+Π_local).

    Π_net = Σ_j w_ij·n_j is also the weight of the average, Π_local = n·confidence.
    """
    value, network, heard = _rescaled(round_, round_.weight * round_.sent.count)
    local = round_.own.count * round_.own.confidence * round_.own.valid
    total = network + local
    share = network / jnp.where(total > 0.0, total, 1.0)
    ceiling = jnp.minimum(round_.hyper.network_weight, 1.0) * round_.annealing
    return value, ceiling * share * heard


def _rescaled(round_: Round, weight: Array) -> tuple[Array, Array, Array]:
    """Network values on each receiver's scale [I, K], mass [I, K], heard [I, 1].

    A peer with data in fewer than two cells has no scale: it cannot read shapes
    (heard is 0) and has none to tell.
    """
    shape, _, _ = jax.vmap(normalise)(round_.sent)
    weight = weight * jax.vmap(has_scale)(round_.sent)[:, None]
    own_shape, centre, scale = jax.vmap(normalise)(round_.own)
    mean, mass = round_.aggregate(
        round_.edge, weight, shape, own_shape, _known(round_.own)
    )
    heard = jax.vmap(has_scale)(round_.own)[:, None]
    return centre[:, None] + scale[:, None] * mean, mass, heard


def _has(mass: Array) -> Array:
    """1 where any weight arrived, else 0."""
    return jnp.where(mass > 0.0, 1.0, 0.0)


def _usable(sent: Insight) -> Array:
    """1 where a sender's values may be used, else 0."""
    return jnp.where(sent.count > 0.0, 1.0, 0.0)


def _known(own: Insight) -> Array:
    """1 where a receiver has data of its own, else 0."""
    return jnp.where((own.valid > 0.0) & (own.count > 0.0), 1.0, 0.0)


VALUE_SHARING: dict[str, ValueSharing] = {
    "none": _silent,
    "scalar": _scalar,
    "per_cell": _per_cell,
    "precision": _precision,
    # The same value and weight, put to another use.
    "shaping": _precision,
    "max": _precision,
}
# How the learner uses value and weight, see ``guidance``: "none" not at all, "mix"
# and "max" in the bootstrap, "shaping" in the reward.
USES: dict[str, str] = {
    "none": "none",
    "scalar": "mix",
    "per_cell": "mix",
    "precision": "mix",
    "shaping": "shaping",
    "max": "max",
}
