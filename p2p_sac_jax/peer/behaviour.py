"""How one peer acts: its policy's mean, spread by memory and by the network.

Without a policy (``learner=thompson``) the demand memory alone names the price.

Every spread handed on is a standard deviation *before* the tanh; what memory and
configuration say is in action units and divided by the slope of the tanh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.config import EXPLORATION_SOURCES
from p2p_sac_jax.exchange import guidance as guide
from p2p_sac_jax.hyper import ExplorationHyper
from p2p_sac_jax.peer.components import PeerComponents, RoundContext, StepKeys
from p2p_sac_jax.sac.sac import SacState
from p2p_sac_jax.types import Array, Candidates

# An advised action keeps this far from the ends, where the inverse tanh is infinite.
_EDGE = 1e-3
# Near saturation the slope vanishes and the spread before the tanh would explode.
_MIN_SLOPE = 0.1


def tanh_slope(mean: Array) -> Array:
    """Slope [A] of the tanh at the policy's mean [A], floored."""
    return jnp.maximum(1.0 - jnp.square(jnp.tanh(mean)), _MIN_SLOPE)


def local_std(
    hyper: ExplorationHyper, mean: Array, log_std: Array, remembered: Array
) -> Array:
    """The peer's own exploration std, before the tanh.

    Args:
      hyper: which source counts, and the bounds in action units.
      mean: [A] policy mean before the tanh.
      log_std: [A] policy log std before the tanh.
      remembered: [] spread the price memory would choose, action units.

    Returns:
      [A] standard deviation before the tanh.
    """
    slope = tanh_slope(mean)
    by_source = {
        "memory": jnp.clip(remembered, hyper.std_min, hyper.std_max) / slope,
        "policy": jnp.exp(log_std),
        "fixed": hyper.std_max / slope,
    }
    std = by_source["memory"]
    for index, source in enumerate(EXPLORATION_SOURCES):
        std = jnp.where(hyper.source == index, by_source[source], std)
    return std


def choose_action(
    components: PeerComponents,
    learner: SacState,
    belief: Any,
    obs: Array,
    context: RoundContext,
    share: Array,
    warming: Array,
    keys: StepKeys,
) -> tuple[Array, Array]:
    """The behaviour policy in one observed state.

    Without a policy the action is the best one under a single demand curve drawn from
    the belief (Thompson 1933), and its distance from the best under the mean curve is
    the std.

    Args:
      components: the peer's functions.
      learner: policy and critics.
      belief: posterior of the price memory.
      obs: [D] observation.
      context: of this round.
      share: [] of the memory in the price, see ``blend_with_model``.
      warming: [] bool: act uniformly at random.
      keys: of this step; ``select_action``, ``warmup``, ``thompson``, ``bandit`` are used.

    Returns:
      Action [A] in [-1, 1] and the mean std [] behind it, in action units.
    """
    exploration = context.hyper.exploration
    options = candidates_of(components, obs, context.params)
    if not components.learns:
        action = components.model.draw_actions(belief, options, keys.bandit, 1)[0]
        away = jnp.abs(action - components.model.best_action(belief, options))
        return action, jnp.mean(away)
    mean, log_std = components.sac.policy(learner, obs)
    mean = blend_with_model(components, mean, belief, options, share)
    greedy = jnp.tanh(mean)
    remembered = components.memory.optimal_exploration_std(
        belief, options, greedy, keys.thompson
    )
    std = guide.exploration_std(
        local_std(exploration, mean, log_std, remembered),
        context.guidance,
        components.cell(obs),
        components.memory.exploration_bonus(belief, options, greedy),
        exploration.bonus,
        components.environment.action_dim,
    )
    action = jnp.tanh(
        mean + std * jax.random.normal(keys.select_action, mean.shape, mean.dtype)
    )
    uniform = jax.random.uniform(keys.warmup, action.shape, minval=-1.0)
    return jnp.where(warming, uniform, action), jnp.mean(std * tanh_slope(mean))


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
      learner: policy and critics; not read where the peer has none to go by.
      belief: posterior of the demand memory, if there is one.
      share: [] of the memory in the price, see ``blend_with_model``.
      params: environment parameters.
    """

    def policy(obs: Array) -> Array:
        if not components.learns:
            return components.model.best_action(
                belief, candidates_of(components, obs, params)
            )
        mean, _ = components.sac.policy(learner, obs)
        options = candidates_of(components, obs, params)
        return jnp.tanh(blend_with_model(components, mean, belief, options, share))

    return policy


def blend_with_model(
    components: PeerComponents,
    mean: Array,
    belief: Any,
    options: Candidates,
    share: Array,
) -> Array:
    """Moves the policy's action toward the one that the demand memory thinks best.

    A policy learns from the memory, but slowly; the memory itself knows at once.

    Args:
      components: the peer's functions.
      mean: [A] policy mean before the tanh.
      belief: posterior of the price memory.
      options: actions open in this state.
      share: [] of the memory's action in the result, an average of actions.

    Returns:
      [A] before the tanh; ``mean`` bit for bit where ``share`` is 0, or where there
      is no memory of demand.
    """
    if components.world_model is None:
        return mean
    best = components.model.best_action(belief, options)
    action = (1.0 - share) * jnp.tanh(mean) + share * best
    moved = jnp.arctanh(jnp.clip(action, _EDGE - 1.0, 1.0 - _EDGE))
    return jnp.where(share > 0.0, moved, mean)


def candidates_of(components: PeerComponents, obs: Array, params: Any) -> Candidates:
    """Actions open in the state observed as ``obs`` [D]; one, if none are named."""
    environment = components.environment
    if environment.demand is not None:
        return environment.demand.candidates(obs, params)
    return Candidates(
        actions=jnp.zeros((1, environment.action_dim)),
        features=jnp.zeros((1, 0)),
        gain=jnp.zeros(1),
        cell=environment.cell(obs),
    )
