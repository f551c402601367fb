"""Actor and twin critics: the only file that imports flax.

Parameters are plain nested dicts of arrays, so they can be stacked, mixed, saved
and sent like any other pytree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from p2p_sac_jax.types import Array

LOG_STD_MIN = -5.0
LOG_STD_MAX = 1.0
CRITICS = 2
# Scale of the actor's last layer: an untrained policy's mean action is about 0.
_HEAD_SCALE = 1e-4


class _Actor(nn.Module):
    hidden: int
    action_dim: int

    @nn.compact
    def __call__(self, obs: Array) -> tuple[Array, Array]:
        x = nn.relu(nn.Dense(self.hidden)(obs))
        x = nn.relu(nn.Dense(self.hidden)(x))
        head_init = nn.initializers.variance_scaling(
            _HEAD_SCALE, "fan_in", "truncated_normal"
        )
        # One matrix for both heads: half the operations, the same function.
        head = nn.Dense(2 * self.action_dim, kernel_init=head_init, name="head")(x)
        mean, raw = jnp.split(head, 2, axis=-1)
        half_range = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
        return mean, LOG_STD_MIN + half_range * (1.0 + jnp.tanh(raw))


class _Critic(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        x = nn.relu(nn.Dense(self.hidden)(inputs))
        x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(1)(x)[..., 0]


class Networks(NamedTuple):
    """Pure functions of the actor and of the ensemble of critics."""

    init_actor: Callable[[Array], Any]  # (key) -> params
    init_critic: Callable[[Array], Any]  # (key) -> params, leaves [CRITICS, ...]
    # (params, obs [..., D]) -> mean [..., A], log_std [..., A], both before the tanh
    actor: Callable[[Any, Array], tuple[Array, Array]]
    # (params, obs [..., D], action [..., A]) -> Q [CRITICS, ...]
    critic: Callable[[Any, Array, Array], Array]


def make_networks(hidden: int, obs_dim: int, action_dim: int) -> Networks:
    """Two hidden layers of ``hidden`` units and relu in every network."""
    actor = _Actor(hidden, action_dim)
    ensemble: Any = nn.vmap(
        _Critic,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,  # pyright: ignore[reportArgumentType]  (flax says int)
        out_axes=0,
        axis_size=CRITICS,
    )
    critic = ensemble(hidden)

    def init_actor(key: Array) -> Any:
        return actor.init(key, jnp.zeros((1, obs_dim)))["params"]

    def init_critic(key: Array) -> Any:
        return critic.init(key, jnp.zeros((1, obs_dim + action_dim)))["params"]

    def apply_actor(params: Any, obs: Array) -> tuple[Array, Array]:
        return actor.apply({"params": params}, obs)

    def apply_critic(params: Any, obs: Array, action: Array) -> Array:
        inputs = jnp.concatenate([obs, action], axis=-1)
        return critic.apply({"params": params}, inputs)

    return Networks(init_actor, init_critic, apply_actor, apply_critic)
