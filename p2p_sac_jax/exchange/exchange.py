"""One round of exchange: from the messages received to each receiver's guidance.

Three channels share the same edge weights: values (by ``exchange.value_sharing``),
entropy and trend (for exploration), and demand (for the prior of the price memory).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.exchange import demand_prior, weights
from p2p_sac_jax.exchange import trust as trust_lib
from p2p_sac_jax.exchange.aggregators import AGGREGATORS, weighted_mean
from p2p_sac_jax.exchange.messages.base import Mode, PriorPool
from p2p_sac_jax.exchange.sanitize import sanitize_insight, sanitize_received
from p2p_sac_jax.exchange.screening import screen_demand
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING, ValueSharingInputs
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.types import (
    Array,
    DemandSummary,
    Guidance,
    Insight,
    LocalSummary,
    Prior,
    Received,
)


class ExchangeInputs(NamedTuple):
    """One round of J senders and I receivers."""

    received: Received  # [J, ...]
    own: LocalSummary  # [I, ...]
    edges: Array  # [I, J] non-negative; 0 where i does not receive from j
    trust: Array  # [I, J] before the round
    own_steps: Array  # [I] real steps that each receiver has taken
    hyper: Hyper
    clock: Array  # [] int32 environment steps since the start
    now: Array  # [] seconds on the shared clock


class ExchangeMetrics(NamedTuple):
    """How one receiver weighed its senders; leaves [I]."""

    coverage: Array  # share of context cells with a message from anyone
    neighbours: Array  # effective number of neighbours, (Σw)²/Σw²
    largest_share: Array  # of one neighbour in the total weight
    lowest_trust: Array  # of a sender with data, relative to the most trusted
    has_prior: Array  # 1 where the network informed the demand prior


class ExchangeResult(NamedTuple):
    """What a round leaves with I receivers."""

    guidance: Guidance  # [I, ...]
    trust: Array  # [I, J] after the round
    metrics: ExchangeMetrics  # [I]
    edges: Array  # [I, J] over which messages arrived


MIN_SENDERS = 3  # of a cell, before their entropies are read

Exchange = Callable[[ExchangeInputs], ExchangeResult]
DemandPool = Callable[[Array, DemandSummary, DemandSummary], tuple[Prior, Array]]


def exchange_of(config: TrainConfig, base_prior: BasePrior, mode: Mode) -> Exchange:
    """The round that a validated configuration names, for messages of ``mode``."""
    return make_exchange(
        base_prior,
        value_sharing=config.exchange.value_sharing,
        entropy_sharing=config.exchange.entropy_sharing,
        pooling=mode.pool or config.memory.pooling,
        aggregator=config.exchange.aggregator,
        byzantine_fraction=config.exchange.byzantine_fraction,
        clamp=mode.clamp,
    )


def make_exchange(
    base_prior: BasePrior,
    *,
    value_sharing: str,
    pooling: str | PriorPool,
    entropy_sharing: bool = False,
    aggregator: str = "mean",
    byzantine_fraction: float = 0.0,
    clamp: Callable[[Received], Received] = lambda received: received,
) -> Exchange:
    """Builds the round.

    Args:
      base_prior: demand prior of a peer that receives nothing.
      value_sharing: how values are shared, a key of ``VALUE_SHARING``.
      pooling: how demand is shared, a key of ``POOLINGS``, or the function itself.
      entropy_sharing: whether entropies are aggregated, in cells of which at least
        ``MIN_SENDERS`` peers send: of fewer a single one decides.
      aggregator: how several messages become one, a key of ``AGGREGATORS``.
      byzantine_fraction: share of neighbours that a robust aggregator may lose.
      clamp: brings what was received back to what the mode's messages can hold.

    Returns:
      ``exchange(inputs) -> ExchangeResult``. No gradient passes. A receiver without
      senders gets weights of exactly 0, ``base_prior`` itself and its trust back; so
      does every receiver if ``network_weight`` is 0.

    Raises:
      ConfigError: a name is unknown.
    """
    by_sender = isinstance(pooling, str)
    _check("exchange.value_sharing", value_sharing, VALUE_SHARING)
    _check("exchange.aggregator", aggregator, AGGREGATORS)
    pool = make_demand_pool(base_prior, pooling)
    share_values = VALUE_SHARING[value_sharing].estimate
    aggregate = partial(AGGREGATORS[aggregator], byzantine_fraction=byzantine_fraction)

    def exchange(inputs: ExchangeInputs) -> ExchangeResult:
        hyper, now = inputs.hyper, inputs.now
        arrived = clamp(inputs.received)
        received = sanitize_received(arrived, base_prior.record_scale, inputs.clock)
        insight, demand = received.insight, received.demand
        own_insight = sanitize_insight(inputs.own.insight)
        on = jnp.where(hyper.exchange.network_weight > 0.0, 1.0, 0.0)
        edges = inputs.edges * on

        # Trust is judged on the receiver's own data, never on what a sender states.
        has_data = (jnp.max(insight.valid, axis=-1) > 0.0) | (demand.count > 0.0)
        present = jnp.where(edges > 0.0, 1.0, 0.0) * jnp.where(has_data, 1.0, 0.0)[None]
        error = trust_lib.value_error(own_insight, insight)
        if by_sender:
            theta, _ = trust_lib.coefficients(demand, base_prior)
            error = error + trust_lib.demand_error(inputs.own.demand, theta)
        trust = trust_lib.update_trust(inputs.trust, error, present, hyper.weights)

        # The weight of a message: edge [I, J] x sender [J, K].
        edge_weight = weights.edge_factor(
            edges * present,
            trust,
            inputs.own.performance,
            received.performance,
            hyper.weights,
        )
        sender_weight = weights.sender_weight(
            insight, now, hyper.exchange, hyper.weights
        )

        value, value_weight = share_values(
            ValueSharingInputs(
                received=insight,
                own=own_insight,
                edge_weight=edge_weight,
                sender_weight=sender_weight,
                hyper=hyper.exchange,
                now=now,
                annealing=_annealing(inputs),
                aggregate=aggregate,
            )
        )
        trend, mass = weighted_mean(edge_weight, sender_weight, received.trend)
        reached = jnp.where(mass > 0.0, 1.0, 0.0)
        std_weight = weights.network_share(hyper.exchange, reached)
        entropy = entropy_weight = jnp.zeros_like(mass)
        if entropy_sharing:
            entropy, found = aggregate(
                edge_weight,
                sender_weight,
                insight.entropy,
                own_insight.entropy,
                own_insight.valid,
            )
            enough = weights.senders(edge_weight, sender_weight) >= MIN_SENDERS
            entropy_weight = jnp.where(enough & (found > 0.0), std_weight, 0.0)
        demand_weight = _current(edge_weight, arrived.insight, inputs)
        prior, has_prior = pool(demand_weight, demand, inputs.own.demand)

        guidance = Guidance(
            value=jnp.where(value_weight > 0.0, value, 0.0),
            value_weight=value_weight,
            entropy=entropy,
            entropy_weight=entropy_weight,
            std_weight=std_weight,
            trend=trend,
            prior=prior,
            has_prior=has_prior,
        )
        metrics = ExchangeMetrics(
            coverage=weights.coverage(mass),
            neighbours=weights.effective_neighbours(edge_weight),
            largest_share=weights.largest_share(edge_weight),
            lowest_trust=_lowest_trust(trust, present > 0.0),
            has_prior=has_prior,
        )
        return jax.lax.stop_gradient(ExchangeResult(guidance, trust, metrics, edges))

    return exchange


def make_demand_pool(base_prior: BasePrior, pooling: str | PriorPool) -> DemandPool:
    """Builds the demand channel of a round; arguments as for ``make_exchange``.

    Returns:
      A function of edge weights [I, J], received demand [J] and own demand [I]: the
      priors [I], and 1 where the network informs them.

    Raises:
      ConfigError: the pooling is unknown.
    """
    if not isinstance(pooling, str):
        # A mode with a pool of its own reads means alone: no sender can be left out.
        return lambda weight, demand, own: pooling(weight, demand, base_prior)
    _check("memory.pooling", pooling, POOLINGS)
    pool = POOLINGS[pooling]

    def screened(
        weight: Array, demand: DemandSummary, own: DemandSummary
    ) -> tuple[Prior, Array]:
        return pool(screen_demand(weight, demand, own, base_prior), demand, base_prior)

    return screened


def _annealing(inputs: ExchangeInputs) -> Array:
    """[I, 1] share left to the network's values after each receiver's own steps."""
    half_life = inputs.hyper.exchange.value_half_life
    return weights.annealing(inputs.own_steps, half_life)[:, None]


def _current(edge_weight: Array, insight: Insight, inputs: ExchangeInputs) -> Array:
    """Edge weights [I, J] of demand: 0 for senders whose newest cell is out of date.

    Demand has no cells, so it is as old as the newest of the message.
    """
    rules, stamps = inputs.hyper.exchange, insight.timestamp
    newest = jnp.max(jnp.where(jnp.isfinite(stamps), stamps, -jnp.inf), axis=-1)
    current = weights.temporal(inputs.now, newest, rules.recency_tau_s, rules.age_max_s)
    return edge_weight * jnp.where(current > 0.0, 1.0, 0.0)[None]


def _lowest_trust(trust: Array, present: Array) -> Array:
    """[I] lowest trust in a sender that is present, relative to the highest."""
    highest = jnp.max(jnp.where(present, trust, 0.0), axis=-1)
    lowest = jnp.min(jnp.where(present, trust, jnp.inf), axis=-1)
    anyone = jnp.any(present, axis=-1)
    return jnp.where(anyone, lowest, 0.0) / jnp.where(anyone, highest, 1.0)


def _base_prior(edge: Array, _: DemandSummary, base: BasePrior) -> tuple[Prior, Array]:
    """Demand is not shared: the base prior for every receiver."""
    receivers = edge.shape[0]

    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (receivers, *jnp.shape(x)))

    return jax.tree.map(repeat, base.prior), jnp.zeros((receivers,))


def _check(field: str, name: str, allowed: dict) -> None:
    if name not in allowed:
        raise ConfigError(f"{field}={name!r} must be one of: {', '.join(allowed)}")


# How demand is shared: (edge weights [I, J], summaries [J], base) -> (priors, has [I]).
POOLINGS: dict[str, PriorPool] = {
    "prior": demand_prior.neighbour_prior,
    "pooled": demand_prior.pooled_prior,
    "none": _base_prior,
}
