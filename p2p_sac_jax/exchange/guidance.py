"""What a peer does with guidance: explore and bootstrap with the network."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp

from p2p_sac_jax.types import Array, Guidance

_UNIT_ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e)  # nats of a unit Gaussian
_MIN_STD = math.exp(-5.0)  # bounds of the behaviour std before the tanh
_MAX_STD = math.exp(1.0)
_LOG_STD_RANGE = 20.0  # keeps a claimed entropy from overflowing the exponential


def network_std(entropy: Array, action_dim: int) -> Array:
    """Std per action dimension of a Gaussian with that entropy.

    Args:
      entropy: [...] nats, of the Gaussian before the tanh, over all dimensions.
      action_dim: A, the dimensions it is spread over.

    Returns:
      [...] std before the tanh: exp(H/A - ½ ln 2πe).
    """
    log_std = entropy / action_dim - _UNIT_ENTROPY
    return jnp.exp(jnp.clip(log_std, -_LOG_STD_RANGE, _LOG_STD_RANGE))


def exploration_std(
    local_std: Array,
    guidance: Guidance,
    cell: Array,
    bonus: Array,
    hyper_beta: Array,
    action_dim: int,
) -> Array:
    """Behaviour std of one peer in one state, before the tanh.

    ((1-w)·local + w·network_std) · (1 + β·w·bonus), clipped to [e^-5, e]; where the
    network is silent (w = 0) ``local_std`` comes back untouched, bit for bit.

    Args:
      local_std: [A] the peer's own exploration.
      guidance: of one peer.
      cell: [] int32 cell of the state.
      bonus: [] in [0, 1], what is still unknown of the proposed action's reward.
      hyper_beta: [] β, weight of the bonus.
      action_dim: A.

    Returns:
      [A].
    """
    w = guidance.std_weight[cell]
    shared = network_std(guidance.entropy[cell], action_dim)
    mixed = ((1.0 - w) * local_std + w * shared) * (1.0 + hyper_beta * w * bonus)
    return jnp.where(w > 0.0, jnp.clip(mixed, _MIN_STD, _MAX_STD), local_std)


def bootstrap(guidance: Guidance, cells: Array) -> Callable[[Array], Array]:
    """Mixes the network's value into the next states' own.

    Enhanced target y = r + discount·[(1-w) V(s') + w U(s')]: the entropy term is
    inside V, once. Where w = 0 the own value passes bit for bit.

    Args:
      guidance: of one peer.
      cells: [B] int32 cells of the next states.

    Returns:
      A function from own values v [B] to bootstrap values [B].
    """
    w = guidance.value_weight[cells]
    u = guidance.value[cells]

    def mix(v: Array) -> Array:
        return jnp.where(w > 0.0, (1.0 - w) * v + w * u, v)

    return mix
