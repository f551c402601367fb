"""The cost of one gradient update: counted by hand, and by the compiler.

The count has the matrix products that SAC needs (Haarnoja et al. 2018,
arXiv:1812.05905, algorithm 1, with twin critics) and nothing else: no activations, no
optimiser arithmetic, no environment, no exchange. So a share of the machine's limit
never rises because a program does more than it must.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.sizes import repeated_world
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.sac.networks import CRITICS
from p2p_sac_jax.sac.sac import make_sac
from p2p_sac_jax.types import Array, Transition

_FLOAT_BYTES = 4  # state is float32


class UpdateCost(NamedTuple):
    """One gradient update of one peer."""

    flop: int  # floating-point operations of the products, an add and a multiply each
    bytes: int  # traffic of parameters, Adam's moments and targets


class Layers(NamedTuple):
    """Inputs and outputs of the dense layers of each network, first to last."""

    actor: tuple[tuple[int, int], ...]
    critic: tuple[tuple[int, int], ...]  # of one of the twins


def layers(hidden: int, obs_dim: int, action_dim: int) -> Layers:
    """Layer sizes of the actor (both heads in one) and of one critic."""
    return Layers(
        actor=((obs_dim, hidden), (hidden, hidden), (hidden, 2 * action_dim)),
        critic=((obs_dim + action_dim, hidden), (hidden, hidden), (hidden, 1)),
    )


def count(batch: int, sizes: Layers) -> UpdateCost:
    """Counts one update of one peer.

    Forward: the actor at s and at s'; two target critics at (s', a'); two critics at
    (s, a) of the batch; the same two at (s, a) of the policy. That is eight passes.
    Backward through the actor and through both critics at the batch's actions:
    gradients of the weights, and of the inputs of all layers but the first. Backward
    through the critics at the policy's actions: gradients of the inputs alone, down
    to the actions.

    Traffic, in float32: parameters, both moments of Adam and the target critics are
    each read and written once. Gradients and activations could stay in a cache.
    """
    actor = [batch * inputs * outputs for inputs, outputs in sizes.actor]
    critic = [batch * inputs * outputs for inputs, outputs in sizes.critic]
    actor_products = (
        2 * sum(actor)  # forward at s and at s'
        + sum(actor)  # gradients of the weights
        + sum(actor[1:])  # and of the inputs
    )
    critic_products = (
        3 * sum(critic)  # forward: targets, batch, policy
        + sum(critic)  # at the batch: gradients of the weights
        + sum(critic[1:])  # and of the inputs
        + sum(critic)  # at the policy: gradients of the inputs
    )
    of_actor = sum((inputs + 1) * outputs for inputs, outputs in sizes.actor)
    of_critics = CRITICS * sum((inputs + 1) * out for inputs, out in sizes.critic)
    learned = of_actor + of_critics + 1  # and the temperature
    return UpdateCost(
        flop=2 * (actor_products + CRITICS * critic_products),
        bytes=_FLOAT_BYTES * 2 * (3 * learned + of_critics),
    )


def update_cost(config: TrainConfig) -> UpdateCost:
    """``count`` for the networks of a configuration."""
    return count(config.sac.batch_size, layers(config.sac.hidden, *_dims(config)))


def compiler_flop(config: TrainConfig) -> float:
    """FLOP of one update of one peer as XLA counts them before it optimises.

    Activations and the optimiser are included; 0 where the backend gives no count.
    """
    function, arguments = single_update(config)
    analysis = jax.jit(function).lower(*arguments).cost_analysis()
    return float((analysis or {}).get("flops", 0.0))


def single_update(config: TrainConfig) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The learner's update of one batch, and shapes to trace it with."""
    obs_dim, action_dim = _dims(config)
    sac, batch = make_sac(config.sac, obs_dim, action_dim), config.sac.batch_size

    def update(state: Any, rows: Transition, key: Array) -> Any:
        hyper, active = make_hyper(config).sac, np.ones((), np.float32)
        return sac.update(state, rows, lambda value, _: value, hyper, key, active)

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, np.float32)

    key = jax.eval_shape(lambda: jax.random.key(0))
    rows = Transition(
        obs=shape(batch, obs_dim),
        action=shape(batch, action_dim),
        reward=shape(batch),
        next_obs=shape(batch, obs_dim),
        discount=shape(batch),
    )
    return update, (jax.eval_shape(sac.init, key), rows, key)


def _dims(config: TrainConfig) -> tuple[int, int]:
    environment = repeated_world(config).environment
    return environment.observation_dim, environment.action_dim
