"""Value iteration with a reference price against loops, moments and known ratios."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from p2p_sac_jax.config import EnvironmentConfig
from p2p_sac_jax.environments import pricing_model, reference_oracle
from tests.environments.test_pricing import calibration
from tests.reference import market as reference


@pytest.mark.parametrize("persistence", [0.0, 0.75, 0.97])
def test_rouwenhorst_has_the_moments_of_the_autoregression(persistence):
    chain = jax.jit(reference_oracle.rouwenhorst)(0.13, persistence)
    states, transition = np.asarray(chain.states), np.asarray(chain.transition)
    law = special.comb(4, np.arange(5)) / 16  # binomial, whatever the persistence
    np.testing.assert_allclose(transition.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(law @ transition, law, atol=1e-6)
    np.testing.assert_allclose(np.diff(states), 0.13, rtol=1e-5)
    np.testing.assert_allclose(law @ states**2, 0.13**2, rtol=1e-5)
    # Conditional mean and variance, state by state.
    mean = transition @ states
    np.testing.assert_allclose(mean, persistence * states, atol=1e-6)
    np.testing.assert_allclose(
        law @ (transition @ states**2 - mean**2),
        0.13**2 * (1 - persistence**2),
        rtol=1e-3,
    )


def test_interpolation_is_exact_for_a_multilinear_function():
    i, j, k = np.meshgrid(*(np.arange(n) for n in (4, 3, 5)), indexing="ij")
    table = jnp.float32(1.0 + i - 2 * j + 0.5 * k + i * j * k)
    for a, b, c in ((0.5, 1.2, 3.9), (3.0, 2.0, 4.0), (-0.5, 2.5, 4.5)):
        value = reference_oracle.interpolate(table, tuple(jnp.float32([a, b, c])))
        np.testing.assert_allclose(
            value, 1 + a - 2 * b + 0.5 * c + a * b * c, rtol=1e-5
        )


@functools.cache
def _seller(effect):
    config = EnvironmentConfig(reference_effect=effect)
    params = pricing_model.make_pricing_params(config, calibration(1))
    return jax.tree.map(lambda leaf: leaf[0], params)


def test_value_iteration_agrees_with_plain_loops():
    params = _seller(0.4)
    market = reference_oracle.ReferenceMarket(
        cost=reference_oracle.rouwenhorst(params.cost_vol, params.cost_persistence, 3),
        rival=reference_oracle.rouwenhorst(params.rival_vol, 0.75, 2),
        references=jnp.linspace(0.7, 1.4, 8),
        prices=jnp.linspace(0.7, 1.4, 29),
        decay=params.reference_decay,
    )
    profit = pricing_model.reference_profit(params)
    solution = jax.jit(
        lambda market: reference_oracle.solve(profit, market, 0.9, years=6, weeks=4)
    )(market)
    policy, value = reference.reference_price_values(
        {name: np.float64(leaf) for name, leaf in params._asdict().items()},
        (np.float64(market.cost.states), np.float64(market.cost.transition)),
        (np.float64(market.rival.states), np.float64(market.rival.transition)),
        np.float64(market.references),
        np.float64(market.prices),
        discount=0.9,
        sweeps=6,
        weeks=4,
    )
    np.testing.assert_allclose(solution.value, value, rtol=2e-5)
    # Ties between neighbouring prices may break either way in float32.
    assert np.mean(np.abs(np.asarray(solution.prices) - policy) > 1e-5) < 0.01


def test_without_a_future_the_policy_is_the_myopic_price():
    params = _seller(0.4)
    market = pricing_model.reference_market(params)
    table = reference_oracle.solve(
        pricing_model.reference_profit(params), market, 0.0, years=1
    ).prices
    week, x, y, m = 11, 1, 3, 30
    now = pricing_model.Market(
        jnp.int32(week),
        market.cost.states[x],
        market.rival.states[y],
        params.alpha,
        jnp.float32(0.0),
    )
    exact = pricing_model.myopic_price(now, market.references[m], params)
    spacing = 1.5 ** (2 / 120)
    assert 1 / spacing < table[week, x, y, m] / exact < spacing
