"""What a seller observes: eleven numbers of order one, and how to make them.

``encode`` is the one place that knows the layout's scales; ``observation`` is its
front door for a user with figures of a real week in hand.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.arguments import number
from p2p_sac_jax.environments.week_figures import (
    MAX_LOG_SALES,
    PRICES,
    USUAL_WEEKS,
    WEEKS,
    bound,
    log_units,
    or_usual,
    relative_cost,
    relative_price,
    usual_weeks,
)
from p2p_sac_jax.types import Array

OBSERVATION_DIM = 11
COST_CENTRE = 0.7
WEEKS_PER_YEAR = 52
_LAST_WEEK = 1e6  # of a calendar


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
    """Unit costs [...] shown by observations [..., 11]."""
    return obs[..., 2] / 4.0 + COST_CENTRE


def observation(
    week: Any,
    cost: Any,
    rival_price: Any = 1.0,
    reference_price: Any = 1.0,
    last_price: Any = 1.0,
    last_units: Any = 1.0,
    mean_units: Any = 1.0,
    last_profit: Any = 1.0,
) -> NDArray[np.float32]:
    """Observation [11] of one week, from figures a seller has.

    Everything is relative: prices and cost to the store's usual price, the rivals'
    price to their usual one, units and profit to those of a usual week. What a week
    may hold is written in ``week_figures``: where nothing was sold, say 0, and net
    returns are negative. A figure that is missing (None, NaN) counts as usual. A
    warning says what was bounded or missing.

    Args:
      week: week of the year; the calendar of the data starts with week 0.
      cost: unit cost, from .01 to 1.5; required.
      rival_price: the rivals' price index, from 0 to 3 as every price; shown from .1.
      reference_price: what customers are used to paying.
      last_price: last week's price.
      last_units: last week's units, from -100 to 100; shown from .05 to 20.
      mean_units: geometric mean of the units of recent weeks, likewise.
      last_profit: last week's profit, from -100 to 100; shown within 20.

    Raises:
      ConfigError: a figure is no number, or outside its range: it is money or pieces.
    """
    notes: list[str] = []
    prices = {
        "rival_price": rival_price,
        "reference_price": reference_price,
        "last_price": last_price,
    }
    weeks = {
        "last_units": last_units,
        "mean_units": mean_units,
        "last_profit": last_profit,
    }
    week = number("week", week, -_LAST_WEEK, _LAST_WEEK)
    cost = relative_cost("cost", cost)
    figures: dict[str, float] = {}
    for name, value in prices.items():
        price = relative_price(name, or_usual(name, value, notes), least=0.0)
        figures[name], note = bound(name, price, *reversed(PRICES))
        notes.append(note)
    for name, value in weeks.items():
        count = usual_weeks(name, or_usual(name, value, notes))
        # Few units, or returns, are ordinary; ``log_units`` bounds them.
        least = -USUAL_WEEKS if name == "last_profit" else -WEEKS
        figures[name], note = bound(name, count, USUAL_WEEKS, least)
        notes.append(note)
    for note in filter(None, notes):
        warnings.warn(note, stacklevel=2)
    entries = (
        2.0 * math.pi * (week % WEEKS_PER_YEAR) / WEEKS_PER_YEAR,
        cost,
        math.log(figures["rival_price"]),
        figures["reference_price"],
        figures["last_price"],
        float(log_units(figures["last_units"])),
        float(log_units(figures["mean_units"])),
        figures["last_profit"],
    )
    return np.asarray(encode(*(jnp.float32(entry) for entry in entries)))
