"""The simulated network of one run: adversity around the pure exchange.

On the sending side messages may be delayed or repeated; their state is a ``Channel``.
On the receiving side wrappers around the exchange remove edges and replace messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.exchange import ExchangeInputs, ExchangeResult, exchange_of
from p2p_sac_jax.exchange.messages import Mode
from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.exchange.topology import DYNAMIC
from p2p_sac_jax.simulation.attacks import byzantine, make_attack
from p2p_sac_jax.simulation.faults import (
    FaultPlan,
    delay,
    empty_queue,
    lossy,
    online,
)
from p2p_sac_jax.simulation.schedules import scheduled
from p2p_sac_jax.simulation.wrappers import Wrapper, chain, on_edges
from p2p_sac_jax.types import Array

# Streams of a run's own randomness, apart from any peer's.
_LOSS, _ATTACK = 0x10551, 0xA77AC


class Participation(NamedTuple):
    """When and how peers take part in the network; leaves [P] or []."""

    joins: Array  # int32 clock step from which a peer takes part
    byzantine: Array  # 1 if its messages are those of an attack
    plan: FaultPlan


class Conditions(NamedTuple):
    """The circumstances of one run's round of I receivers and J senders."""

    receivers: Participation  # [I]
    senders: Participation  # [J]
    partners: Any  # [I, C] int32 sender of round t mod C; () where all are senders
    seed: Array  # [] int32 of the run


class Channel(NamedTuple):
    """One sender's messages under way."""

    repeated: Any  # the message that a repeating peer sends; () without any
    queue: Any  # messages under way [D, ...], oldest first; () without delays


class SimulatedNetwork(NamedTuple):
    """Pure functions of one run's network."""

    # message (arrays or shapes) of one peer -> its channel before the first round
    init_channel: Callable[[Any], Channel]
    # (participation of one peer, releases allowed [], clock) -> releases allowed now
    allowed: Callable[[Participation, Array, Array], Array]
    # (channel, state after sending, sent [], participation) of one peer
    # -> channel, and the message that its neighbours can read in this round
    transmit: Callable[[Channel, SendState, Array, Participation], tuple[Channel, Any]]
    exchange: Callable[[ExchangeInputs, Conditions], ExchangeResult]


def make_simulated_network(
    config: TrainConfig, base_prior: BasePrior, mode: Mode
) -> SimulatedNetwork:
    """Builds the network of a validated configuration.

    Args:
      config: its sections exchange, memory, faults and attack are read.
      base_prior: demand prior of a peer that receives nothing.
      mode: what may leave a peer, and how it is read.
    """
    rules, faults = config.exchange, config.faults
    shared = None if config.memory.pooling == "none" else base_prior
    attack = make_attack(config.attack.kind, config.attack.strength, shared)
    repeats = attack is not None and attack.repeats
    exchange = exchange_of(config, base_prior, mode)

    def init_channel(message: Any) -> Channel:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), message)
        return Channel(zeros if repeats else (), empty_queue(message, faults.delay))

    def allowed(participation: Participation, releases: Array, clock: Array) -> Array:
        present = (clock >= participation.joins) & (
            online(participation.plan, clock) > 0.0
        )
        return jnp.where(present, releases, 0)

    def transmit(
        channel: Channel, state: SendState, sent: Array, participation: Participation
    ) -> tuple[Channel, Any]:
        message, repeated = state.message, channel.repeated
        if repeats:
            later = state.releases - sent.astype(jnp.int32) > 0
            again = (participation.byzantine > 0.0) & later
            repeated = message = jax.tree.map(
                lambda old, new: jnp.where(again, old, new), repeated, message
            )
        plan = participation.plan
        queue, message = delay(faults, channel.queue, message, plan.delayed)
        return Channel(repeated, queue), message

    def simulated(inputs: ExchangeInputs, conditions: Conditions) -> ExchangeResult:
        receivers, senders, partners, seed = conditions
        key, clock = jax.random.key(seed), inputs.clock
        loss_key = jax.random.fold_in(key, _LOSS)
        wrappers = [joined(receivers.joins, senders.joins)]
        if rules.topology in DYNAMIC:
            wrappers.append(scheduled(partners, clock // rules.interval))
        wrappers.append(lossy(faults, receivers.plan, senders.plan, loss_key))
        if attack is not None:
            attack_key = jax.random.fold_in(jax.random.fold_in(key, _ATTACK), clock)
            wrappers.append(byzantine(attack, senders.byzantine, attack_key))
        return chain(*wrappers)(exchange)(inputs)

    return SimulatedNetwork(init_channel, allowed, transmit, simulated)


def joined(receiver_joins: Array, sender_joins: Array) -> Wrapper:
    """Keeps the edges between peers that have joined by now.

    Args:
      receiver_joins: [I] int32 clock step from which each receiver takes part.
      sender_joins: [J] the same of the senders.
    """

    def edges(inputs: ExchangeInputs) -> Array:
        receiving = (inputs.clock >= receiver_joins).astype(jnp.float32)
        sending = (inputs.clock >= sender_joins).astype(jnp.float32)
        return receiving[:, None] * inputs.edges * sending[None]

    return on_edges(edges)
