"""What leaves a peer, by network mode."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.types import Message

_FLOAT_BYTES = 4


def _private(message: Message) -> Message:
    """Peers of one owner share everything in full."""
    return message


MODES: dict[str, Callable[[Message], Message]] = {"private": _private}
_PLANNED = ("consortium", "public")


def check_mode(mode: str) -> None:
    """Refuses a mode that would not protect what its name promises.

    Raises:
      ConfigError: ``mode`` is not in ``MODES``.
    """
    if mode not in MODES:
        raise ConfigError(
            f"exchange.mode={mode!r} must be one of: {', '.join(MODES)};"
            f" {' and '.join(_PLANNED)} are not available yet"
        )


def outbound(mode: str) -> Callable[[Message], Message]:
    """The function every message passes on its way out of a peer.

    Raises:
      ConfigError: ``mode`` is not in ``MODES``.
    """
    check_mode(mode)
    return MODES[mode]


def payload_bytes(message: Message) -> int:
    """Bytes of one peer's outbound message: float32 x elements.

    Args:
      message: one peer's, arrays or ``jax.ShapeDtypeStruct``s.

    Returns:
      A Python int, known when the program is traced.
    """
    leaves = jax.tree.leaves(message)
    return _FLOAT_BYTES * sum(math.prod(leaf.shape) for leaf in leaves)
