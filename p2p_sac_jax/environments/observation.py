"""What a seller observes: eleven numbers of order one, and how to make them.

``encode`` is the one place that knows the layout's scales; ``observation`` is its
front door for a user with figures of a real week in hand.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.types import Array

OBSERVATION_DIM = 11
COST_CENTRE = 0.7
MAX_LOG_SALES = 3.0  # observed log demand is clipped to +- this
WEEKS_PER_YEAR = 52


def clip_log_sales(log_sales: Array) -> Array:
    """Log demand as far as an observation can show it."""
    return jnp.clip(log_sales, -MAX_LOG_SALES, MAX_LOG_SALES)


def encode(
    angle: Array,
    cost: Array,
    log_rival: Array,
    reference: Array,
    last_price: Array,
    log_sales: Array,
    log_sales_mean: Array,
    last_reward: Array,
) -> Array:
    """Observation [11] of one week; the last two entries wait for stock.

    Args:
      angle: [] phase of the year, radians.
      cost: [] unit cost, relative to the usual price.
      log_rival: [] log of the rivals' price, relative to their usual one.
      reference: [] reference price.
      last_price: [] last week's price.
      log_sales: [] last week's ln(units / usual units).
      log_sales_mean: [] moving average of it, clipped.
      last_reward: [] last week's profit over a usual week's.
    """
    return jnp.stack(
        [
            jnp.cos(angle),
            jnp.sin(angle),
            4.0 * (cost - COST_CENTRE),
            4.0 * log_rival,
            4.0 * (reference - 1.0),
            4.0 * jnp.log(last_price),
            0.5 * clip_log_sales(log_sales),
            0.5 * log_sales_mean,
            last_reward,
            jnp.zeros(()),
            jnp.ones(()),
        ]
    )


def observed_cost(obs: Array) -> Array:
    """Unit cost [] shown by an observation [11]."""
    return obs[2] / 4.0 + COST_CENTRE


def observation(
    week: int,
    cost: float,
    rival_price: float = 1.0,
    reference_price: float = 1.0,
    last_price: float = 1.0,
    last_units: float = 1.0,
    mean_units: float = 1.0,
    last_profit: float = 1.0,
) -> NDArray[np.float32]:
    """Observation [11] of one week, from figures a seller has.

    Everything is relative: prices and cost to the store's usual price, the rivals'
    price to their usual one, units and profit to those of a usual week.

    Args:
      week: week of the year; the calendar of the data starts with week 0.
      cost: unit cost.
      rival_price: the rivals' price index.
      reference_price: what customers are used to paying.
      last_price: last week's price.
      last_units: last week's units.
      mean_units: geometric mean of the units of recent weeks.
      last_profit: last week's profit.

    Raises:
      ConfigError: a figure is not finite, or not positive where it must be.
    """
    positive = {
        "cost": cost,
        "rival_price": rival_price,
        "reference_price": reference_price,
        "last_price": last_price,
        "last_units": last_units,
        "mean_units": mean_units,
    }
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name}={value!r} must be a finite number above 0")
    for name, value in {"week": week, "last_profit": last_profit}.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name}={value!r} must be a finite number")
    angle = 2.0 * math.pi * (week % WEEKS_PER_YEAR) / WEEKS_PER_YEAR
    figures = (
        angle,
        cost,
        math.log(rival_price),
        reference_price,
        last_price,
        math.log(last_units),
        float(np.clip(math.log(mean_units), -MAX_LOG_SALES, MAX_LOG_SALES)),
        last_profit,
    )
    return np.asarray(encode(*(jnp.float32(figure) for figure in figures)))
