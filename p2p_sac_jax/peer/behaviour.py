"""The behaviour policy: the policy's mean, its spread, and the memory's best action.

Every spread returned is a standard deviation *before* the tanh. Spreads of the memory
and of the configuration are in action units and divided by the slope of the tanh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from p2p_sac_jax.config import EXPLORATION_SOURCES
from p2p_sac_jax.hyper import ExplorationHyper
from p2p_sac_jax.peer.context import PeerComponents
from p2p_sac_jax.sac.sac import SacState
from p2p_sac_jax.types import Array, Candidates

# A blended action keeps this far from the ends, where the inverse tanh is infinite.
_EDGE = 1e-3
# Near saturation the slope vanishes and the spread before the tanh would explode.
_MIN_SLOPE = 0.1


def tanh_slope(mean: Array) -> Array:
    """Slope [A] of the tanh at the policy's mean [A], floored."""
    return jnp.maximum(1.0 - jnp.square(jnp.tanh(mean)), _MIN_SLOPE)


def local_std(
    hyper: ExplorationHyper, mean: Array, log_std: Array, memory_std: Array
) -> Array:
    """The peer's own exploration std, before the tanh.

    Args:
      hyper: which source counts, and the bounds in action units.
      mean: [A] policy mean before the tanh.
      log_std: [A] policy log std before the tanh.
      memory_std: [] spread that the price memory proposes, action units.

    Returns:
      [A] standard deviation before the tanh.
    """
    slope = tanh_slope(mean)
    by_source = {
        "memory": jnp.clip(memory_std, hyper.std_min, hyper.std_max) / slope,
        "policy": jnp.exp(log_std),
        "fixed": hyper.std_max / slope,
    }
    std = by_source["memory"]
    for index, source in enumerate(EXPLORATION_SOURCES):
        std = jnp.where(hyper.source == index, by_source[source], std)
    return std


def greedy_policy(
    components: PeerComponents,
    learner: SacState,
    belief: Any,
    share: Array,
    params: Any,
) -> Callable[[Array], Array]:
    """The policy without exploration, from an observation [D] to an action [A].

    Args:
      components: the peer's functions.
      learner: policy and critics; not read where the price memory acts.
      belief: posterior of the price memory.
      share: [] of the memory in the action, see ``blend_with_model``.
      params: environment parameters.
    """

    def policy(obs: Array) -> Array:
        candidates = candidates_of(components, obs, params)
        if not components.learns:
            return components.memory.best_action(belief, candidates)
        mean, _ = components.sac.policy(learner, obs)
        return jnp.tanh(blend_with_model(components, mean, belief, candidates, share))

    return policy


def blend_with_model(
    components: PeerComponents,
    mean: Array,
    belief: Any,
    candidates: Candidates,
    share: Array,
) -> Array:
    """Moves the policy's action toward the best one under the memory's mean curve.

    The policy learns from the memory over many updates; the memory's own best action
    is available at once.

    Args:
      components: the peer's functions.
      mean: [A] policy mean before the tanh.
      belief: posterior of the price memory.
      candidates: actions open in this state.
      share: [] of the memory's action in the result, an average of actions.

    Returns:
      [A] before the tanh; ``mean`` bit for bit where ``share`` is 0, or where the
      memory has no model of demand.
    """
    if components.memory.model is None:
        return mean
    best = components.memory.best_action(belief, candidates)
    action = (1.0 - share) * jnp.tanh(mean) + share * best
    moved = jnp.arctanh(jnp.clip(action, _EDGE - 1.0, 1.0 - _EDGE))
    return jnp.where(share > 0.0, moved, mean)


def candidates_of(components: PeerComponents, obs: Array, params: Any) -> Candidates:
    """Actions open in the state observed as ``obs`` [D]; one where none are defined."""
    environment = components.environment
    if environment.demand is not None:
        return environment.demand.candidates(obs, params)
    return Candidates(
        actions=jnp.zeros((1, environment.action_dim)),
        features=jnp.zeros((1, 0)),
        gain=jnp.zeros(1),
        cell=environment.cell(obs),
    )
