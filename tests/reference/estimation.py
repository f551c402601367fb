"""Independent references for demand estimation: scipy, and a simulated panel."""

import numpy as np
from scipy.optimize import minimize_scalar

from p2p_sac_jax.environments.estimation import Panel


def reml_tau(estimate, se):
    """Between-group sd by direct minimisation of the restricted likelihood."""

    def loss(tau):
        variance = se**2 + tau**2
        weight = 1.0 / variance
        mean = np.average(estimate, weights=weight)
        fit = np.sum((estimate - mean) ** 2 * weight)
        return np.log(variance).sum() + fit + np.log(weight.sum())

    return minimize_scalar(
        loss, bounds=(0.0, 10.0), method="bounded", options={"xatol": 1e-10}
    ).x


def simulate_panel(key, stores, weeks, coefficients, reference=0.0, noise=0.0):
    """Three brands; brand 1 follows ``coefficients`` exactly but for the noise.

    Coefficients are of: constant, ln p, ln I, feature, deal, cos, sin, trend.
    """
    rng = np.random.default_rng(key)
    parts = []
    for store in stores:
        log_prices = rng.normal(0.0, 0.2, (weeks, 3))
        feature, deal = rng.random(weeks), rng.integers(0, 2, weeks).astype(float)
        week = np.arange(100, 100 + weeks)
        year, trend = 2 * np.pi * week / 52, (week - week.mean()) / 52
        rival = log_prices[:, 1:].mean(axis=1)  # brands 2 and 3 sell equal volumes
        own = log_prices[:, 0]
        design = [np.ones(weeks), own, rival, feature, deal]
        design += [np.cos(year), np.sin(year), trend]
        level, gaps = own.mean(), []
        for price in own:
            gaps.append(price - level)
            level = 0.7 * level + 0.3 * price
        demand = np.stack(design, axis=1) @ coefficients - reference * np.array(gaps)
        demand = demand + noise * rng.normal(size=weeks)
        for brand in (1, 2, 3):
            units = demand if brand == 1 else np.full(weeks, 2.0)
            ids = [np.full(weeks, store), np.full(weeks, brand), week]
            margin = np.full(weeks, 30.0)
            parts.append([*ids, units, np.exp(log_prices), feature, deal, margin])
    shuffled = rng.permutation(len(parts) * weeks)
    return Panel(
        *(np.concatenate(column)[shuffled] for column in zip(*parts, strict=True))
    )
