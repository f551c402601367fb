"""Modes of the network: what may leave a peer, a type of message for each.

A field that must not leave does not exist in the mode's type, so no later change can
let it slip out.

* private: everything in full, between peers of one owner.
* consortium: coarse, clipped and noised values, entropies in full, demand coefficients
  out of noised sums.
* public: the direction values move in, one noised entropy, noised coefficients of
  which a receiver reads only the mean over several peers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.exchange.messages.base import Mode, Setting, payload_bytes
from p2p_sac_jax.exchange.messages.consortium import ConsortiumMessage, make_consortium
from p2p_sac_jax.exchange.messages.private import PrivateMessage, make_private
from p2p_sac_jax.exchange.messages.public import PublicMessage, make_public

__all__ = [
    "MODES",
    "ConsortiumMessage",
    "Mode",
    "PrivateMessage",
    "PublicMessage",
    "make_mode",
    "payload_bytes",
]


class ModeEntry(NamedTuple):
    """One mode of the registry."""

    message: type  # of one peer, a NamedTuple; its fields are all that may leave
    make: Callable[[Setting], Mode]


MODES = {
    "private": ModeEntry(PrivateMessage, make_private),
    "consortium": ModeEntry(ConsortiumMessage, make_consortium),
    "public": ModeEntry(PublicMessage, make_public),
}


def make_mode(
    config: TrainConfig,
    *,
    num_cells: int,
    cells_per_group: int,
    action_dim: int,
    base_prior: BasePrior,
) -> Mode:
    """Builds the mode a configuration asks for.

    Args:
      config: ``exchange.mode`` names it; sections exchange, memory and privacy are
        read.
      num_cells: K, size of the public codebook of context cells.
      cells_per_group: this many consecutive cells make one of the coarser grid.
      action_dim: A.
      base_prior: demand prior of a peer that knows nothing, NumPy.

    Raises:
      ConfigError: the mode is unknown, or estimation needs what it does not carry.
    """
    name, value_sharing = config.exchange.mode, config.exchange.value_sharing
    if name not in MODES:
        raise ConfigError(f"exchange.mode={name!r} must be one of: {', '.join(MODES)}")
    if value_sharing == "scalar" and name != "private":
        raise ConfigError(
            f"exchange.mode={name!r} must be private with"
            " exchange.value_sharing='scalar', which reads raw values"
        )
    setting = Setting(config, num_cells, cells_per_group, action_dim, base_prior)
    return MODES[name].make(setting)
