"""Actor and twin critics: the only file that imports flax.

Parameters are plain nested dicts of arrays, so they can be stacked, mixed, saved
and sent like any other pytree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array

LOG_STD_MIN = -5.0
LOG_STD_MAX = 1.0
CRITICS = 2
# Scale of the actor's last layer: an untrained policy's mean action is about 0.
_HEAD_SCALE = 1e-4


_ROWS, _COLUMNS = ((0,), (0,)), ((1,), (1,))  # what a product sums over


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    """Rows [B, D] times kernel [D, H].

    JAX would make the kernel's gradient transposed. On a GPU Adam then reads it
    against the grain and cannot write over its own state: more time than the product.
    """
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    along = jax.lax.dot_general(slope, kernel, (_COLUMNS, ((), ())))
    return along, jax.lax.dot_general(x, slope, (_ROWS, ((), ())))


_product.defvjp(_forward, _backward)


def _dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """The product that ``nn.Dense`` asks for, of x [..., D] and kernel [D, H]."""
    y = _product(x.reshape(-1, x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


_Dense = functools.partial(nn.Dense, dot_general=_dot_general)


class _Actor(nn.Module):
    hidden: int
    action_dim: int

    @nn.compact
    def __call__(self, obs: Array) -> tuple[Array, Array]:
        x = nn.relu(_Dense(self.hidden)(obs))
        x = nn.relu(_Dense(self.hidden)(x))
        head_init = nn.initializers.variance_scaling(
            _HEAD_SCALE, "fan_in", "truncated_normal"
        )
        # One matrix for both heads: half the operations, the same function.
        head = _Dense(2 * self.action_dim, kernel_init=head_init, name="head")(x)
        mean, raw = jnp.split(head, 2, axis=-1)
        half_range = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
        return mean, LOG_STD_MIN + half_range * (1.0 + jnp.tanh(raw))


class _Critic(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        x = nn.relu(_Dense(self.hidden)(inputs))
        x = nn.relu(_Dense(self.hidden)(x))
        return _Dense(1)(x)[..., 0]


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
        in_axes=0,
        out_axes=0,
        axis_size=CRITICS,
    )
    critic = ensemble(hidden)

    def for_each(inputs: Array) -> Array:
        # Given once to all critics, the first layer would be one wide product, whose
        # result has to be turned round on a GPU.
        return jnp.broadcast_to(inputs, (CRITICS, *inputs.shape))

    def init_actor(key: Array) -> Any:
        return actor.init(key, jnp.zeros((1, obs_dim)))["params"]

    def init_critic(key: Array) -> Any:
        return critic.init(key, for_each(jnp.zeros((1, obs_dim + action_dim))))[
            "params"
        ]

    def apply_actor(params: Any, obs: Array) -> tuple[Array, Array]:
        return actor.apply({"params": params}, obs)

    def apply_critic(params: Any, obs: Array, action: Array) -> Array:
        inputs = jnp.concatenate([obs, action], axis=-1)
        return critic.apply({"params": params}, for_each(inputs))

    return Networks(init_actor, init_critic, apply_actor, apply_critic)
