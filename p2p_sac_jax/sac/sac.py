"""Soft Actor-Critic with a learned temperature, for one peer.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"
(arXiv:1812.05905): twin critics with Polyak-averaged targets, a tanh-Gaussian
policy and a temperature that holds the policy's entropy at a target. The three
losses are differentiated in one backward pass at the old parameters; stops in
the gradient let each loss move its own parameters alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from p2p_sac_jax.config import SacConfig
from p2p_sac_jax.hyper import SacHyper
from p2p_sac_jax.sac.distributions import squash
from p2p_sac_jax.sac.networks import Networks, make_networks
from p2p_sac_jax.tree import tree_where
from p2p_sac_jax.types import Array, Transition

# (value [B], next_obs [B, D]) -> [B]: where the network mixes in its values.
Bootstrap = Callable[[Array, Array], Array]

TD_ERROR_DECAY = 0.99


class SacState(NamedTuple):
    """Everything the learner of one peer carries from update to update."""

    params: Any  # {"actor", "critic", "log_alpha" []}
    target_params: Any  # critic parameters, Polyak-averaged
    opt_state: optax.OptState  # of one Adam over all of ``params``
    td_error: Array  # [] running mean of |TD error|, reward units; 0 before any
    updates: Array  # [] int32 gradient updates so far


class SacMetrics(NamedTuple):
    """Diagnostics of one update, at the parameters before it."""

    critic_loss: Array  # [] summed over the two critics, mean over the batch
    actor_loss: Array  # []
    alpha_loss: Array  # []
    alpha: Array  # [] temperature
    entropy: Array  # [] nats, of the squashed policy: compare to target_entropy
    q_mean: Array  # [] mean Q of the batch's actions
    td_error: Array  # [] mean |TD error| of this batch, both critics


class Sac(NamedTuple):
    """Pure functions of one learner; batch axes are explicit, peers are vmapped."""

    init: Callable[[Array], SacState]  # (key)
    # (state, obs [..., D]) -> mean [..., A], log_std [..., A], before the tanh
    policy: Callable[[SacState, Array], tuple[Array, Array]]
    # (state, obs [B, D], key) -> state_value [B], action_value [B]
    value: Callable[[SacState, Array, Array], tuple[Array, Array]]
    # (state, batch [B, ...], bootstrap, hyper, key, active []) -> (state, metrics);
    # the state stays as it is, to the bit, where ``active`` is 0
    update: Callable[
        [SacState, Transition, Bootstrap, SacHyper, Array, Array],
        tuple[SacState, SacMetrics],
    ]


def make_sac(config: SacConfig, obs_dim: int, action_dim: int) -> Sac:
    """Builds the learner; ``config``'s traced fields are read from ``hyper``."""
    networks = make_networks(config.hidden, obs_dim, action_dim)
    adam = optax.scale_by_adam()

    def init(key: Array) -> SacState:
        actor_key, critic_key = jax.random.split(key)
        critic = networks.init_critic(critic_key)
        params = {
            "actor": networks.init_actor(actor_key),
            "critic": critic,
            "log_alpha": jnp.full((), math.log(config.initial_alpha), jnp.float32),
        }
        return SacState(
            params=params,
            # A copy: state that shares a buffer with itself cannot be donated.
            target_params=jax.tree.map(jnp.copy, critic),
            opt_state=adam.init(params),
            td_error=jnp.zeros((), jnp.float32),
            updates=jnp.zeros((), jnp.int32),
        )

    def policy(state: SacState, obs: Array) -> tuple[Array, Array]:
        return networks.actor(state.params["actor"], obs)

    def value(state: SacState, obs: Array, key: Array) -> tuple[Array, Array]:
        mean, log_std = policy(state, obs)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        action, log_prob = squash(mean, log_std, noise)
        actions = jnp.stack([action, jnp.tanh(mean)])
        q = networks.critic(
            state.target_params, jnp.broadcast_to(obs, (2, *obs.shape)), actions
        ).min(axis=0)
        return q[0] - jnp.exp(state.params["log_alpha"]) * log_prob, q[1]

    def update(
        state: SacState,
        batch: Transition,
        bootstrap: Bootstrap,
        hyper: SacHyper,
        key: Array,
        active: Array,
    ) -> tuple[SacState, SacMetrics]:
        def loss(params: Any) -> tuple[Array, SacMetrics]:
            return joint_loss(
                networks, params, state.target_params, batch, bootstrap, hyper, key
            )

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        if config.max_grad_norm > 0:
            grads = {
                name: _clip(grad, config.max_grad_norm) for name, grad in grads.items()
            }
        steps, opt_state = adam.update(grads, state.opt_state)
        params = jax.tree.map(
            lambda p, step: p - hyper.learning_rate * step, state.params, steps
        )
        target_params = jax.tree.map(
            lambda old, new: old + hyper.tau * (new - old),
            state.target_params,
            params["critic"],
        )
        # A plain mean at first, so that the zero it starts from carries no weight.
        weight = jnp.maximum(1.0 - TD_ERROR_DECAY, 1.0 / (state.updates + 1.0))
        after = SacState(
            params=params,
            target_params=target_params,
            opt_state=opt_state,
            td_error=state.td_error + weight * (metrics.td_error - state.td_error),
            updates=state.updates + 1,
        )
        # Here, where every leaf is at hand: chosen later, the old state would have to
        # be copied first.
        return tree_where(active > 0, after, state), metrics

    return Sac(init, policy, value, update)


def joint_loss(
    networks: Networks,
    params: Any,
    target_params: Any,
    batch: Transition,
    bootstrap: Bootstrap,
    hyper: SacHyper,
    key: Array,
) -> tuple[Array, SacMetrics]:
    """Sum of the three losses of one batch, and its diagnostics.

    With a, a' drawn from the policy at s and s':

        y           = r + discount · bootstrap(min_k Q̄_k(s', a') - α log π(a'|s'))
        critic_loss = mean Σ_k (Q_k(s, a_batch) - y)²
        actor_loss  = mean(α log π(a|s) - min_k Q_k(s, a))
        alpha_loss  = -α mean(log π(a|s) + target_entropy)

    with discount = γ (1 - terminated). Nothing flows back through y, so whatever
    ``bootstrap`` mixes in is gradient-free.
    """
    stop = jax.lax.stop_gradient
    # One draw of noise serves s and s'. Their forward passes stay apart: a shared one
    # costs a backward pass through s' as well, and is slower on small batches.
    noise = jax.random.normal(key, (2, *batch.action.shape), batch.action.dtype)
    action, log_prob = squash(*networks.actor(params["actor"], batch.obs), noise[0])
    next_action, next_log_prob = squash(
        *networks.actor(stop(params["actor"]), batch.next_obs), noise[1]
    )
    alpha = jnp.exp(params["log_alpha"])

    next_q = networks.critic(target_params, batch.next_obs, next_action).min(axis=0)
    next_value = bootstrap(next_q - alpha * next_log_prob, batch.next_obs)
    target = stop(batch.reward + hyper.discount * batch.discount * next_value)

    q = networks.critic(params["critic"], batch.obs, batch.action)
    td = q - target[None]
    critic_loss = jnp.square(td).sum(axis=0).mean()

    policy_q = networks.critic(stop(params["critic"]), batch.obs, action)
    actor_loss = (stop(alpha) * log_prob - policy_q.min(axis=0)).mean()

    entropy = -stop(log_prob).mean()
    alpha_loss = alpha * (entropy - hyper.target_entropy)
    return critic_loss + actor_loss + alpha_loss, SacMetrics(
        critic_loss=critic_loss,
        actor_loss=actor_loss,
        alpha_loss=alpha_loss,
        alpha=alpha,
        entropy=entropy,
        q_mean=q.mean(),
        td_error=jnp.abs(td).mean(),
    )


def _clip(grad: Any, max_norm: float) -> Any:
    """Scales ``grad`` down to the global norm ``max_norm``; safe at zero."""
    scale = max_norm / jnp.maximum(optax.tree.norm(grad), max_norm)
    return jax.tree.map(lambda g: g * scale, grad)
