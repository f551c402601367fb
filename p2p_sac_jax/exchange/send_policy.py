"""When one peer speaks, what it remembers of speaking, and what a round costs.

Rounds fall on every ``exchange.interval``-th step. At a round a peer may speak or
stay silent; its neighbours go on with the last message they hold, which grows old.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.config import FaultsConfig
from p2p_sac_jax.exchange.insight import normalise
from p2p_sac_jax.hyper import SynchronisationHyper
from p2p_sac_jax.simulation.faults import delay, empty_queue
from p2p_sac_jax.types import Array, LocalSummary


class Outbox(NamedTuple):
    """What one peer remembers of its own sending."""

    held: Any  # the wire message its neighbours hold, zeros before the first
    held_value: Array  # [K] own state values when it left
    sent_at: Array  # [] int32 clock step at which it left
    releases: Array  # [] int32 messages that have left so far
    past_value: Array  # [W, K] state values of the last W rounds, oldest first
    past_valid: Array  # [W, K] 1 where there was a value
    queue: Any  # messages under way [D, ...], oldest first; () without delays


class SendConditions(NamedTuple):
    """On what terms one peer takes part in one round."""

    active: Array  # [] 1 if it takes part at all
    connected: Array  # [] 1 if anybody may hear it
    delayed: Array  # [] 1 if its messages arrive late
    frozen: Array  # [] 1 if it repeats its first message for ever (an attack)
    allowed: Array  # [] int32 messages its privacy budget pays for


def empty_outbox(wire: Any, num_cells: int, window: int, rounds: int) -> Outbox:
    """Nothing has been said yet.

    Args:
      wire: shapes of the mode's outbound message of one peer.
      num_cells: K.
      window: W, rounds that a trend looks back.
      rounds: D, rounds that a delayed message takes.
    """
    silent = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), wire)
    past = jnp.zeros((window, num_cells))
    zero = jnp.zeros((), jnp.int32)
    return Outbox(
        held=silent,
        held_value=jnp.zeros((num_cells,)),
        sent_at=zero,
        releases=zero,
        past_value=past,
        past_valid=past,
        queue=empty_queue(silent, rounds),
    )


def publish(
    outbox: Outbox,
    wire: Any,
    own: LocalSummary,
    send_conditions: SendConditions,
    hyper: SynchronisationHyper,
    faults: FaultsConfig,
    round_index: Array,
    clock: Array,
) -> tuple[Outbox, Any, Array]:
    """One peer's turn at one round: speak or not, and what arrives of it.

    A peer speaks if it has something to say, tokens and privacy budget left, and
    either its values have moved by more than ``threshold`` or ``max_interval`` steps
    have passed. The defaults, 0 and 0, speak at every round; a threshold of 0 with a
    longest interval is a fixed timer; both together are event-triggered sharing.

    Args:
      outbox: before the round.
      wire: the mode's message of this moment.
      own: the peer's full knowledge; stays home.
      send_conditions: see ``SendConditions``.
      hyper: threshold, max_interval [steps], tokens and refill.
      faults: delay, which is static.
      round_index: [] int32 rounds since the start.
      clock: [] int32 steps since the start.

    Returns:
      The outbox after the round; the wire message that neighbours can read now; and
      1 if a message left in this round, else 0.
    """
    insight = own.insight
    elapsed = clock - outbox.sent_at
    moved = relative_change(own, outbox.held_value) > hyper.threshold
    due = moved & (hyper.threshold > 0.0)
    due |= elapsed >= hyper.max_interval
    earned = hyper.tokens + hyper.refill * round_index
    affordable = (hyper.tokens == 0.0) | (earned - outbox.releases >= 1.0)
    affordable &= outbox.releases < send_conditions.allowed
    taking_part = (send_conditions.active > 0.0) & (send_conditions.connected > 0.0)
    sending = taking_part & due & affordable & has_content(own)

    fresh = sending & ((send_conditions.frozen == 0.0) | (outbox.releases == 0))
    held = _select(fresh, wire, outbox.held)
    queue, carried = delay(faults, outbox.queue, held, send_conditions.delayed)

    def remember(past: Array, now: Array) -> Array:
        return jnp.concatenate([past[1:], now[None]])

    after = Outbox(
        held=held,
        held_value=jnp.where(sending, insight.state_value, outbox.held_value),
        sent_at=jnp.where(sending, clock, outbox.sent_at),
        releases=outbox.releases + sending.astype(jnp.int32),
        past_value=remember(outbox.past_value, insight.state_value),
        past_valid=remember(outbox.past_valid, insight.valid),
        queue=queue,
    )
    return after, carried, sending.astype(jnp.float32)


def relative_change(own: LocalSummary, held_value: Array) -> Array:
    """How far own values have moved since they were told.

    Args:
      own: a peer's knowledge, fields [K].
      held_value: [K] its values when it last spoke.

    Returns:
      [] root mean square over cells with data, in units of the spread of values.
    """
    insight = own.insight
    _, _, scale = normalise(insight)
    moved = jnp.where(insight.valid > 0.0, insight.state_value - held_value, 0.0)
    cells = jnp.maximum(jnp.sum(insight.valid), 1.0)
    return jnp.sqrt(jnp.sum(jnp.square(moved)) / cells) / scale


def has_content(own: LocalSummary) -> Array:
    """[] whether a peer has any data to speak of."""
    return (jnp.max(own.insight.valid) > 0.0) | (own.demand.count > 0.0)


def bytes_received(size: int, sending: Array, edge: Array) -> Array:
    """Payload bytes that leave for each receiver in one round.

    Args:
      size: bytes of one message.
      sending: [J] 1 for the senders that spoke in this round.
      edge: [I, J] of the round; any positive edge carries a whole message.

    Returns:
      [I] float32. The sum over receivers is what has left the senders.
    """
    carried = jnp.where(edge > 0.0, 1.0, 0.0) @ sending
    return size * carried


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
