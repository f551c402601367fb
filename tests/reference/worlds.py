"""Independent float64 NumPy demand of the worlds, from their definitions."""

from __future__ import annotations

import numpy as np

from tests.reference import market

S0 = market.S0


def _sensitivity(p, week):
    swing = p["sensitivity_swing"] * np.cos(
        2 * np.pi * week / 52 - p["season_phase"] - 1
    )
    return p["alpha"] * (1 + swing)


def _usual(p, week, y):
    season = p["season_amplitude"] * np.cos(2 * np.pi * week / 52 - p["season_phase"])
    return S0 * np.exp(season + p["rival_share"] * p["alpha"] * y)


def demand(name, figures, p, week, x, y, price):
    """Expected demand per potential customer at ``price``, no regime shift."""
    if name == "constant_elasticity":
        return _usual(p, week, y) * price ** (-(1 - S0) * _sensitivity(p, week))
    if name == "linear":
        slope = (1 - S0) * _sensitivity(p, week)
        return _usual(p, week, y) * np.maximum(1 - slope * (price - 1), 0.01)
    shift = 0.0
    if name == "kink":
        place, factor = figures
        shift = -(factor - 1) * p["alpha"] * np.maximum(price - place, 0)
    if name == "cost_correlated":
        shift = figures[0] * x
    share = market.share(p, week, x, y, 1.0, price, shift=shift)
    if name == "threshold":
        place, fall = figures
        share = share * np.where(price > place, 1 - fall, 1)
    return share


def mean_units(name, figures, p, demanded, draws):
    """Expected units sold, by the mean over standard normal ``draws`` [N]."""
    if name != "stock_outs":
        return demanded
    sigma = p["demand_noise"]
    noise = np.exp(sigma * draws - sigma**2 / 2)
    return np.minimum(np.multiply.outer(demanded, noise), figures[0] * S0).mean(-1)
