"""The best uniform price against scipy and a NumPy market of its own."""

import numpy as np
import pytest
from scipy import optimize

from p2p_sac_jax.ablation.uniform_price import best_uniform_price
from p2p_sac_jax.config import ConfigError, EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments.pricing import make_pricing, make_pricing_params
from p2p_sac_jax.environments.registry import World, make_world
from tests.environments.test_pricing import calibration
from tests.reference import market as reference

WEEKS = 30
STILL, REMEMBERING, INELASTIC, CALIBRATED = range(4)


@pytest.fixture(scope="module")
def world():
    """Three markets in which nothing but the season moves, and one as calibrated.

    Of the three, one remembers prices, and one wants a price out of range. The
    oracle of this environment looks no further than the week in any.
    """
    config = EnvironmentConfig()
    params = make_pricing_params(config, calibration(4))
    still = np.float32([1e-4, 1e-4, 1e-4, 1.0])
    params = params._replace(
        alpha=np.where(np.arange(4) == INELASTIC, np.float32(1.2), params.alpha),
        cost_vol=still * params.cost_vol,
        cost_persistence=np.full(4, 0.5, np.float32),  # so that few episodes will do
        rival_vol=still * params.rival_vol,
        reference_effect=np.float32([0.0, 0.8, 0.0, 0.0]),
    )
    return World(make_pricing(config), params, list("abcd"), np.zeros((4, 1)))


@pytest.fixture(scope="module")
def found(world):
    return best_uniform_price(world, WEEKS, seed=3)


def seller(world, peer):
    fields = world.params._asdict()
    return {name: np.float64(leaf[peer]) for name, leaf in fields.items() if len(leaf)}


def episode(p, price_of, x, y):
    """Mean expected profit of a price rule over weeks of log cost x and rival y."""
    r, earned = np.ones(x.shape[1:]), []
    for week in range(WEEKS):
        price = price_of(week, r)
        earned.append(reference.profit(p, week, x[week], y[week], r, price))
        r = 0.7 * r + 0.3 * price
    return np.mean(earned)


def best_constant(p, x, y):
    """(price, profit) by scipy."""
    result = optimize.minimize_scalar(
        lambda price: -episode(p, lambda week, r: np.full_like(r, price), x, y),
        bounds=(reference.LOW, reference.HIGH),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return result.x, -result.fun


@pytest.mark.parametrize("peer", [STILL, REMEMBERING, INELASTIC])
def test_without_noise_it_is_what_scipy_finds(world, found, peer):
    p, none = seller(world, peer), np.zeros((WEEKS, 1))

    def myopic(week, r):
        def earn(grid):
            return reference.profit(p, week, 0.0, 0.0, r[0], grid)

        return np.full(1, reference.best_price(earn)[0])

    price, profit = best_constant(p, none, none)
    np.testing.assert_allclose(found[0][peer], price, atol=2e-3)
    oracle = episode(p, myopic, none, none)
    np.testing.assert_allclose(found[1][peer], profit / oracle, atol=1e-4)
    assert (found[0][peer] > 1.499) == (peer == INELASTIC)


def test_with_noise_it_is_the_expectation(world, found):
    p, rng = seller(world, CALIBRATED), np.random.default_rng(0)

    def path(vol, rho):
        steps = [vol * rng.normal(size=600)]
        for _ in range(WEEKS - 1):
            shock = vol * np.sqrt(1 - rho**2) * rng.normal(size=600)
            steps.append(rho * steps[-1] + shock)
        return np.array(steps)

    x = path(p["cost_vol"], p["cost_persistence"])
    y = path(p["rival_vol"], p["rival_persistence"])
    price, profit = best_constant(p, x, y)
    grid = np.linspace(reference.LOW, reference.HIGH, 201)[:, None]
    weekly = [
        reference.profit(p, week, x[week], y[week], 1.0, grid).max(axis=0)
        for week in range(WEEKS)
    ]
    assert found[1][CALIBRATED] < found[1][STILL]
    np.testing.assert_allclose(found[0][CALIBRATED], price, atol=0.01)
    np.testing.assert_allclose(
        found[1][CALIBRATED], profit / np.mean(weekly), atol=0.004
    )


def test_a_world_that_sells_nothing_is_refused():
    config = EnvironmentConfig(name="lqr")
    world = make_world(config, PopulationConfig(peers=1))
    with pytest.raises(ConfigError, match=r"needs environment\.name='pricing'"):
        best_uniform_price(world, 2, 0)
