"""What a peer does with guidance: explore and bootstrap with the network."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp

from p2p_sac_jax.hyper import ExplorationHyper
from p2p_sac_jax.types import Array, Guidance

_UNIT_ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e)  # nats of a unit Gaussian
_MIN_STD = math.exp(-5.0)  # bounds of the behaviour std before the tanh
_MAX_STD = math.exp(1.0)
_LOG_STD_RANGE = 20.0  # keeps a received entropy from overflowing the exponential


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
    hyper: ExplorationHyper,
    slope: Array,
) -> Array:
    """Behaviour std of one peer in one state, before the tanh.

    local^(1-v) · network_std^v · (1 + β·w·bonus'), clipped to [e^-5, e], with v the
    weight of entropies and w that of the network; without messages (w = 0)
    ``local_std`` comes back unchanged, bit for bit. Logarithms are mixed, and the
    network's std is held within the receiver's own bounds, wider only where its own
    spread is: whatever is sent, exploration stays what the receiver allows. Where
    neighbours' values rise there is more to find: bonus' is the bonus plus the trend.

    Args:
      local_std: [A] the peer's own exploration.
      guidance: of one peer.
      cell: [] int32 cell of the state.
      bonus: [] in [0, 1], what is still unknown of the proposed action's reward.
      hyper: bounds of the std in action units, and β, the weight of the bonus.
      slope: [A] action units per unit before the tanh.

    Returns:
      [A].
    """
    v, w = guidance.entropy_weight[cell], guidance.std_weight[cell]
    shared = network_std(guidance.entropy[cell], local_std.shape[-1])
    narrowest = jnp.minimum(local_std, hyper.std_min / slope)
    widest = jnp.maximum(local_std, hyper.std_max / slope)
    shared = jnp.clip(shared, narrowest, widest)
    mixed = jnp.exp((1.0 - v) * jnp.log(local_std) + v * jnp.log(shared))
    mixed = jnp.where(v > 0.0, mixed, local_std)
    rise = jnp.maximum(guidance.trend[cell], 0.0)
    bonus = jnp.where(rise > 0.0, jnp.clip(bonus + rise, 0.0, 1.0), bonus)
    mixed = mixed * (1.0 + hyper.bonus * w * bonus)
    return jnp.where(w > 0.0, jnp.clip(mixed, _MIN_STD, _MAX_STD), local_std)


def bootstrap(
    guidance: Guidance, cells: Array, use: str = "mix"
) -> Callable[[Array], Array]:
    """Brings the network's value U, of weight w, into the next states' own V.

    - ``mix``: (1-w)·V + w·U. The enhanced target is then y = r + discount ·
      [(1-w) V(s') + w U(s')]: the entropy term is inside V, once. Its fixed point is
      biased by at most γw/(1-γ(1-w)) · ‖U - V*‖.
    - ``max``: V + w·max(U - V, 0): the network can only raise a value. The bound is
      the same, with the largest excess of U over V* for the norm.
    - ``shaping`` and ``none``: V. Shaping acts on rewards, see ``shaped_reward``.

    Where w = 0 the own value passes bit for bit.

    Args:
      guidance: of one peer.
      cells: [B] int32 cells of the next states.
      use: of a rule of value sharing.

    Returns:
      A function from own values v [B] to bootstrap values [B].
    """
    w = guidance.value_weight[cells]
    u = jnp.where(w > 0.0, guidance.value[cells], 0.0)

    def mix(v: Array) -> Array:
        return jnp.where(w > 0.0, (1.0 - w) * v + w * u, v)

    def raise_to(v: Array) -> Array:
        return jnp.where(w > 0.0, v + w * jnp.maximum(u - v, 0.0), v)

    return {"mix": mix, "max": raise_to}.get(use, lambda v: v)


def potential(guidance: Guidance) -> Array:
    """Potential Φ = w·U of each context cell, 0 where no message arrived.

    A critic that learns from shaped rewards holds Q - Φ. Adding Φ of the cell brings
    its values back to units of the real return.

    Args:
      guidance: of one peer.

    Returns:
      [K].
    """
    w = guidance.value_weight
    return w * jnp.where(w > 0.0, guidance.value, 0.0)


def shaped_reward(
    guidance: Guidance,
    reward: Array,
    cells: Array,
    next_cells: Array,
    discount: Array,
    gamma: Array,
) -> Array:
    """Potential-based shaping: r + γ·discount·Φ(s') - Φ(s) (Ng, Harada & Russell 1999).

    Optimal policies stay what they are for any Φ: values fall by Φ(s), whatever the
    action. Φ counts nothing at terminals, where ``discount`` is 0. Where the network
    has no value for either state the reward passes bit for bit.

    Args:
      guidance: of one peer.
      reward: [B].
      cells: [B] int32 cells of the states.
      next_cells: [B] int32 cells of their true successors.
      discount: [B] 1 - terminated.
      gamma: [] discount factor of the learner.

    Returns:
      [B].
    """
    phi = potential(guidance)
    informed = guidance.value_weight > 0.0
    shaped = reward + gamma * discount * phi[next_cells] - phi[cells]
    return jnp.where(informed[cells] | informed[next_cells], shaped, reward)
