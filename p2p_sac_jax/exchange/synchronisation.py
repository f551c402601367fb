"""When peers speak, and what it costs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from p2p_sac_jax.types import Array


def due(step: Any, interval: int) -> Any:
    """Whether a round falls on this step: every ``interval`` steps.

    Args:
      step: environment steps taken, an int or an integer array.
      interval: steps between rounds, at least 1.

    Returns:
      A truth value of the same kind; never at step 0, when nobody has data.
    """
    return (step > 0) & (step % interval == 0)


def bytes_shared(message_bytes: int, adjacency: Array) -> Array:
    """Bytes that leave each peer in one round: payload x receivers.

    Args:
      message_bytes: payload of one message.
      adjacency: [I, J] of the round; any positive edge carries a whole message.

    Returns:
      [J] float32.
    """
    receivers = jnp.sum(jnp.where(adjacency > 0.0, 1.0, 0.0), axis=0)
    return message_bytes * receivers
