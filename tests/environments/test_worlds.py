"""Every demand world against its NumPy definition, its oracle and its own mean."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError, EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import pricing_model as model
from p2p_sac_jax.environments import worlds
from p2p_sac_jax.environments.pricing import PRICING, advance, make_pricing_params
from p2p_sac_jax.environments.worlds import WORLDS
from p2p_sac_jax.validation import validate
from tests.environments.test_pricing import calibration
from tests.helpers.configs import changed
from tests.reference import market as market_reference
from tests.reference import worlds as reference

PRICES = np.exp(np.linspace(-model.LOG_PRICE_RANGE, model.LOG_PRICE_RANGE, 2001))


def _seller(name, seed=3):
    world, config = WORLDS[name], EnvironmentConfig(world=name)
    figures = worlds.draw_figures(world, np.random.default_rng(seed))
    params = make_pricing_params(config, calibration(1), figures)
    params = jax.tree.map(lambda leaf: leaf[0], params)
    p = {k: np.float64(v) for k, v in params._asdict().items() if np.ndim(v) == 0}
    return world, params, p, figures.astype(np.float64)


def _markets(count, seed=0):
    """Weeks of a year with cost and rival prices of many kinds, leaves [count]."""
    draw = np.random.default_rng(seed)
    alpha = np.full(count, calibration(1).elasticity[0] / -0.8)
    return model.Market(
        week=draw.integers(0, 52, count).astype(np.int32),
        log_cost=draw.normal(0, 0.15, count).astype(np.float32),
        log_rival=draw.normal(0, 0.1, count).astype(np.float32),
        alpha=alpha.astype(np.float32),
        demand_shift=np.zeros(count, np.float32),
    )


@pytest.mark.parametrize("name", WORLDS)
def test_demand_and_oracle_agree_with_the_definition(name):
    world, params, p, figures = _seller(name)
    markets = _markets(24)

    @jax.jit
    @jax.vmap
    def solve(market):
        one = jnp.ones(())
        over_prices = (None, None, 0, None)
        demand = jax.vmap(world.demand, over_prices)(market, one, PRICES, params)
        best = worlds.best_price(world, market, one, params)
        profit = functools.partial(worlds.expected_profit, world, market, one)
        return demand, best, profit(best, params)

    demand, best, earned = solve(markets)
    draws = np.random.default_rng(1).normal(size=4000)
    for i in range(24):
        week, x, y = (float(leaf[i]) for leaf in markets[:3])
        expected = reference.demand(name, figures, p, week, x, y, PRICES)
        at_figure = (
            np.isclose(PRICES, figures[0], rtol=1e-6) if name == "threshold" else 0
        )
        np.testing.assert_allclose(
            demand[i] * (1 - at_figure), expected * (1 - at_figure), rtol=2e-4
        )
        units = reference.mean_units(name, figures, p, expected, draws)
        margin = (PRICES - p["unit_cost"] * np.exp(x)) / (1 - p["unit_cost"])
        profits = margin * units / reference.S0
        tolerance = 0.01 if name == "stock_outs" else 5e-4  # Monte Carlo, or the grid
        np.testing.assert_allclose(earned[i], profits.max(), rtol=tolerance)
        if name not in ("stock_outs", "threshold"):
            assert abs(best[i] - PRICES[profits.argmax()]) < 2e-2


@pytest.mark.parametrize("name", WORLDS)
def test_mean_of_sales_is_the_expected_sales(name):
    world, params, _, _ = _seller(name)
    demand = jnp.asarray(0.25, jnp.float32)

    @jax.jit
    def sell():
        keys = jax.random.split(jax.random.key(7), 60_000)
        noise = jax.vmap(functools.partial(model.draw_noise, extra=world.normals))(keys)
        sold = jax.vmap(world.sell, (None, 0, None))(demand, noise, params)
        return sold, world.mean_units(demand, params)

    sold, mean = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sell())
    error = sold.units.std() / np.sqrt(sold.units.size)
    # Heavy tails normalise by 256 quantiles instead of the integral.
    slack = 0.005 if name == "heavy_tails" else 0.0
    assert abs(sold.units.mean() / mean - 1.0) < 4 * error / mean + slack
    sells = sold.units > 0
    np.testing.assert_allclose(
        sold.log_sales[sells], np.log(sold.units[sells] / 0.2), atol=1e-4
    )
    assert np.isfinite(sold.log_sales).all()


def test_counts_are_poisson_and_no_sale_counts_as_half_a_unit():
    world, params, _, figures = _seller("counts")
    params = params._replace(demand_noise=np.float32(1e-3))
    noise = model.Noise(*np.zeros((6, 4000), np.float32))
    normals = np.random.default_rng(0).normal(size=(4000, 1)).astype(np.float32)
    for demand in (0.2, 0.6, 6.0):  # the last with the normal approximation
        sell = jax.jit(jax.vmap(world.sell, (None, 0, None)))
        sold = sell(jnp.float32(demand), noise._replace(extra=normals), params)
        counts = np.asarray(sold.units) * figures[0] / 0.2
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
        mean = figures[0] * demand / 0.2
        np.testing.assert_allclose(counts.mean(), mean, rtol=0.05)
        np.testing.assert_allclose(counts.var(), mean, rtol=0.1)
        recorded = np.exp(np.asarray(sold.log_sales)) * figures[0]
        np.testing.assert_allclose(recorded, np.maximum(counts, 0.5), rtol=1e-4)


def test_drift_moves_the_market_and_nothing_else_does():
    noise = model.Noise(*np.full(6, 0.9, np.float32), extra=np.ones(4, np.float32))
    for name, world in WORLDS.items():
        _, params, _, _ = _seller(name)
        market = jax.tree.map(lambda leaf: leaf[0], _markets(1))
        week = noise._replace(extra=noise.extra[: world.normals])
        following = world.next_market(market, week, params)
        moved = float(following.alpha / market.alpha - 1.0)
        assert (moved > 0.005) == (name == "drift")
        assert (float(following.demand_shift) > 0.01) == (name == "drift")


def test_figures_are_shared_by_a_population_and_lie_in_their_bounds():
    config = EnvironmentConfig(world="threshold")
    drawn = PRICING.draw_peers(config, PopulationConfig(peers=3), 3)
    place, fall = drawn.params.world.T
    assert len(set(place)) == len(set(fall)) == 1
    assert 1.0 <= place[0] <= 1.1
    assert 0.2 <= fall[0] <= 0.4


def test_a_week_reports_the_profit_of_its_world():
    world, params, p, figures = _seller("kink")
    market = jax.tree.map(lambda leaf: leaf[0], _markets(1))
    state, _ = PRICING.make(EnvironmentConfig(world="kink")).reset(
        jax.random.key(0), params
    )
    step = jax.jit(functools.partial(advance, world))(
        state._replace(market=market),
        jnp.full(1, 0.5),
        model.Noise(*np.zeros(6, np.float32)),
        params,
    )
    price = 1.5**0.5
    week, x, y = (float(leaf) for leaf in market[:3])
    cost = p["unit_cost"] * np.exp(x)
    demand = reference.demand("kink", figures, p, week, x, y, price)
    profit = (price - cost) / (1 - p["unit_cost"]) * demand / reference.S0
    np.testing.assert_allclose(step.info.expected_profit, profit, rtol=1e-4)
    logit = market_reference.profit(p, week, x, y, 1.0, price)
    assert step.info.expected_profit < 0.9 * logit
    assert step.info.expected_profit < step.info.historical_profit


def test_worlds_have_no_oracle_with_reference_prices():
    with pytest.raises(ConfigError, match=r"environment\.world='kink' must be 'logit'"):
        validate(
            changed({"environment.world": "kink", "environment.reference_effect": 0.2})
        )
