"""The pricing market against an independent NumPy market and its own promises."""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import ConfigError, EnvironmentConfig
from p2p_sac_jax.environments import pricing_model
from p2p_sac_jax.environments.pricing import (
    COST_EDGES,
    advance,
    make_pricing,
    make_pricing_params,
)
from tests.reference import market as reference

SHIFTING = EnvironmentConfig(regime_hazard=0.3)
REMEMBERING = EnvironmentConfig(reference_effect=0.2)
ACTIONS = st.floats(-1.0, 1.0, width=32)
SEEDS = st.integers(0, 2**16)


class _Calibration(NamedTuple):
    elasticity: np.ndarray
    cross_elasticity: np.ndarray
    unit_cost: np.ndarray
    cost_vol: np.ndarray
    cost_persistence: np.ndarray
    rival_vol: np.ndarray
    rival_persistence: np.ndarray
    season_amplitude: np.ndarray
    season_phase: np.ndarray
    demand_noise: np.ndarray


def calibration(peers):
    """Sellers like an orange-juice brand; all but the first differ a little."""
    centre = (-2.68, 0.8, 0.7, 0.13, 0.85, 0.10, 0.75, 0.15, 0.7, 0.45)
    spread = np.linspace(0.0, 0.15, peers) if peers > 1 else np.zeros(1)
    return _Calibration(*(np.float32(value * (1 + spread)) for value in centre))


@functools.cache
def _one(config):
    """Environment, first seller's parameters, and jitted step."""
    env = make_pricing(config)
    params = make_pricing_params(config, calibration(1))
    return env, jax.tree.map(lambda leaf: leaf[0], params), jax.jit(env.step)


def _run(config, seed, weeks, actions):
    """States, actions and steps of a path of ``weeks`` from a reset."""
    env, params, step = _one(config)
    key = jax.random.key(seed)
    state, obs = env.reset(key, params)
    path = []
    for week in range(weeks):
        action = jnp.float32(actions[week % len(actions)]).reshape(1)
        following = step(jax.random.fold_in(key, week), state, action, params)
        path.append((state, obs, action, following))
        state, obs = following.state, following.obs
    return path


@pytest.mark.parametrize("config", [SHIFTING, REMEMBERING], ids=["shift", "memory"])
def test_step_agrees_with_the_numpy_market(config):
    env, params, _ = _one(config)
    p = {k: np.float64(v) for k, v in params._asdict().items() if np.ndim(v) == 0}
    start, obs = env.reset(jax.random.key(5), params)
    s = {
        "week": 0,
        "x": float(start.market.log_cost),
        "y": float(start.market.log_rival),
        "r": 1.0,
        "alpha": p["alpha"],
        "shift": 0.0,
        "last_price": 1.0,
        "log_sales": 0.0,
        "mean": 0.0,
        "reward": 1.0,
    }
    np.testing.assert_allclose(obs, reference.observation(p, s), atol=1e-5)
    draw = jax.jit(pricing_model.draw_noise)
    for week, (_, _, action, step) in enumerate(
        _run(config, 5, 60, (0.3, -0.9, 0.0, 1.0))
    ):
        noise = draw(jax.random.fold_in(jax.random.key(5), week))
        s, reward, log_sales = reference.week_step(p, s, float(action[0]), noise)
        np.testing.assert_allclose(step.reward, reward, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(env.outcome(step.info), log_sales, atol=2e-4)
        np.testing.assert_allclose(step.obs, reference.observation(p, s), atol=5e-4)
        np.testing.assert_allclose(step.state.market.alpha, s["alpha"], rtol=1e-4)
        assert not step.terminated
        assert not step.truncated


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, action=ACTIONS)
def test_scores_without_a_reference_price(seed, action):
    """Action 0 earns the historical profit, and no price beats the oracle."""
    env, params, step = _one(SHIFTING)
    key_reset, key_noise = jax.random.split(jax.random.key(seed))
    state, _ = env.reset(key_reset, params)
    state = state._replace(market=state.market._replace(week=jnp.int32(seed % 200)))
    noise = jax.random.fold_in(key_noise, 0)
    usual = step(noise, state, jnp.zeros(1), params)
    other = step(noise, state, jnp.full(1, action), params)
    score = env.score(usual.info)
    np.testing.assert_allclose(score.achieved, score.baseline, rtol=1e-6)
    assert env.score(other.info).achieved <= score.oracle * (1 + 1e-6) + 1e-6
    # Exogenous paths are paired: they do not depend on the price.
    chex.assert_trees_all_equal(usual.state.market, other.state.market)
    p = {k: np.float64(v) for k, v in params._asdict().items() if np.ndim(v) == 0}
    market = state.market
    best, earned, spacing = reference.best_price(
        lambda grid: reference.profit(
            p,
            int(market.week),
            float(market.log_cost),
            float(market.log_rival),
            1.0,
            grid,
        )
    )
    assert abs(usual.info.oracle_price - best) <= spacing + 1e-5
    np.testing.assert_allclose(score.oracle, earned, rtol=1e-4)


def test_expected_profit_is_the_mean_of_the_noisy_reward():
    env, params, _ = _one(REMEMBERING)
    state, _ = env.reset(jax.random.key(1), params)
    keys = jax.random.split(jax.random.key(2), 40_000)
    steps = jax.jit(
        lambda keys: jax.vmap(env.step, (0, None, None, None))(
            keys, state, jnp.full(1, 0.4), params
        )
    )(keys)
    rewards = np.asarray(steps.reward, np.float64)
    error = 4 * rewards.std() / np.sqrt(rewards.size)
    assert abs(rewards.mean() - float(steps.info.expected_profit[0])) < error
    # And the cost and rival keep their stationary spread.
    starts = jax.vmap(env.reset, (0, None))(keys, params)[0]
    np.testing.assert_allclose(starts.market.log_cost.std(), 0.13, rtol=0.02)
    following = jax.vmap(env.step, (0, 0, None, None))(
        keys, starts, jnp.zeros(1), params
    ).state
    np.testing.assert_allclose(following.market.log_cost.std(), 0.13, rtol=0.02)
    np.testing.assert_allclose(following.market.log_rival.std(), 0.10, rtol=0.02)


def test_reference_oracle_follows_its_own_path_and_beats_the_alternatives():
    env, params, _ = _one(REMEMBERING)
    weeks = 156

    @jax.jit
    def path(key, blend):
        """Mean profit of the oracle, of a policy that blends towards it, of history."""
        key_reset, key_path = jax.random.split(key)
        state, _ = env.reset(key_reset, params)

        def week(state, key):
            myopic = pricing_model.myopic_price(
                state.market, state.reference_price, params
            )
            oracle = pricing_model.reference_price_policy(
                state.market, state.reference_price, params
            )
            price = blend * oracle + (1 - blend) * myopic
            action = jnp.log(price)[None] / pricing_model.LOG_PRICE_RANGE
            step = env.step(key, state, action, params)
            return step.state, env.score(step.info)

        scores = jax.lax.scan(week, state, jax.random.split(key_path, weeks))[1]
        return jax.tree.map(jnp.mean, scores)

    keys = jax.random.split(jax.random.key(3), 64)
    followed = jax.vmap(path, (0, None))(keys, 1.0)
    myopic = jax.vmap(path, (0, None))(keys, 0.0)
    np.testing.assert_allclose(followed.achieved, followed.oracle, rtol=1e-4)
    np.testing.assert_allclose(myopic.oracle, followed.oracle, rtol=1e-6)
    assert 0.98 < myopic.achieved.mean() / followed.oracle.mean() < 0.992
    assert followed.baseline.mean() < myopic.achieved.mean()


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, action=ACTIONS)
def test_counterfactual_with_the_true_model_returns_the_real_week(seed, action):
    env, params, step = _one(REMEMBERING)
    key = jax.random.key(seed)
    state, _ = env.reset(jax.random.fold_in(key, 0), params)
    first = step(jax.random.fold_in(key, 1), state, jnp.full(1, -0.4), params)
    action = jnp.full(1, action)
    real = step(jax.random.fold_in(key, 2), first.state, action, params)
    share = pricing_model.expected_share(
        first.state.market, first.state.reference_price, real.info.price, params
    )
    log_demand = jnp.log(share / pricing_model.USUAL_SHARE)
    imagine = jax.jit(env.counterfactual)
    placeholder = real.final_obs.at[4:9].set(7.0)
    stored = _transition(first.obs, jnp.zeros(1), jnp.float32(9.0), placeholder)
    imagined = imagine(
        stored, action, log_demand, real.info.log_sales - log_demand, params
    )
    np.testing.assert_allclose(imagined.next_obs, real.final_obs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        imagined.reward, real.info.expected_profit, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(imagined.action, action)
    np.testing.assert_array_equal(imagined.discount, stored.discount)
    # A prediction beyond every customer buying is worth no more than that.
    wild = imagine(stored, action, jnp.float32(50.0), jnp.float32(0.0), params)
    gain = (real.info.price - real.info.cost) / (1 - params.unit_cost)
    np.testing.assert_allclose(wild.reward, gain / 0.2, rtol=1e-4, atol=1e-5)


def _transition(obs, action, reward, next_obs):
    from p2p_sac_jax.types import Transition

    return Transition(obs, action, reward, next_obs, jnp.float32(1.0))


@pytest.mark.parametrize("config", [SHIFTING, REMEMBERING], ids=["shift", "memory"])
def test_candidates_and_features_describe_the_week(config):
    env, params, _ = _one(config)
    state, obs, action, step = _run(config, 8, 9, (0.5, -0.2, 0.1))[-1]
    price, market = float(step.info.price), state.market
    angle = 2 * np.pi * int(market.week) / 52
    expected = [1.0, 1 - price, float(market.log_rival), np.cos(angle), np.sin(angle)]
    if env.num_features == 6:
        expected.insert(2, float(state.reference_price) - price)
    np.testing.assert_allclose(env.features(obs, action), expected, atol=1e-5)

    found = env.candidates(obs, params)
    chex.assert_shape(found.features, (41, env.num_features))
    np.testing.assert_allclose(found.actions[:, 0], np.linspace(-1, 1, 41), atol=1e-6)
    np.testing.assert_array_equal(found.cell, env.cell(obs))
    np.testing.assert_allclose(
        found.features[25], env.features(obs, found.actions[25]), atol=1e-6
    )
    # gain * sales is the reward.
    log_sales = float(step.info.log_sales)
    gain = np.interp(np.float64(action[0]), np.linspace(-1, 1, 4001), _gains(step.info))
    np.testing.assert_allclose(gain * np.exp(log_sales), step.reward, rtol=1e-3)
    np.testing.assert_allclose(found.gain, _gains(step.info)[::100], atol=1e-4)


def _gains(info, unit_cost=0.7):
    return (1.5 ** np.linspace(-1, 1, 4001) - float(info.cost)) / (1 - unit_cost)


def test_cells_are_cost_bins_times_quarters():
    env, _, _ = _one(SHIFTING)
    weeks = np.arange(52)
    angles = 2 * np.pi * weeks / 52
    for rank, cost in enumerate((0.5, 0.65, 0.7, 0.75, 0.9)):
        obs = np.zeros((52, 11), np.float32)
        obs[:, 0], obs[:, 1], obs[:, 2] = (
            np.cos(angles),
            np.sin(angles),
            4 * (cost - 0.7),
        )
        cells = np.asarray(jax.vmap(env.cell)(obs))
        np.testing.assert_array_equal(cells, rank * 4 + weeks // 13)
    assert len(COST_EDGES) == 4
    assert env.num_cells == 20


def test_exogenous_weeks_look_like_the_market_at_the_status_quo():
    env, params, _ = _one(REMEMBERING)
    keys = jax.random.split(jax.random.key(4), 20_000)
    weeks = jax.jit(jax.vmap(env.exogenous, (0, None)))(keys, params)
    chex.assert_shape(weeks.next_obs, (20_000, 11))
    obs, following = np.asarray(weeks.obs), np.asarray(weeks.next_obs)
    np.testing.assert_array_equal(weeks.action, 0.0)
    np.testing.assert_array_equal(weeks.discount, 1.0)
    for row in (obs, following):
        np.testing.assert_array_equal(row[:, 4:8], 0.0)
        x = np.log((row[:, 2] / 4 + 0.7) / 0.7)
        np.testing.assert_allclose(
            [x.std(), row[:, 3].std() / 4], [0.13, 0.1], rtol=0.03
        )
    np.testing.assert_allclose(
        np.corrcoef(obs[:, 3], following[:, 3])[0, 1], 0.75, atol=0.02
    )
    step = np.arctan2(following[:, 1], following[:, 0]) - np.arctan2(
        obs[:, 1], obs[:, 0]
    )
    np.testing.assert_allclose(np.mod(step, 2 * np.pi), 2 * np.pi / 52, atol=1e-4)
    counts = np.bincount(
        np.round(np.arctan2(obs[:, 1], obs[:, 0]) * 26 / np.pi).astype(int) % 52
    )
    assert counts.min() > 250


def test_vmapped_sellers_equal_a_loop():
    env = make_pricing(REMEMBERING)
    params = make_pricing_params(REMEMBERING, calibration(3))
    keys = jax.random.split(jax.random.key(6), 3)
    actions = jnp.float32([[0.2], [-0.6], [0.9]])

    def one(key, action, params):
        key_reset, key_step = jax.random.split(key)
        state, obs = env.reset(key_reset, params)
        step = env.step(key_step, state, action, params)
        return step, env.candidates(obs, params), env.cell(obs)

    together = jax.jit(jax.vmap(one))(keys, actions, params)
    single = jax.jit(one)
    for peer in range(3):
        here = jax.tree.map(lambda leaf, peer=peer: leaf[peer], params)
        alone = single(keys[peer], actions[peer], here)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, peer=peer: leaf[peer], together), alone, atol=1e-5
        )


def test_parameters_are_derived_and_checked():
    params = make_pricing_params(SHIFTING, calibration(3))
    chex.assert_shape(params.alpha, (3,))
    assert params.reference_policy == ()
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(params.alpha[0], 2.68 / 0.8, rtol=1e-6)
    np.testing.assert_allclose(params.rival_share[0], 0.8 * 0.8 / 2.68, rtol=1e-6)
    # The elasticity at the usual price is the calibrated one, seasons aside.
    flat = {k: float(np.ravel(v)[0]) for k, v in params._asdict().items() if np.size(v)}
    flat |= {"season_amplitude": 0.0, "sensitivity_swing": 0.0}
    shares = [reference.share(flat, 0, 0.0, 0.0, 1.0, p) for p in (0.999, 1.001)]
    slope = np.diff(np.log(shares))[0] / np.diff(np.log([0.999, 1.001]))[0]
    np.testing.assert_allclose(slope, -2.68, rtol=1e-4)

    bad = calibration(2)._replace(elasticity=np.float32([-2.0, 0.5]))
    with pytest.raises(ConfigError, match=r"calibration\.elasticity.*negative"):
        make_pricing_params(SHIFTING, bad)
    both = EnvironmentConfig(reference_effect=0.2, regime_hazard=0.1)
    with pytest.raises(ConfigError, match="regime_hazard"):
        make_pricing_params(both, calibration(1))


def test_noise_is_drawn_whether_or_not_it_is_used():
    """A market without regimes sees the same cost, rival and demand as one with."""
    _, params, _ = _one(SHIFTING)
    env, _, _ = _one(SHIFTING)
    state, _ = env.reset(jax.random.key(7), params)
    noise = pricing_model.draw_noise(jax.random.key(8))._replace(
        regime=jnp.float32(0.1)
    )
    shifted = advance(False, state, jnp.zeros(1), noise, params)
    calm = advance(
        False,
        state,
        jnp.zeros(1),
        noise,
        params._replace(regime_hazard=jnp.float32(0.0)),
    )
    assert shifted.state.market.alpha != calm.state.market.alpha
    np.testing.assert_array_equal(shifted.reward, calm.reward)
    np.testing.assert_array_equal(shifted.obs, calm.obs)
