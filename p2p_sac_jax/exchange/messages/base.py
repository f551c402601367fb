"""What every mode of the network is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.privacy.accountant import Releases
from p2p_sac_jax.types import Array, DemandSummary, MessageInputs, Prior, Received

PriorPool = Callable[[Array, DemandSummary, BasePrior], tuple[Prior, Array]]

_FLOAT_BYTES = 4


class Mode(NamedTuple):
    """What leaves a peer, and what receivers read out of it.

    ``encode(inputs, key, round_index, clock_s)`` writes the message of ONE peer.
    ``key`` is the peer's own and the same in every round: the mode folds the round
    in itself, since noise of running sums is drawn anew from its first round on.
    ``round_index`` is [] int32, not negative, ``clock_s`` [] seconds.

    ``decode(messages)`` reads the messages of J peers, leaves [J, ...]. ``clamp``
    brings what was read back to what the mode's messages can hold, leaves [J, ...]: a
    byzantine sender may not apply the bounds that an honest sender applies.

    ``releases()`` declares for the privacy accountant what one message releases.
    """

    name: str
    encode: Callable[[MessageInputs, Array, Array, Array], Any]
    decode: Callable[[Any], Received]
    releases: Callable[[], Releases]
    clamp: Callable[[Received], Received] = lambda received: received
    pool: PriorPool | None = None  # in place of ``memory.pooling``, where not None


class Setting(NamedTuple):
    """What a mode is built from; static."""

    config: TrainConfig
    num_cells: int  # K
    cells_per_group: int
    action_dim: int  # A
    base_prior: BasePrior  # of F coefficients, NumPy

    @property
    def rounds(self) -> int:
        """Number of rounds of the run, and of a block of noise."""
        return rounds(self.config)

    @property
    def num_features(self) -> int:
        """F; 0 where the memory knows no demand coefficients."""
        return self.base_prior.size

    @property
    def shares_values(self) -> bool:
        """Whether anybody would read values."""
        return self.config.exchange.value_sharing != "none"

    @property
    def shares_entropies(self) -> bool:
        """Whether anybody would read entropies."""
        return self.config.exchange.entropy_sharing

    @property
    def shares_demand(self) -> bool:
        """Whether there are demand coefficients, and anybody would read them."""
        return self.num_features > 0 and self.config.memory.pooling != "none"


def rounds(config: TrainConfig) -> int:
    """See ``Setting.rounds``."""
    return max(1, config.steps // config.exchange.interval)


def payload_bytes(wire: Any) -> int:
    """Bytes of one peer's outbound message: float32 x elements.

    Args:
      wire: one peer's, arrays or ``jax.ShapeDtypeStruct``s.

    Returns:
      A Python int, known when the program is traced.
    """
    leaves = jax.tree.leaves(wire)
    return _FLOAT_BYTES * sum(math.prod(leaf.shape) for leaf in leaves)


def group_of_cell(num_cells: int, cells_per_group: int) -> np.ndarray:
    """Group ``[K]`` of each cell; the last group may be smaller."""
    return np.arange(num_cells, dtype=np.int32) // cells_per_group


def stream(key: Array, stage: int, round_index: Array) -> Array:
    """Key of one use of randomness in one round."""
    return jax.random.fold_in(jax.random.fold_in(key, stage), round_index)


def no_demand(num_features: int) -> DemandSummary:
    """The summary of a peer without demand data, leaves ``[F, F]``, ``[F]``, ``[]``."""
    return DemandSummary(
        jnp.zeros((num_features, num_features)), jnp.zeros(num_features), jnp.zeros(())
    )


def diagonal_summary(mean: Array, precision: Array, count: Array) -> DemandSummary:
    """Independent evidence on each coefficient, nothing where ``count`` is 0.

    Args:
      mean: ``[F]`` the coefficients that the evidence points at.
      precision: ``[F]`` of the evidence, not negative.
      count: ``[]`` steps behind it.
    """
    precision = jnp.where(count > 0.0, precision, 0.0)
    identity = np.eye(mean.shape[-1], dtype=np.float32)
    return DemandSummary(identity * precision[None], precision * mean, count)
