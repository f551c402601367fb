"""Figures of a real week at the door ``observation``: taken, bounded or refused."""

import datetime
import decimal

import numpy as np
import pytest

from p2p_sac_jax import ConfigError, observation
from p2p_sac_jax.arguments import missing, number
from p2p_sac_jax.environments.own_store import store_params
from p2p_sac_jax.environments.week_figures import (
    MAX_LOG_SALES,
    USUAL_WEEKS,
    bound,
    complete,
    log_units,
)

SALES, MEAN, PROFIT = 6, 7, 8  # entries of an observation


@pytest.mark.parametrize("units", [0, 0.0, -0.2, -30, np.float32(0), 1e-46])
def test_a_week_without_sales_is_shown_as_the_least(units):
    shown = observation(week=3, cost=0.6, last_units=units, mean_units=units)
    assert shown[SALES] == shown[MEAN] == -MAX_LOG_SALES / 2
    assert log_units([units])[0] == -MAX_LOG_SALES


def test_promotions_are_taken():
    shown = observation(week=3, cost=0.6, last_price=0.5, last_units=4.0)
    np.testing.assert_allclose(shown[[5, 6]], [4 * np.log(0.5), np.log(4) / 2], 1e-6)


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), np.inf])
def test_missing_figures_count_as_usual_and_are_reported(value):
    with pytest.warns(UserWarning, match="last_price=.* is missing"):
        shown = observation(week=3, cost=0.6, last_price=value)
    np.testing.assert_array_equal(shown, observation(week=3, cost=0.6))
    assert missing(value)


@pytest.mark.parametrize(
    ("name", "entry", "given", "shown"),
    [
        ("last_profit", PROFIT, 80, USUAL_WEEKS),
        ("last_profit", PROFIT, -99, -USUAL_WEEKS),
        ("last_units", SALES, 90, MAX_LOG_SALES / 2),
        ("last_price", 5, 0, 4 * np.log(0.1)),
    ],
)
def test_one_absurd_week_is_bounded_and_reported(name, entry, given, shown):
    with pytest.warns(UserWarning, match=f"{name}=.* the bound of a week"):
        obs = observation(week=3, cost=0.6, **{name: given})
    assert obs[entry] == np.float32(shown)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"cost": 13.2, "last_price": 19.99}, "cost=13.2 must be .* in [0.01, 1.5]"),
        ({"cost": 1.7}, "cost=1.7 must be a finite number in [0.01, 1.5], relative"),
        ({"last_price": 19.99}, "last_price=19.99 .* [0, 3], relative to the usual"),
        ({"last_price": -0.2}, "last_price=-0.2 must be a finite number in [0, 3]"),
        ({"last_units": 1240}, "last_units=1240 .* [-100, 100], relative to a usual"),
        ({"last_profit": 1e39}, "last_profit=1e+39 must be a finite number in"),
        ({"cost": "0.6"}, "cost='0.6' must be a finite number"),
        ({"cost": None}, "cost=None must be a finite number"),
        ({"cost": True}, "cost=True must be a finite number"),
        ({"cost": np.array([0.6])}, "cost=array([0.6]) must be a finite number"),
        ({"week": datetime.date(2026, 1, 5)}, "week=datetime.date(2026, 1, 5) must"),
        ({"week": 1e30}, "week=1e+30 must be a finite number"),
    ],
)
def test_what_cannot_be_relative_is_refused_in_one_line(figures, words):
    with pytest.raises(ConfigError) as refused:
        observation(**{"week": 3, "cost": 0.6} | figures)
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in words.split(" .* ")), message


@pytest.mark.parametrize(
    "cost", [np.float32(0.6), decimal.Decimal("0.6"), np.array(0.6)]
)
def test_numbers_of_any_type_are_taken(cost):
    np.testing.assert_array_equal(
        observation(week=np.int64(3), cost=cost), observation(week=3, cost=0.6)
    )


def test_bounds_say_what_they_changed():
    assert bound("reward", 3.0) == (3.0, "")
    assert bound("reward", -1e39, 20.0)[0] == -20.0
    assert "reward=1e+12 counts as 20" in bound("reward", 1e12, 20.0)[1]
    obs = np.array([np.nan, 1e30, 2.0], np.float32)
    filled, note = complete("state", obs, np.array([7.0, 8.0, 9.0], np.float32), 20.0)
    np.testing.assert_array_equal(filled, [7.0, 20.0, 2.0])
    assert "1 of 3 entries are missing" in note
    assert "entry 1 is 1e+30" in note
    with pytest.raises(ConfigError, match=r"x=-1 must be a finite number of 0 or more"):
        number("x", -1, low=0.0)


def test_parameters_come_from_the_stores_own_weeks():
    rng = np.random.default_rng(0)
    log_cost = np.zeros(300)
    for week in range(1, 300):
        log_cost[week] = 0.6 * log_cost[week - 1] + 0.08 * rng.normal()
    costs = 0.4 * np.exp(log_cost)
    weeks = np.stack([observation(week, float(c)) for week, c in enumerate(costs)])
    params = store_params(weeks)
    assert params.unit_cost == pytest.approx(costs.mean(), rel=1e-5)
    assert params.cost_vol == pytest.approx(0.1, rel=0.15)
    assert params.cost_persistence == pytest.approx(0.6, abs=0.15)
    assert all(np.isfinite(leaf).all() for leaf in params if np.size(leaf))
    assert store_params(unit_cost=0.6).unit_cost == np.float32(0.6)
    with pytest.raises(ConfigError, match=r"unit_cost=2.19 must be .* \[0.01, 0.99\]"):
        store_params(unit_cost=2.19)
    with pytest.raises(ConfigError, match="observations of shape"):
        store_params(np.full((9, 11), np.nan))
