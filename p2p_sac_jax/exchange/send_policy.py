"""When one peer sends, and what it keeps of its own sending.

Rounds fall on every ``exchange.interval``-th step. At a round a peer sends its message
or not; without a new message its neighbours keep the last one, which ages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.insight import normalise
from p2p_sac_jax.hyper import SynchronisationHyper
from p2p_sac_jax.types import Array, LocalSummary


class SendState(NamedTuple):
    """What one peer keeps of its own sending."""

    message: Any  # the last message sent, which its neighbours hold; zeros before
    value: Array  # [K] own state values when it was sent
    sent_at: Array  # [] int32 clock step at which it was sent
    releases: Array  # [] int32 messages sent so far
    past_value: Array  # [W, K] state values of the last W rounds, oldest first
    past_valid: Array  # [W, K] 1 where there was a value


def init_send_state(message: Any, num_cells: int, window: int) -> SendState:
    """The state before the first message.

    Args:
      message: shapes of the mode's message of one peer.
      num_cells: K.
      window: W, rounds that a trend looks back.
    """
    past = jnp.zeros((window, num_cells))
    zero = jnp.zeros((), jnp.int32)
    return SendState(
        message=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), message),
        value=jnp.zeros((num_cells,)),
        sent_at=zero,
        releases=zero,
        past_value=past,
        past_valid=past,
    )


def is_due(
    state: SendState,
    own: LocalSummary,
    hyper: SynchronisationHyper,
    round_index: Array,
    clock: Array,
) -> Array:
    """Whether one peer has reason and tokens to send in this round.

    It has reason if it has data and either its values have moved by more than
    ``threshold`` or ``max_interval`` steps have passed. The defaults, 0 and 0, send in
    every round; a threshold of 0 with a longest interval is a fixed timer; both
    together are event-triggered sharing.

    Args:
      state: before the round.
      own: everything the peer knows.
      hyper: threshold, max_interval [steps], tokens and refill.
      round_index: [] int32 rounds since the start.
      clock: [] int32 steps since the start.

    Returns:
      [] bool.
    """
    moved = relative_change(own, state.value) > hyper.threshold
    due = moved & (hyper.threshold > 0.0)
    due |= clock - state.sent_at >= hyper.max_interval
    earned = hyper.tokens + hyper.refill * round_index
    affordable = (hyper.tokens == 0.0) | (earned - state.releases >= 1.0)
    return due & affordable & has_content(own)


def after_round(
    state: SendState, message: Any, own: LocalSummary, sent: Array, clock: Array
) -> SendState:
    """The state after a round in which ``message`` was sent, or not.

    Args:
      state: before the round.
      message: the mode's message of this round.
      own: everything the peer knows.
      sent: [] bool, whether the message was sent.
      clock: [] int32 steps since the start.
    """
    insight = own.insight

    def append(past: Array, now: Array) -> Array:
        return jnp.concatenate([past[1:], now[None]])

    return SendState(
        message=jax.tree.map(
            lambda new, old: jnp.where(sent, new, old), message, state.message
        ),
        value=jnp.where(sent, insight.state_value, state.value),
        sent_at=jnp.where(sent, clock, state.sent_at),
        releases=state.releases + sent.astype(jnp.int32),
        past_value=append(state.past_value, insight.state_value),
        past_valid=append(state.past_valid, insight.valid),
    )


def relative_change(own: LocalSummary, sent_value: Array) -> Array:
    """How far own values have moved since the last message.

    Args:
      own: a peer's summary, fields [K].
      sent_value: [K] its values at the last message.

    Returns:
      [] root mean square over cells with data, in units of the spread of values.
    """
    insight = own.insight
    _, _, scale = normalise(insight)
    moved = jnp.where(insight.valid > 0.0, insight.state_value - sent_value, 0.0)
    cells = jnp.maximum(jnp.sum(insight.valid), 1.0)
    return jnp.sqrt(jnp.sum(jnp.square(moved)) / cells) / scale


def has_content(own: LocalSummary) -> Array:
    """[] bool, whether a peer has any data to share."""
    return (jnp.max(own.insight.valid) > 0.0) | (own.demand.count > 0.0)


def bytes_received(size: int, sent: Array, edges: Array) -> Array:
    """Payload bytes that travel to each receiver in one round.

    Args:
      size: bytes of one message.
      sent: [J] 1 for the senders of a new message in this round.
      edges: [I, J] of the round; any positive edge carries a whole message.

    Returns:
      [I] float32.
    """
    return size * (jnp.where(edges > 0.0, 1.0, 0.0) @ sent)
