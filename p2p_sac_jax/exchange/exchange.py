"""One round: from everybody's messages to each receiver's guidance.

Three channels share one set of weights: values (by estimation mode), entropy
(for exploration) and demand statistics (for the price memory's prior).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange import pooling as pooling_lib
from p2p_sac_jax.exchange import weights
from p2p_sac_jax.exchange.aggregation import weighted_mean
from p2p_sac_jax.exchange.insight import has_scale, normalise
from p2p_sac_jax.hyper import ExchangeHyper
from p2p_sac_jax.types import Array, DemandSummary, Guidance, Insight, Message, Prior

Exchange = Callable[[Message, Message, Array, ExchangeHyper, Array, Array], Guidance]
PriorPool = Callable[[Array, DemandSummary, Prior], tuple[Prior, Array]]


class _Round(NamedTuple):
    """What every value mode reads; claims are already bounded."""

    sent: Insight  # [J, K]
    own: Insight  # [I, K]
    edge: Array  # [I, J] adjacency, empty where network_weight is 0
    weight: Array  # [J, K] weight of each sender's word
    hyper: ExchangeHyper
    now: Array  # []
    annealing: Array  # [I, 1] share of the network's values left by own steps


def make_exchange(
    estimation: str, pooling: str, action_dim: int, base_prior: Prior
) -> Exchange:
    """Builds the round of I receivers and J senders.

    Args:
      estimation: how values are shared, a key of ``ESTIMATIONS``.
      pooling: how demand is shared, a key of ``POOLINGS``.
      action_dim: A.
      base_prior: demand prior of a peer that hears nothing, fields [F], [F, F].

    Returns:
      ``exchange(messages [J], own [I], adjacency [I, J], hyper, now [],
      own_steps [I]) -> Guidance [I]``. Adjacency entries are non-negative;
      ``own_steps`` counts each receiver's real steps. No gradient passes. A
      receiver that hears nobody gets weights of exactly 0 and ``base_prior``
      itself; so does everyone if ``hyper.network_weight`` is 0.

    Raises:
      ConfigError: a mode is unknown.
    """
    for field, name, allowed in (
        ("exchange.estimation", estimation, ESTIMATIONS),
        ("memory.pooling", pooling, POOLINGS),
    ):
        if name not in allowed:
            raise ConfigError(f"{field}={name!r} must be one of: {', '.join(allowed)}")
    estimate, pool = ESTIMATIONS[estimation], POOLINGS[pooling]

    def exchange(
        messages: Message,
        own: Message,
        adjacency: Array,
        hyper: ExchangeHyper,
        now: Array,
        own_steps: Array,
    ) -> Guidance:
        _check_shapes(messages.insight, own.insight, adjacency, action_dim)
        edge = adjacency * jnp.where(hyper.network_weight > 0.0, 1.0, 0.0)
        sent = weights.accept(messages.insight)
        weight = weights.sender_weight(sent, now, hyper)
        value, value_weight = estimate(
            _Round(
                sent=sent,
                own=weights.accept(own.insight),
                edge=edge,
                weight=weight,
                hyper=hyper,
                now=now,
                annealing=weights.annealing(own_steps, hyper.anneal_steps)[:, None],
            )
        )
        entropy, mass = weighted_mean(edge, weight, sent.entropy)
        summaries = weights.accept_demand(messages.demand)
        prior, has_prior = pool(edge, summaries, base_prior)
        guidance = Guidance(
            value=jnp.where(value_weight > 0.0, value, 0.0),
            value_weight=value_weight,
            entropy=entropy,
            std_weight=weights.network_share(hyper, _has(mass)),
            prior=prior,
            has_prior=has_prior,
        )
        return jax.lax.stop_gradient(guidance)

    return exchange


def _silent(round_: _Round) -> tuple[Array, Array]:
    """Values are not shared."""
    zeros = jnp.zeros((round_.edge.shape[0], round_.sent.valid.shape[1]))
    return zeros, zeros


def _seed_scalar(round_: _Round) -> tuple[Array, Array]:
    """Raw values, recency x confidence, and a constant weight, one cell for all.

    The formula this project started from, kept as a documented negative: the
    weight fades neither with age (``age_max_s`` does not apply) nor with own data.
    """
    if round_.sent.valid.shape[1] != 1:
        raise ValueError("exchange.estimation='seed_scalar' works on one cell, K = 1")
    ageless = round_.hyper._replace(age_max_s=jnp.inf)
    weight = weights.sender_weight(round_.sent, round_.now, ageless)
    value, mass = weighted_mean(round_.edge, weight, round_.sent.state_value)
    return value, weights.network_share(round_.hyper, _has(mass))


def _keyed(round_: _Round) -> tuple[Array, Array]:
    """Shapes of the value function, cell by cell, on the receiver's own scale."""
    value, mass, heard = _rescaled(round_, round_.weight)
    share = weights.network_share(round_.hyper, _has(mass))
    return value, share * round_.annealing * heard


def _precision(round_: _Round) -> tuple[Array, Array]:
    """As keyed, but each side weighs by its evidence: w = w_t·Π_net/(Π_net+Π_local).

    Π_net = Σ_j w_ij·n_j is also the weight of the average, Π_local = n·confidence.
    """
    value, network, heard = _rescaled(round_, round_.weight * round_.sent.count)
    local = round_.own.count * round_.own.confidence * round_.own.valid
    total = network + local
    share = network / jnp.where(total > 0.0, total, 1.0)
    ceiling = jnp.minimum(round_.hyper.network_weight, 1.0) * round_.annealing
    return value, ceiling * share * heard


def _rescaled(round_: _Round, weight: Array) -> tuple[Array, Array, Array]:
    """Network values on each receiver's scale [I, K], mass [I, K], heard [I, 1].

    A peer with data in fewer than two cells has no scale: it cannot read shapes
    (heard is 0) and has none to tell.
    """
    shape, _, _ = jax.vmap(normalise)(round_.sent)
    weight = weight * jax.vmap(has_scale)(round_.sent)[:, None]
    mean, mass = weighted_mean(round_.edge, weight, shape)
    _, centre, scale = jax.vmap(normalise)(round_.own)
    heard = jax.vmap(has_scale)(round_.own)[:, None]
    return centre[:, None] + scale[:, None] * mean, mass, heard


def _base_prior(edge: Array, _: DemandSummary, base: Prior) -> tuple[Prior, Array]:
    """Demand is not shared: the base prior for every receiver."""
    receivers = edge.shape[0]

    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (receivers, *jnp.shape(x)))

    return jax.tree.map(repeat, base), jnp.zeros((receivers,))


def _has(mass: Array) -> Array:
    """1 where any weight arrived, else 0."""
    return jnp.where(mass > 0.0, 1.0, 0.0)


def _check_shapes(sent: Insight, own: Insight, edge: Array, action_dim: int) -> None:
    """Refuses arrays that do not fit together, when the round is traced."""
    (senders, cells), receivers = sent.valid.shape, own.valid.shape[0]
    expected = {
        "adjacency": (edge.shape, (receivers, senders)),
        "own insight": (own.valid.shape, (receivers, cells)),
        "action_mean": (sent.action_mean.shape, (senders, cells, action_dim)),
    }
    for name, (shape, wanted) in expected.items():
        if shape != wanted:
            raise ValueError(f"{name} has shape {shape}, expected {wanted}")


ESTIMATIONS: dict[str, Callable[[_Round], tuple[Array, Array]]] = {
    "none": _silent,
    "seed_scalar": _seed_scalar,
    "keyed": _keyed,
    "precision": _precision,
}
POOLINGS: dict[str, PriorPool] = {
    "prior": pooling_lib.neighbour_prior,
    "pooled": pooling_lib.pooled_prior,
    "none": _base_prior,
}
