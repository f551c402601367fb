"""Closed-form optimal prices against brute force and published values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from p2p_sac_jax.environments import oracle
from tests.reference import market as reference

COSTS = st.floats(0.3, 1.2)


def test_lambert_w_agrees_with_scipy():
    z = np.concatenate([[0.0], np.logspace(-12, 30, 400)]).astype(np.float32)
    np.testing.assert_allclose(
        jax.jit(oracle.lambert_w)(z), lambertw(z.astype(np.float64)).real, rtol=1e-6
    )


@settings(deadline=None, max_examples=25)
@given(cost=COSTS, elasticity=st.floats(-6.0, -1.5))
def test_constant_elasticity_price_is_the_best_on_a_grid(cost, elasticity):
    best, _, spacing = reference.best_price(
        lambda p: (p - cost) * p**elasticity, cost, 5.0 * cost, 40_001
    )
    price = oracle.constant_elasticity_price(cost, elasticity)
    assert abs(price - best) <= spacing


@settings(deadline=None, max_examples=25)
@given(cost=COSTS, sensitivity=st.floats(0.5, 8.0))
def test_exponential_price_is_the_best_on_a_grid(cost, sensitivity):
    best, _, spacing = reference.best_price(
        lambda p: (p - cost) * np.exp(-sensitivity * p), cost, cost + 5 / sensitivity
    )
    assert abs(oracle.exponential_price(cost, sensitivity) - best) <= spacing


@settings(deadline=None, max_examples=25)
@given(
    cost=COSTS,
    sensitivity=st.floats(0.5, 8.0),
    appeal=st.floats(-3.0, 12.0),
    rival=st.floats(-20.0, 5.0),
)
def test_logit_price_is_the_best_on_a_grid(cost, sensitivity, appeal, rival):
    def share(price):
        odds = np.exp(appeal - sensitivity * price)
        return odds / (1 + odds + np.exp(rival))

    best, _, spacing = reference.best_price(
        lambda p: (p - cost) * share(p), cost, cost + 16 / sensitivity, 20_001
    )
    price = np.float64(
        jax.jit(oracle.logit_price)(sensitivity, cost, appeal, np.exp(rival))
    )
    assert abs(price - best) <= spacing
    # First-order condition: markup = 1 / (sensitivity (1 - share)).
    np.testing.assert_allclose(
        (price - cost) * sensitivity * (1 - share(price)), 1.0, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("firms", "nash", "monopoly", "nash_profit", "monopoly_profit"),
    [
        (2, 1.472927, 1.924981, 0.222927, 0.337490),
        (3, 1.370163, 2.0, 0.120163, 0.25),
        (4, 1.331461, 2.054411, 0.081461, 0.201103),
    ],
)
def test_calvano_prices_and_profits(
    firms, nash, monopoly, nash_profit, monopoly_profit
):
    market = (jnp.full(firms, 2.0), jnp.ones(firms))
    scale, outside = jnp.float32(0.25), jnp.float32(0.0)
    for solver, known, known_profit in (
        (oracle.bertrand_nash, nash, nash_profit),
        (oracle.joint_monopoly_prices, monopoly, monopoly_profit),
    ):
        price = jax.jit(solver)(*market, scale, outside)
        profits = jax.jit(oracle.logit_profits)(*market, price, scale, outside)
        np.testing.assert_allclose(price, np.full(firms, known), atol=1e-5)
        np.testing.assert_allclose(profits, np.full(firms, known_profit), atol=1e-5)


def test_asymmetric_bertrand_prices_cannot_be_improved():
    quality, cost = np.array([2.0, 1.7, 2.4]), np.array([1.0, 0.8, 1.3])
    scale, outside = 0.3, 0.1

    def profits(price):
        odds = np.exp((quality - price) / scale)
        return (price - cost) * odds / (np.exp(outside / scale) + odds.sum())

    arguments = (
        jnp.float32(quality),
        jnp.float32(cost),
        jnp.float32(scale),
        jnp.float32(outside),
    )
    nash = np.asarray(oracle.bertrand_nash(*arguments), np.float64)
    joint = np.asarray(oracle.joint_monopoly_prices(*arguments), np.float64)
    for firm in range(3):

        def alone(grid, firm=firm):
            return np.array(
                [profits(np.where(np.arange(3) == firm, p, nash))[firm] for p in grid]
            )

        best, _, spacing = reference.best_price(alone, cost[firm], 4.0)
        assert abs(best - nash[firm]) <= spacing
    rng = np.random.default_rng(0)
    nearby = joint + rng.normal(0.0, 0.05, (200, 3))
    assert profits(joint).sum() >= max(profits(p).sum() for p in nearby) - 1e-7


def test_perishable_value_and_price_agree_with_dynamic_programming():
    market = (20.0, 2.0, 0.4)
    value, best = reference.perishable_values(8, 1.0, *market)
    values, prices = jax.jit(
        jax.vmap(
            lambda n: (
                oracle.perishable_value(n, 1.0, *market),
                oracle.perishable_price(jnp.maximum(n, 1), 1.0, *market),
            )
        )
    )(jnp.arange(9))
    np.testing.assert_allclose(values, value, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(prices[1:], best[1:], atol=4e-3)


def test_perishable_price_limits():
    market = (20.0, 2.0, 0.4)
    prices = jax.jit(
        jax.vmap(lambda n, t: oracle.perishable_price(n, t, *market)),
    )
    # Nothing left to wait for, and more stock than customers: the static price.
    np.testing.assert_allclose(prices(jnp.full(50, 3), jnp.zeros(50)), 0.9, rtol=1e-6)
    np.testing.assert_allclose(prices(jnp.full(50, 50), jnp.ones(50)), 0.9, rtol=1e-6)
    # Prices fall with stock and rise with time left; plenty of demand at n = 50.
    many = np.asarray(prices(jnp.arange(1, 51), jnp.full(50, 100.0)))
    longer = np.asarray(prices(jnp.full(50, 50), jnp.linspace(0.0, 200.0, 50)))
    assert np.all(np.diff(many) < 0)
    assert np.all(np.diff(longer) >= 0)
