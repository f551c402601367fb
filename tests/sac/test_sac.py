"""Losses, gradients and steps of the learner against a NumPy reference."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import SacConfig
from p2p_sac_jax.hyper import SacHyper
from p2p_sac_jax.sac.networks import make_networks
from p2p_sac_jax.sac.sac import TD_ERROR_DECAY, joint_loss, make_sac
from p2p_sac_jax.types import Transition
from tests.reference import sac as reference

OBS, ACTION, BATCH, HIDDEN = 3, 2, 7, 8
CONFIG = SacConfig(hidden=HIDDEN, initial_alpha=0.3)
HYPER = SacHyper(
    learning_rate=np.float32(3e-3),
    learning_rate_half_life=np.float32(0.0),
    discount=np.float32(0.9),
    tau=np.float32(0.05),
    target_entropy=np.float32(-1.5),
    learning_starts=np.float32(0.0),
    warmup=np.float32(0.0),
)
KEY = 11


def identity(value, next_obs):
    del next_obs
    return value


def mixing(value, next_obs):
    return 0.7 * value + 0.3 * next_obs[:, 0]


@functools.cache
def make_update(bootstrap=identity, config=CONFIG):
    sac = make_sac(config, OBS, ACTION)
    return jax.jit(
        lambda state, batch, hyper, key: sac.update(
            state, batch, bootstrap, hyper, key, jnp.ones(())
        )
    )


@functools.cache
def untrained():
    return jax.jit(make_sac(CONFIG, OBS, ACTION).init)(jax.random.key(0))


@functools.cache
def make_state():
    """A learner with random weights everywhere, targets unlike the critics."""
    state = untrained()
    rng = np.random.default_rng(1)

    def jitter(leaf):
        noise = 0.3 * rng.standard_normal(leaf.shape)
        return jnp.asarray(np.asarray(leaf) + noise, jnp.float32)

    params = jax.tree.map(jitter, state.params)
    target_params = jax.tree.map(jitter, state.target_params)
    return state._replace(params=params, target_params=target_params)


def make_batch(seed=0, discount=None):
    rng = np.random.default_rng(seed)
    if discount is None:
        discount = rng.integers(0, 2, BATCH)
    batch = Transition(
        obs=rng.standard_normal((BATCH, OBS)),
        action=rng.uniform(-1, 1, (BATCH, ACTION)),
        reward=rng.standard_normal(BATCH),
        next_obs=rng.standard_normal((BATCH, OBS)),
        discount=np.broadcast_to(discount, BATCH),
    )
    return jax.tree.map(lambda x: x.astype(np.float32), batch)


def reference_losses(params, frozen, target_params, batch, bootstrap):
    noise = jax.random.normal(jax.random.key(KEY), (2, BATCH, ACTION))
    return reference.losses(
        params,
        frozen,
        target_params,
        reference.to_numpy(batch._asdict()),
        np.asarray(noise, np.float64),
        reference.to_numpy(HYPER._asdict()),
        bootstrap,
    )


@functools.cache
def gradients(bootstrap):
    networks = make_networks(HIDDEN, OBS, ACTION)
    state = make_state()

    def loss(params):
        return joint_loss(
            networks,
            params,
            state.target_params,
            make_batch(),
            bootstrap,
            HYPER,
            jax.random.key(KEY),
        )

    return jax.jit(jax.grad(loss, has_aux=True))(state.params)


@pytest.mark.parametrize("bootstrap", [identity, mixing])
def test_losses_equal_reference(bootstrap):
    state = make_state()
    _, metrics = gradients(bootstrap)
    params = reference.to_numpy(state.params)
    expected = reference_losses(
        params, params, reference.to_numpy(state.target_params), make_batch(), bootstrap
    )
    for name, value in metrics._asdict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


def test_gradients_equal_finite_differences_of_each_loss_alone():
    state = make_state()
    grads, _ = gradients(mixing)
    frozen = reference.to_numpy(state.params)
    target_params = reference.to_numpy(state.target_params)
    rng = np.random.default_rng(2)

    def total(params):
        values = reference_losses(params, frozen, target_params, make_batch(), mixing)
        return values["critic_loss"] + values["actor_loss"] + values["alpha_loss"]

    leaves, tree = jax.tree.flatten(frozen)
    for position, grad in enumerate(jax.tree.leaves(grads)):
        for _ in range(3):
            index = tuple(rng.integers(0, size) for size in grad.shape)
            sides = []
            for step in (1e-6, -1e-6):
                moved = [leaf.copy() for leaf in leaves]
                moved[position][index] += step
                sides.append(total(jax.tree.unflatten(tree, moved)))
            expected = (sides[0] - sides[1]) / 2e-6
            np.testing.assert_allclose(grad[index], expected, rtol=1e-4, atol=2e-5)


def test_adam_polyak_and_td_error_steps_equal_reference():
    states, metrics, grads = [make_state()], [], []
    update = make_update()
    for seed in range(3):
        state, metric = update(
            states[-1], make_batch(seed), HYPER, jax.random.key(seed)
        )
        # Adam's first moment reveals the gradient that each step was given.
        before = jax.tree.leaves(states[-1].opt_state.mu)
        after = jax.tree.leaves(state.opt_state.mu)
        grads.append(
            [
                (np.float64(b) - 0.9 * np.float64(a)) / 0.1
                for a, b in zip(before, after, strict=True)
            ]
        )
        states.append(state)
        metrics.append(metric)

    start = jax.tree.leaves(states[0].params)
    for i, leaf in enumerate(jax.tree.leaves(states[-1].params)):
        expected = reference.adam(
            np.float64(start[i]), [g[i] for g in grads], float(HYPER.learning_rate)
        )
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)

    tau = float(HYPER.tau)
    for before, after in itertools.pairwise(states):
        expected = jax.tree.map(
            lambda old, new: (1 - tau) * np.float64(old) + tau * np.float64(new),
            before.target_params,
            after.params["critic"],
        )
        chex.assert_trees_all_close(after.target_params, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        states[-1].td_error, np.mean([m.td_error for m in metrics]), rtol=1e-5
    )
    assert int(states[-1].updates) == 3


def test_td_error_becomes_an_exponential_average():
    state = make_state()._replace(
        updates=jnp.asarray(1000, jnp.int32), td_error=jnp.asarray(2.0)
    )
    after, metrics = make_update()(state, make_batch(), HYPER, jax.random.key(0))
    expected = TD_ERROR_DECAY * 2.0 + (1 - TD_ERROR_DECAY) * float(metrics.td_error)
    np.testing.assert_allclose(after.td_error, expected, rtol=1e-5)


def test_termination_stops_the_bootstrap_and_truncation_does_not():
    """The successor's value reaches the update exactly where discount is 1."""
    update = make_update()
    for discount, moves in ((0.0, False), (1.0, True)):
        batch = make_batch(discount=discount)
        other = batch._replace(next_obs=batch.next_obs + np.float32(1.0))
        q = [
            update(make_state(), b, HYPER, jax.random.key(KEY))[1].td_error
            for b in (batch, other)
        ]
        assert (float(q[0]) != float(q[1])) is moves


def test_zero_learning_rate_and_tau_leave_the_parameters_alone():
    state = make_state()
    still = HYPER._replace(learning_rate=np.float32(0), tau=np.float32(0))
    after, _ = make_update()(state, make_batch(), still, jax.random.key(KEY))
    chex.assert_trees_all_equal(after.params, state.params)
    chex.assert_trees_all_equal(after.target_params, state.target_params)


def test_gradient_clipping_bounds_each_loss_by_its_own_norm():
    limit = 1e-3
    config = dataclasses.replace(CONFIG, max_grad_norm=limit)
    clipped, _ = make_update(identity, config)(
        make_state(), make_batch(), HYPER, jax.random.key(KEY)
    )
    free, _ = make_update()(make_state(), make_batch(), HYPER, jax.random.key(KEY))
    for name in ("actor", "critic", "log_alpha"):
        given, raw = (
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(s.opt_state.mu[name])])
            for s in (clipped, free)
        )
        given, raw = given / 0.1, raw / 0.1  # first step: mu = (1 - b1) g
        scale = min(1.0, limit / np.linalg.norm(raw))
        np.testing.assert_allclose(given, raw * scale, rtol=1e-3, atol=1e-8)


def test_untrained_policy_acts_around_zero_with_bounded_spread():
    sac, state, obs = make_sac(CONFIG, OBS, ACTION), untrained(), make_batch().obs
    policy = jax.jit(sac.policy)
    assert np.abs(policy(state, obs)[0]).max() < 0.05
    extreme = jax.tree.map(lambda leaf: np.asarray(leaf) + 100.0, state.params)
    for params in (state.params, extreme):
        _, log_std = policy(state._replace(params=params), obs)
        assert (log_std >= -5.0).all()
        assert (log_std <= 1.0).all()


def test_value_equals_reference():
    sac, state, obs = make_sac(CONFIG, OBS, ACTION), make_state(), make_batch().obs
    state_value, action_value = jax.jit(sac.value)(state, obs, jax.random.key(KEY))
    params = reference.to_numpy(state.params)
    target = reference.to_numpy(state.target_params)
    mean, log_std = reference.actor(params["actor"], obs)
    noise = jax.random.normal(jax.random.key(KEY), (BATCH, ACTION))
    action, log_prob = reference.squash(mean, log_std, np.float64(noise))
    soft = reference.critic(target, obs, action).min(0)
    soft = soft - np.exp(params["log_alpha"]) * log_prob
    greedy = reference.critic(target, obs, np.tanh(mean)).min(0)
    np.testing.assert_allclose(state_value, soft, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(action_value, greedy, rtol=1e-5, atol=1e-5)
