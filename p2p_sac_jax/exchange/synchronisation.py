"""What a round costs. Rounds fall on every ``exchange.interval``-th step."""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.exchange.privacy import payload_bytes
from p2p_sac_jax.types import Array, Message


def bytes_received(messages: Message, adjacency: Array, network_weight: Array) -> Array:
    """Payload bytes that reach each receiver in one round.

    Args:
      messages: of all senders, leaves [J, ...]. One without content, from a peer
        that has no data yet, is not sent.
      adjacency: [I, J] of the round; any positive edge carries a whole message.
      network_weight: []; where it is 0 nobody listens and nothing is sent.

    Returns:
      [I] float32. The sum over receivers is what has left the senders.
    """
    has_values = messages.insight.valid.max(axis=-1) > 0.0
    sent = has_values | (messages.demand.count > 0.0)  # [J]
    carried = jnp.where(adjacency > 0.0, 1.0, 0.0) @ jnp.where(sent, 1.0, 0.0)
    size = payload_bytes(messages) // messages.insight.valid.shape[0]
    return jnp.where(network_weight > 0.0, size * carried, 0.0)
