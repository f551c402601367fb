"""The pricing market against an independent NumPy market and its own promises."""

from __future__ import annotations

import functools
from collections import namedtuple
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
    demand_world,
    make_pricing,
    make_pricing_params,
)
from p2p_sac_jax.types import Transition
from tests.reference import market as reference

SHIFTING = EnvironmentConfig(regime_hazard=0.3)
REMEMBERING = EnvironmentConfig(reference_effect=0.2)
ACTIONS = st.floats(-1.0, 1.0, width=32)
SEEDS = st.integers(0, 2**16)


_Calibration = namedtuple(
    "_Calibration",
    "elasticity cross_elasticity unit_cost cost_vol cost_persistence rival_vol"
    " rival_persistence season_amplitude season_phase demand_noise",
)


def calibration(peers):
    """Sellers like an orange-juice brand; all but the first differ a little."""
    centre = (-2.68, 0.8, 0.7, 0.13, 0.85, 0.10, 0.75, 0.15, 0.7, 0.45)
    spread = np.linspace(0.0, 0.15, peers) if peers > 1 else np.zeros(1)
    return _Calibration(*(np.float32(value * (1 + spread)) for value in centre))


class _Market(NamedTuple):
    env: object
    params: object
    p: dict  # scalar parameters in float64, for the reference
    advance: object  # jitted (state, action, noise) -> Step


@functools.cache
def _one(config):
    """Environment and the first seller, compiled once per configuration."""
    env = make_pricing(config)
    params = make_pricing_params(config, calibration(1))
    params = jax.tree.map(lambda leaf: leaf[0], params)
    p = {k: np.float64(v) for k, v in params._asdict().items() if np.ndim(v) == 0}
    world = demand_world(config)
    step = jax.jit(lambda *given: advance(world, *given, params))
    return _Market(env, params, p, step)


@functools.cache
def _draws(config):
    """Jitted (seed) -> reset state, its observation and 60 weeks of noise."""
    market = _one(config)

    @jax.jit
    def draw(seed):
        key_reset, key_noise = jax.random.split(jax.random.key(seed))
        state, obs = market.env.reset(key_reset, market.params)
        noise = jax.vmap(pricing_model.draw_noise)(jax.random.split(key_noise, 60))
        return state, obs, noise

    def host(seed):
        state, obs, noise = draw(seed)
        noise = jax.tree.map(np.asarray, noise)
        weeks = [jax.tree.map(lambda leaf, t=t: leaf[t], noise) for t in range(60)]
        return state, obs, weeks

    return host


def _action(value):
    return np.full(1, value, np.float32)


@pytest.mark.parametrize("config", [SHIFTING, REMEMBERING], ids=["shift", "memory"])
def test_step_agrees_with_the_numpy_market(config):
    env, _, p, advance_week = _one(config)
    state, obs, weeks = _draws(config)(5)
    s = {
        "week": 0,
        "x": float(state.market.log_cost),
        "y": float(state.market.log_rival),
        "r": 1.0,
        "alpha": p["alpha"],
        "shift": 0.0,
        "last_price": 1.0,
        "log_sales": 0.0,
        "mean": 0.0,
        "reward": 1.0,
    }
    np.testing.assert_allclose(obs, reference.observation(p, s), atol=1e-5)
    for week, noise in enumerate(weeks):
        action = (0.3, -0.9, 0.0, 1.0)[week % 4]
        step = advance_week(state, _action(action), noise)
        s, reward, log_sales = reference.week_step(p, s, action, noise)
        np.testing.assert_allclose(step.reward, reward, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(env.demand.outcome(step.info), log_sales, atol=2e-4)
        np.testing.assert_allclose(step.obs, reference.observation(p, s), atol=5e-4)
        np.testing.assert_allclose(step.state.market.alpha, s["alpha"], rtol=1e-4)
        assert not step.terminated
        assert not step.truncated
        state = step.state


def test_step_draws_its_noise_from_the_key():
    env, params, _, advance_week = _one(SHIFTING)
    state, _, _ = _draws(SHIFTING)(2)

    @jax.jit
    def draw(seed):
        return pricing_model.draw_noise(jax.random.key(seed))

    @jax.jit
    def step(seed, state):
        return env.step(jax.random.key(seed), state, jnp.zeros(1), params)

    chex.assert_trees_all_close(
        step(11, state), advance_week(state, _action(0.0), draw(11)), rtol=1e-5
    )


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, action=ACTIONS)
def test_scores_without_a_reference_price(seed, action):
    """Action 0 earns the historical profit, and no price beats the oracle."""
    env, _, p, advance_week = _one(SHIFTING)
    state, _, weeks = _draws(SHIFTING)(seed)
    state = state._replace(market=state.market._replace(week=np.int32(seed % 200)))
    usual = advance_week(state, _action(0.0), weeks[0])
    other = advance_week(state, _action(action), weeks[0])
    score = env.score(usual.info)
    np.testing.assert_allclose(score.achieved, score.baseline, rtol=1e-6)
    assert other.info.expected_profit <= score.oracle * (1 + 1e-6) + 1e-6
    # Exogenous paths are paired: they do not depend on the price.
    chex.assert_trees_all_equal(usual.state.market, other.state.market)
    x, y = float(state.market.log_cost), float(state.market.log_rival)
    best, earned, spacing = reference.best_price(
        lambda grid: reference.profit(p, seed % 200, x, y, 1.0, grid)
    )
    assert abs(usual.info.oracle_price - best) <= spacing + 1e-5
    np.testing.assert_allclose(score.oracle, earned, rtol=1e-4)


def test_expected_profit_is_the_mean_of_the_noisy_reward():
    env, params, _, _ = _one(REMEMBERING)
    fixed, _, _ = _draws(REMEMBERING)(1)

    @jax.jit
    def sample(seed):
        def one(key):
            key_reset, key_fixed, key_step = jax.random.split(key, 3)
            start, _ = env.reset(key_reset, params)
            step = env.step(key_fixed, fixed, jnp.full(1, 0.4), params)
            following = env.step(key_step, start, jnp.zeros(1), params)
            return step.reward, step.info, start.market, following.state.market

        return jax.vmap(one)(jax.random.split(jax.random.key(seed), 40_000))

    rewards, info, start, following = sample(2)
    rewards = np.asarray(rewards, np.float64)
    error = 4 * rewards.std() / np.sqrt(rewards.size)
    assert abs(rewards.mean() - float(info.expected_profit[0])) < error
    for market in (start, following):  # the stationary spread is kept
        np.testing.assert_allclose(market.log_cost.std(), 0.13, rtol=0.02)
        np.testing.assert_allclose(market.log_rival.std(), 0.10, rtol=0.02)


def test_reference_oracle_follows_its_own_path_and_beats_the_alternatives():
    env, params, _, _ = _one(REMEMBERING)
    weeks = 156

    def path(blend, key):
        """Mean scores of a policy between the myopic one and the oracle."""
        key_reset, key_path = jax.random.split(key)
        state, _ = env.reset(key_reset, params)

        def week(state, index):
            myopic = pricing_model.myopic_price(
                state.market, state.reference_price, params
            )
            oracle = pricing_model.reference_price_policy(
                state.market, state.reference_price, params
            )
            price = blend * oracle + (1 - blend) * myopic
            action = jnp.log(price)[None] / pricing_model.LOG_PRICE_RANGE
            key = jax.random.fold_in(key_path, index)
            step = env.step(key, state, action, params)
            return step.state, env.score(step.info)

        scores = jax.lax.scan(week, state, jnp.arange(weeks))[1]
        return jax.tree.map(jnp.mean, scores)

    @jax.jit
    def paths(blend):
        keys = jax.random.split(jax.random.key(3), 64)
        return jax.vmap(functools.partial(path, blend))(keys)

    followed, myopic = paths(1.0), paths(0.0)
    np.testing.assert_allclose(followed.achieved, followed.oracle, rtol=1e-4)
    np.testing.assert_allclose(myopic.oracle, followed.oracle, rtol=1e-6)
    assert 0.98 < myopic.achieved.mean() / followed.oracle.mean() < 0.992
    assert followed.baseline.mean() < myopic.achieved.mean()


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, action=ACTIONS)
def test_counterfactual_with_the_true_model_returns_the_real_week(seed, action):
    _, params, _, advance_week = _one(REMEMBERING)
    state, _, weeks = _draws(REMEMBERING)(seed)
    first = advance_week(state, _action(-0.4), weeks[0])
    real = advance_week(first.state, _action(action), weeks[1])
    market, price = first.state.market, real.info.price
    share = _share(market, first.state.reference_price, price, params)
    log_demand = np.log(share / np.float32(0.2))
    stored = Transition(
        obs=first.obs,
        action=_action(0.0),
        reward=np.float32(9.0),
        # All that depends on the price must be rebuilt; the shock is in entry 6.
        next_obs=real.final_obs.at[np.array([4, 5, 7, 8])].set(7.0),
        discount=np.float32(1.0),
    )
    model_rollout = _imagine(REMEMBERING)
    imagined = model_rollout(stored, _action(action), log_demand, log_demand, params)
    np.testing.assert_allclose(imagined.next_obs, real.final_obs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        imagined.reward, real.info.expected_profit, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(imagined.action, _action(action))
    np.testing.assert_array_equal(imagined.discount, 1.0)
    # A prediction beyond every customer buying is worth no more than that.
    wild = model_rollout(
        stored, _action(action), np.float32(50.0), np.float32(0.0), params
    )
    gain = (price - real.info.cost) / (1 - params.unit_cost)
    np.testing.assert_allclose(wild.reward, gain / 0.2, rtol=1e-4, atol=1e-5)


_share = jax.jit(pricing_model.expected_share)


@functools.cache
def _imagine(config):
    return jax.jit(make_pricing(config).demand.counterfactual)


@pytest.mark.parametrize("config", [SHIFTING, REMEMBERING], ids=["shift", "memory"])
def test_candidates_and_features_describe_the_week(config):
    env, params, _, advance_week = _one(config)
    state, _, weeks = _draws(config)(8)
    for noise in weeks[:8]:
        state, obs, *_ = advance_week(state, _action(0.5), noise)
    action = _action(-0.2)
    step = advance_week(state, action, weeks[8])
    found = jax.jit(env.demand.candidates)(obs, params)
    price, market = float(step.info.price), state.market
    angle = 2 * np.pi * int(market.week) / 52
    expected = [1.0, 1 - price, float(market.log_rival), np.cos(angle), np.sin(angle)]
    if len(env.demand.coefficients) == 6:
        expected.insert(2, float(state.reference_price) - price)
    np.testing.assert_allclose(env.demand.features(obs, action), expected, atol=1e-5)
    chex.assert_shape(found.features, (41, len(env.demand.coefficients)))
    np.testing.assert_allclose(found.actions[:, 0], np.linspace(-1, 1, 41), atol=1e-6)
    np.testing.assert_allclose(found.features[16], expected, atol=1e-5)
    np.testing.assert_array_equal(found.cell, env.cell(obs))
    # Gain times sales is the reward.
    np.testing.assert_allclose(
        found.gain[16] * np.exp(step.info.log_sales), step.reward, rtol=1e-4
    )


def test_cells_are_cost_bins_times_quarters():
    env = make_pricing(SHIFTING)
    cell = jax.jit(jax.vmap(env.cell))
    weeks = np.arange(52)
    angles = 2 * np.pi * weeks / 52
    for rank, cost in enumerate((0.5, 0.65, 0.7, 0.75, 0.9)):
        obs = np.zeros((52, 11), np.float32)
        obs[:, 0], obs[:, 1], obs[:, 2] = (
            np.cos(angles),
            np.sin(angles),
            4 * (cost - 0.7),
        )
        cells = np.asarray(cell(obs))
        np.testing.assert_array_equal(cells, rank * 4 + weeks // 13)
    assert len(COST_EDGES) == 4
    assert env.num_cells == 20


def test_exogenous_weeks_look_like_the_market_at_the_status_quo():
    env, params, _, _ = _one(REMEMBERING)

    @jax.jit
    def draw(seed):
        keys = jax.random.split(jax.random.key(seed), 20_000)
        return jax.vmap(env.demand.exogenous, (0, None))(keys, params)

    weeks = draw(4)
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


def test_regimes_change_nothing_but_the_regime():
    """A market without regimes sees the same cost, rival and demand as one with."""
    market = _one(SHIFTING)
    state, _, weeks = _draws(SHIFTING)(7)
    noise = weeks[0]._replace(regime=np.float32(0.1))
    shifted = market.advance(state, _action(0.0), noise)
    calm = market.advance(state, _action(0.0), noise._replace(regime=np.float32(0.9)))
    assert shifted.state.market.alpha != calm.state.market.alpha
    np.testing.assert_array_equal(shifted.reward, calm.reward)
    np.testing.assert_array_equal(shifted.obs, calm.obs)
