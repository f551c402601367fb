"""One round: from everything that was heard to each receiver's guidance.

Claims are bounded, trust is updated on the receiver's own data, every neighbour gets
a voice, and three channels share these voices: values (by estimation mode), entropy
and trend (for exploration), and demand (for the price memory's prior).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange import demand_prior as pooling_lib
from p2p_sac_jax.exchange import trust as trust_lib
from p2p_sac_jax.exchange import weights
from p2p_sac_jax.exchange.aggregation import AGGREGATORS, weighted_mean
from p2p_sac_jax.exchange.sanitize import accept, sanitize_received
from p2p_sac_jax.exchange.screening import screen_demand
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING, Round
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.types import (
    Array,
    DemandSummary,
    Guidance,
    LocalSummary,
    Prior,
    Received,
)

PriorPool = Callable[[Array, DemandSummary, BasePrior], tuple[Prior, Array]]


class Clock(NamedTuple):
    """What time it is, in the units that a round needs."""

    steps: Array  # [] int32 environment steps since the start
    seconds: Array  # [] on the shared clock


class AggregationMetrics(NamedTuple):
    """How one receiver weighed what it heard; leaves [I]."""

    coverage: Array  # share of context cells on which anybody was heard
    neighbours: Array  # effective number of neighbours, (Σw)²/Σw²
    largest_share: Array  # of one neighbour in all that was heard
    lowest_trust: Array  # of a neighbour heard, relative to the most trusted


class RoundResult(NamedTuple):
    """What a round leaves with I receivers."""

    guidance: Guidance  # [I, ...]
    trust: Array  # [I, J] opinions after the round
    weighing: AggregationMetrics


Exchange = Callable[
    [Received, LocalSummary, Array, Array, Hyper, Clock, Array], RoundResult
]


def make_exchange(
    value_sharing: str,
    pooling: str | PriorPool,
    action_dim: int,
    base_prior: BasePrior,
    aggregator: str = "mean",
    byzantine_fraction: float = 0.0,
) -> Exchange:
    """Builds the round of I receivers and J senders.

    Args:
      value_sharing: how values are shared, a key of ``VALUE_SHARING``.
      pooling: how demand is shared, a key of ``POOLINGS``, or the function itself.
      action_dim: A.
      base_prior: demand prior of a peer that hears nothing.
      aggregator: how several claims become one, a key of ``AGGREGATORS``.
      byzantine_fraction: share of neighbours that a robust aggregator may lose.

    Returns:
      ``exchange(received [J], own [I], adjacency [I, J], trust [I, J], hyper, clock,
      own_steps [I]) -> Heard``. Adjacency entries are non-negative; ``own_steps``
      counts each receiver's real steps. No gradient passes. A receiver that hears
      nobody gets weights of exactly 0, ``base_prior`` itself and its trust back; so
      does everyone if ``network_weight`` is 0.

    Raises:
      ConfigError: a name is unknown.
    """
    # A mode with a pool of its own reads means alone: no sender can be left out.
    by_sender = isinstance(pooling, str)
    if isinstance(pooling, str):
        _check("memory.pooling", pooling, POOLINGS)
        pooling = POOLINGS[pooling]
    _check("exchange.value_sharing", value_sharing, VALUE_SHARING)
    _check("exchange.aggregator", aggregator, AGGREGATORS)
    pool, estimate = pooling, VALUE_SHARING[value_sharing]
    aggregate = partial(AGGREGATORS[aggregator], byzantine_fraction=byzantine_fraction)

    def exchange(
        received: Received,
        own: LocalSummary,
        adjacency: Array,
        trust: Array,
        hyper: Hyper,
        clock: Clock,
        own_steps: Array,
    ) -> RoundResult:
        _check_shapes(received, own, adjacency, action_dim)
        claims = sanitize_received(received, base_prior.record_scale, clock.steps)
        insight, demand = claims.insight, claims.demand
        mine = accept(own.insight)
        rules, now = hyper.exchange, clock.seconds
        edge = adjacency * jnp.where(rules.network_weight > 0.0, 1.0, 0.0)

        # Who is believed: judged on the receiver's own data, never on claims.
        has_data = (jnp.max(insight.valid, axis=-1) > 0.0) | (demand.count > 0.0)
        listening = (
            jnp.where(edge > 0.0, 1.0, 0.0) * jnp.where(has_data, 1.0, 0.0)[None]
        )
        error = trust_lib.value_error(mine, insight)
        if by_sender:
            advice = trust_lib.coefficients(demand, base_prior)
            error = error + trust_lib.demand_error(own.demand, advice)
        trust = trust_lib.update_trust(trust, error, listening, hyper.weights)
        edge_weight = weights.edge_factor(
            edge * listening,
            trust,
            own.performance,
            claims.performance,
            hyper.weights,
        )
        weight = weights.sender_weight(insight, now, rules, hyper.weights)

        value, value_weight = estimate(
            Round(
                sent=insight,
                own=mine,
                edge=edge_weight,
                weight=weight,
                hyper=rules,
                now=now,
                annealing=weights.annealing(own_steps, rules.value_half_life)[:, None],
                aggregate=aggregate,
            )
        )
        entropy, mass = aggregate(
            edge_weight, weight, insight.entropy, mine.entropy, mine.valid
        )
        trend, _ = weighted_mean(edge_weight, weight, claims.trend)

        # Demand has no cells: what is out of date as a whole is not heard.
        stamps = received.insight.timestamp
        newest = jnp.max(jnp.where(jnp.isfinite(stamps), stamps, -jnp.inf), axis=-1)
        current = weights.temporal(now, newest, rules.recency_tau_s, rules.age_max_s)
        told = edge_weight * jnp.where(current > 0.0, 1.0, 0.0)[None]
        if by_sender:
            told = screen_demand(
                told, demand, own.demand, base_prior, aggregator, byzantine_fraction
            )
        prior, has_prior = pool(told, demand, base_prior)

        guidance = Guidance(
            value=jnp.where(value_weight > 0.0, value, 0.0),
            value_weight=value_weight,
            entropy=entropy,
            std_weight=weights.network_share(rules, jnp.where(mass > 0.0, 1.0, 0.0)),
            trend=trend,
            prior=prior,
            has_prior=has_prior,
        )
        weighing = _weighing(edge_weight, mass, trust, listening)
        return jax.lax.stop_gradient(RoundResult(guidance, trust, weighing))

    return exchange


def each_receiver(exchange: Exchange) -> Exchange:
    """The same round where every receiver was told something else.

    Args:
      exchange: a round from ``make_exchange``.

    Returns:
      The round for ``received`` with leaves [I, J, ...].
    """

    def one(
        received: Received,
        own: LocalSummary,
        adjacency: Array,
        trust: Array,
        hyper: Hyper,
        clock: Clock,
        own_steps: Array,
    ) -> RoundResult:
        own, adjacency, trust, own_steps = jax.tree.map(
            lambda leaf: leaf[None], (own, adjacency, trust, own_steps)
        )
        heard = exchange(received, own, adjacency, trust, hyper, clock, own_steps)
        return jax.tree.map(lambda leaf: leaf[0], heard)

    return jax.vmap(one, (0, 0, 0, 0, None, None, 0))


def _weighing(
    edge_weight: Array, mass: Array, trust: Array, listening: Array
) -> AggregationMetrics:
    heard = listening > 0.0
    highest = jnp.max(jnp.where(heard, trust, 0.0), axis=-1)
    lowest = jnp.min(jnp.where(heard, trust, jnp.inf), axis=-1)
    any_heard = jnp.any(heard, axis=-1)
    ratio = jnp.where(any_heard, lowest, 0.0) / jnp.where(any_heard, highest, 1.0)
    return AggregationMetrics(
        coverage=weights.coverage(mass),
        neighbours=weights.effective_neighbours(edge_weight),
        largest_share=weights.largest_share(edge_weight),
        lowest_trust=ratio,
    )


def _base_prior(edge: Array, _: DemandSummary, base: BasePrior) -> tuple[Prior, Array]:
    """Demand is not shared: the base prior for every receiver."""
    receivers = edge.shape[0]

    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (receivers, *jnp.shape(x)))

    return jax.tree.map(repeat, base.prior), jnp.zeros((receivers,))


def _check(field: str, name: str, allowed: dict) -> None:
    if name not in allowed:
        raise ConfigError(f"{field}={name!r} must be one of: {', '.join(allowed)}")


def _check_shapes(
    received: Received, own: LocalSummary, edge: Array, action_dim: int
) -> None:
    """Refuses arrays that do not fit together, when the round is traced."""
    sent = received.insight
    (senders, cells), receivers = sent.valid.shape, own.insight.valid.shape[0]
    expected = {
        "adjacency": (edge.shape, (receivers, senders)),
        "own insight": (own.insight.valid.shape, (receivers, cells)),
        "action_mean": (sent.action_mean.shape, (senders, cells, action_dim)),
    }
    for name, (shape, wanted) in expected.items():
        if shape != wanted:
            raise ValueError(f"{name} has shape {shape}, expected {wanted}")


POOLINGS: dict[str, PriorPool] = {
    "prior": pooling_lib.neighbour_prior,
    "pooled": pooling_lib.pooled_prior,
    "none": _base_prior,
}
