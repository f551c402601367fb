"""The control tasks against NumPy and scipy; the learner against the tasks."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from p2p_sac_jax.config import (
    EnvironmentConfig,
    PopulationConfig,
    SacConfig,
    TrainConfig,
)
from p2p_sac_jax.environments import control
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.sac.distributions import squash
from p2p_sac_jax.sac.replay import make_replay
from p2p_sac_jax.sac.sac import make_sac
from p2p_sac_jax.types import Transition
from tests.reference import control as reference

MAKERS = {"pendulum": control.PENDULUM, "lqr": control.LQR}
STEPS = {"pendulum": control.PENDULUM_STEPS, "lqr": control.LQR_STEPS}


@functools.cache
def make(name, peers=1):
    config = EnvironmentConfig(name=name)
    draw = MAKERS[name].draw_peers(config, PopulationConfig(peers=peers), 0)
    return MAKERS[name].make(config), draw.params


def rollout(env, params, policy, steps, key):
    """Follows ``policy(obs, key)`` for ``steps`` steps of one peer."""
    reset_key, scan_key = jax.random.split(key)
    state, obs = env.reset(reset_key, params)

    def step(carry, t):
        state, obs = carry
        act_key, step_key = jax.random.split(jax.random.fold_in(scan_key, t))
        action = policy(obs, act_key)
        out = env.step(step_key, state, action, params)
        return (out.state, out.obs), (state, obs, action, out)

    return jax.lax.scan(step, (state, obs), jnp.arange(steps))[1]


def uniform_policy(obs, key):
    del obs
    return jax.random.uniform(key, (1,), minval=-1.3, maxval=1.3)


@functools.cache
def random_path(name):
    """Two episodes and a half under actions that overshoot the bounds."""
    env, params = make(name)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    steps = int(2.5 * STEPS[name])
    path = jax.jit(lambda key: rollout(env, one, uniform_policy, steps, key))(
        jax.random.key(5)
    )
    return jax.tree.map(np.asarray, path)


def test_pendulum_follows_gym():
    state, _, action, out = random_path("pendulum")
    theta, theta_dot, reward = reference.pendulum_step(
        np.float64(state.angle), np.float64(state.speed), np.float64(action[:, 0])
    )
    expected = np.stack([np.cos(theta), np.sin(theta), theta_dot], axis=-1)
    np.testing.assert_allclose(out.final_obs, expected, atol=1e-4)
    np.testing.assert_allclose(out.reward, reward, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out.info.achieved, out.reward)


def test_lqr_scores_equal_reference_along_their_own_paths():
    env, _ = make("lqr")
    state, obs, action, out = random_path("lqr")
    a, b = np.asarray(control.LQR_A), np.asarray(control.LQR_B)
    q, r = np.diag(control.LQR_STATE_COST), np.diag([control.LQR_ACTION_COST])
    clipped = np.clip(np.float64(action), -1, 1)
    # The noise is what the peer's own path does not explain.
    noise = out.final_obs - obs @ a.T - clipped @ b.T
    assert np.abs(noise).max() <= control.LQR_NOISE + 1e-5

    episode = slice(0, control.LQR_STEPS)
    optimal = control.lqr_gain()
    score = env.score(out.info)
    for gain, achieved in ((optimal, score.oracle), (0 * optimal, score.baseline)):
        cost = reference.lqr_cost(a, b, q, r, gain, obs[0], noise[episode])
        np.testing.assert_allclose(achieved[episode], -cost, rtol=1e-3, atol=1e-4)
    cost = np.einsum("ti,ij,tj->t", obs, q, obs) + r[0, 0] * clipped[:, 0] ** 2
    np.testing.assert_allclose(score.achieved, -cost, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state.x[:, 0], obs)


def test_riccati_equals_scipy():
    a, b = np.asarray(control.LQR_A), np.asarray(control.LQR_B)
    r = np.diag([control.LQR_ACTION_COST])
    cost = solve_discrete_are(a, b, np.diag(control.LQR_STATE_COST), r)
    gain = np.linalg.solve(r + b.T @ cost @ b, b.T @ cost @ a)
    np.testing.assert_allclose(control.lqr_gain(), gain, rtol=1e-8)


@pytest.mark.parametrize("name", MAKERS)
def test_episodes_truncate_reset_and_keep_the_true_successor(name):
    env, _ = make(name)
    state, obs, _, out = random_path(name)
    length = STEPS[name]
    ends = np.arange(1, len(out.reward) + 1) % length == 0
    np.testing.assert_array_equal(out.truncated, ends)
    assert not out.terminated.any()
    np.testing.assert_array_equal(state.step, np.arange(len(ends)) % length)
    # What the peer sees next is the true successor, except after a reset.
    same = (out.obs == out.final_obs).all(-1)
    np.testing.assert_array_equal(same, ~ends)
    np.testing.assert_array_equal(obs[1:], out.obs[:-1])
    assert obs.shape[1:] == (env.observation_dim,)


def test_pendulum_cells_are_the_nearest_angle_and_the_speed_class():
    env, _ = make("pendulum")
    angle = np.arange(8) * np.pi / 4 + 0.1
    speed = np.asarray([-3.0, -1.0, 1.0, 3.0])
    angle, speed = (x.ravel() for x in np.meshgrid(angle, speed, indexing="ij"))
    obs = np.stack([np.cos(angle), np.sin(angle), speed], -1).astype(np.float32)
    cells = jax.jit(jax.vmap(env.cell))(obs)
    np.testing.assert_array_equal(cells, np.arange(env.num_cells))
    assert cells.dtype == jnp.int32


@pytest.mark.parametrize("name", MAKERS)
def test_cells_stay_in_range(name):
    env, _ = make(name)
    cells = np.asarray(jax.jit(jax.vmap(env.cell))(random_path(name)[1]))
    assert cells.min() >= 0
    assert cells.max() < env.num_cells
    assert len(set(cells.tolist())) > env.num_cells // 3


class Learning(NamedTuple):
    """One isolated peer that learns a task, and how it is examined."""

    init: object  # (key, params) -> carry
    run: object  # (carry, key, params, steps, learn) -> carry
    returns: object  # (carry, key, params) -> Score [episodes], summed over steps


def make_learning(name, sac_config, capacity):
    """The plain loop act, step, insert, update; one update a step."""
    env, _ = make(name)
    hyper = make_hyper(TrainConfig(sac=sac_config)).sac
    sac = make_sac(sac_config, env.observation_dim, env.action_dim)
    replay = make_replay(capacity, env.observation_dim, env.action_dim)

    def init(key, params):
        sac_key, reset_key = jax.random.split(key)
        state, obs = env.reset(reset_key, params)
        return sac.init(sac_key), replay.init(), state, obs

    def run(carry, key, params, steps, learn):
        def step(carry, t):
            learner, memory, state, obs = carry
            keys = jax.random.split(jax.random.fold_in(key, t), 4)
            act_key, step_key, batch_key, update_key = keys
            if learn:
                action, _ = squash(
                    *sac.policy(learner, obs), jax.random.normal(act_key, (1,))
                )
            else:
                action = jax.random.uniform(act_key, (1,), minval=-1.0, maxval=1.0)
            out = env.step(step_key, state, action, params)
            discount = 1.0 - out.terminated
            row = Transition(obs, action, out.reward, out.final_obs, discount)
            memory = replay.insert(memory, row, True)
            if learn:
                batch = replay.sample(memory, batch_key, sac_config.batch_size)
                learner, _ = sac.update(
                    learner, batch, lambda value, _: value, hyper, update_key, True
                )
            return (learner, memory, out.state, out.obs), None

        return jax.lax.scan(step, carry, jnp.arange(steps))[0]

    def returns(carry, key, params, episodes=16):
        def episode(key):
            policy = lambda obs, _: jnp.tanh(sac.policy(carry[0], obs)[0])  # noqa: E731
            out = rollout(env, params, policy, STEPS[name], key)[-1]
            return jax.tree.map(jnp.sum, env.score(out.info))

        return jax.vmap(episode)(jax.random.split(key, episodes))

    return Learning(init, run, returns)


def learn(name, sac_config, steps, warmup, peers=4, seed=0):
    """Scores [peers, episodes] of ``peers`` isolated learners after ``steps``."""
    learning = make_learning(name, sac_config, steps)
    _, params = make(name, peers)

    def train(given):
        key, params = given
        keys = jax.random.split(key, 4)
        carry = learning.init(keys[0], params)
        carry = learning.run(carry, keys[1], params, warmup, learn=False)
        carry = learning.run(carry, keys[2], params, steps - warmup, learn=True)
        return learning.returns(carry, keys[3], params)

    # Thousands of updates: worth a better program than other tests need.
    better = {"xla_backend_optimization_level": 1}
    train_all = jax.jit(
        lambda given: jax.lax.map(train, given), compiler_options=better
    )
    given = jax.random.split(jax.random.key(seed), peers), params
    return jax.device_get(train_all(given))


@pytest.mark.thorough
def test_sac_swings_the_pendulum_up():
    config = SacConfig(
        hidden=64, batch_size=128, discount=0.98, learning_rate=2e-3, initial_alpha=0.1
    )
    score = learn("pendulum", config, steps=8000, warmup=200)
    assert np.median(score.achieved) > -200.0


@pytest.mark.thorough
def test_sac_comes_close_to_the_riccati_optimum():
    config = SacConfig(
        hidden=64, batch_size=128, discount=0.95, learning_rate=1e-3, initial_alpha=0.1
    )
    score = learn("lqr", config, steps=3000, warmup=200)
    cost, optimum = -score.achieved.mean(axis=1), -score.oracle.mean(axis=1)
    assert np.median(cost / optimum) < 1.05
    assert (optimum < -score.baseline.mean(axis=1)).all()
