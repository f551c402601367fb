"""The network of one run: who can hear whom this round, lies included.

Between what peers say and what each makes of it lie the wire format of the mode, the
edges of the round, and whatever faults and attacks the configuration asks for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.exchange import (
    AggregationMetrics,
    Clock,
    each_receiver,
    make_exchange,
)
from p2p_sac_jax.exchange.messages import Mode, payload_bytes
from p2p_sac_jax.exchange.send_policy import SendConditions, bytes_received
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.simulation.attacks import make_attack
from p2p_sac_jax.simulation.faults import FaultPlan, online, surviving
from p2p_sac_jax.simulation.schedules import DYNAMIC, edges_of_round
from p2p_sac_jax.types import Array, Guidance, LocalSummary, Received

# Streams of a run's own randomness, apart from any peer's.
_LOSS, _ATTACK = 0x10551, 0xA77AC


class Participation(NamedTuple):
    """When and how peers take part in the network; leaves [P] or []."""

    joins: Array  # int32 clock step from which a peer takes part
    byzantine: Array  # 1 if it lies
    plan: FaultPlan


class Broadcast(NamedTuple):
    """All that travels in a round; leaves [J, ...]."""

    wire: Any  # as the mode writes it
    sending: Array  # [J] 1 if the message left in this round, 0 if it is an old one


class Receivers(NamedTuple):
    """The receivers' side of a round; leaves [I, ...]."""

    own: LocalSummary  # what they know themselves
    adjacency: Array  # [I, J]
    trust: Array  # [I, J]
    steps: Array  # [I] own real steps
    sending: Array  # [I] 1 if they spoke themselves
    releases: Array  # [I] messages they have sent so far


class RoundInfo(NamedTuple):
    """What is the same in all runs of a round."""

    receivers: Participation  # [I]
    partners: Any  # [I, C] int32 sender heard in round t mod C; () if all are
    senders: Participation  # [J]
    clock: Array  # [] int32


class ExchangeMetrics(NamedTuple):
    """What happened to each receiver in a round; leaves [I]."""

    sent: Array  # 1 if it spoke
    releases: Array  # messages it has sent so far
    bytes_received: Array
    has_prior: Array  # 1 where the network informed its demand prior
    weighing: AggregationMetrics


class Network(NamedTuple):
    """Pure functions of one run's network."""

    # (presence of one peer, connected [], allowed [], clock) -> Terms
    send_conditions: Any
    # (said [J], listeners [I], hyper, seed [], moment) -> guidance, trust, report [I]
    listen: Any


def make_network(
    config: TrainConfig, action_dim: int, base_prior: BasePrior, mode: Mode
) -> Network:
    """Builds the network of a validated configuration.

    Args:
      config: its sections exchange, memory, faults and attack are read.
      action_dim: A.
      base_prior: demand prior of a peer that hears nothing.
      mode: what may leave a peer, and how it is read.
    """
    rules, faults = config.exchange, config.faults
    exchange = make_exchange(
        rules.value_sharing,
        mode.pool or config.memory.pooling,
        action_dim,
        base_prior,
        rules.aggregator,
        rules.byzantine_fraction,
    )
    attack = make_attack(config.attack.kind, config.attack.strength)
    # A liar keeps to no bounds; what a receiver can read has them all the same.
    per_receiver = attack is not None and attack.per_receiver
    bound = jax.vmap(mode.bound) if per_receiver else mode.bound
    if per_receiver:
        exchange = each_receiver(exchange)
    repeats = config.attack.kind == "replay"
    seconds_per_step = config.environment.seconds_per_step

    def send_conditions(
        presence: Participation, connected: Array, allowed: Array, clock: Array
    ) -> SendConditions:
        listened_to = connected * online(presence.plan, clock)
        frozen = presence.byzantine if repeats else jnp.zeros_like(presence.byzantine)
        return SendConditions(
            active=(clock >= presence.joins).astype(jnp.float32),
            connected=listened_to,
            delayed=presence.plan.delayed,
            frozen=frozen,
            allowed=allowed,
        )

    def listen(
        broadcast: Broadcast,
        listeners: Receivers,
        hyper: Hyper,
        seed: Array,
        round_info: RoundInfo,
    ) -> tuple[Guidance, Array, ExchangeMetrics]:
        clock, own = round_info.clock, listeners.own
        key = jax.random.key(seed)
        edges = _present(listeners.adjacency, round_info)
        if rules.topology in DYNAMIC:
            round_index = clock // rules.interval
            edges = edges_of_round(edges, round_info.partners, round_index)
        edges = surviving(
            faults,
            edges,
            round_info.receivers.plan,
            round_info.senders.plan,
            jax.random.fold_in(key, _LOSS),
            clock,
        )
        edges = edges * jnp.where(hyper.exchange.network_weight > 0.0, 1.0, 0.0)
        received = mode.inbound(broadcast.wire)
        now = clock * seconds_per_step
        if attack is not None:
            received = attack.transform(
                received,
                _as_received(own),
                edges,
                round_info.senders.byzantine,
                jax.random.fold_in(jax.random.fold_in(key, _ATTACK), clock),
                now,
            )
        heard = exchange(
            bound(received),
            own,
            edges,
            listeners.trust,
            hyper,
            Clock(clock, now),
            listeners.steps,
        )
        size = payload_bytes(jax.tree.map(lambda leaf: leaf[0], broadcast.wire))
        report = ExchangeMetrics(
            sent=listeners.sending,
            releases=listeners.releases.astype(jnp.float32),
            bytes_received=bytes_received(size, broadcast.sending, edges),
            has_prior=heard.guidance.has_prior,
            weighing=heard.weighing,
        )
        return heard.guidance, heard.trust, report

    return Network(send_conditions, listen)


def _present(adjacency: Array, round_info: RoundInfo) -> Array:
    """Edges [I, J] between peers that have joined by now."""
    listening = (round_info.clock >= round_info.receivers.joins).astype(jnp.float32)
    speaking = (round_info.clock >= round_info.senders.joins).astype(jnp.float32)
    return listening[:, None] * adjacency * speaking[None]


def _as_received(own: LocalSummary) -> Received:
    """What peers know themselves, in the form in which they read others."""
    insight, demand, performance = own
    return Received(insight, demand, performance, jnp.zeros_like(insight.valid))
