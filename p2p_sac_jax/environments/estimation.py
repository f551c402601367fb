"""Demand estimation from weekly scanner data; pure NumPy, no files.

One log-log regression per store x brand, then empirical-Bayes shrinkage across
the stores of a brand. Ordinary least squares without instruments: elasticities
are short-run and promotional, good for a calibrated simulator and no more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEEKS_PER_YEAR = 52.0
MIN_WEEKS = 52  # shorter series do not identify the season
MAX_PERSISTENCE = 0.99  # an estimate at 1 has no stationary spread
REFERENCE_DECAY = 0.7  # the market's assumption for r' = decay r + (1 - decay) p
_SHRINK_STEPS = 500  # at most
_SE_FLOOR = 1e-9  # keeps weights finite where the fit is perfect

COLUMNS = (
    *("store", "brand", "weeks", "elasticity", "elasticity_ols", "elasticity_se"),
    *("cross_elasticity", "unit_cost", "cost_vol", "cost_persistence"),
    *("rival_vol", "rival_persistence", "season_amplitude", "season_phase"),
    *("reference_effect", "demand_noise", "r2", "held_out"),
)


class Panel(NamedTuple):
    """Scanner rows in any order; brands are numbered 1..M."""

    store: Ints  # [N]
    brand: Ints  # [N]
    week: Ints  # [N]
    log_units: Floats  # [N]
    prices: Floats  # [N, M] price of every brand in that store and week
    feature: Floats  # [N] share of the week on feature advertisement
    deal: Floats  # [N] 1 in weeks with an in-store deal
    margin: Floats  # [N] gross margin in per cent of the price


class Fit(NamedTuple):
    """Ordinary least squares."""

    coef: Floats  # [F]
    se: Floats  # [F] homoscedastic standard errors
    noise: float  # residual sd, degrees of freedom removed
    r2: float  # share of the variance explained


class Shrinkage(NamedTuple):
    """Empirical-Bayes estimates of a group."""

    mean: float  # precision-weighted mean of the group
    mean_se: float
    tau: float  # sd of the true values within the group
    values: Floats  # [G] posterior means


def least_squares(design: Floats, target: Floats) -> Fit | None:
    """Regression of ``target`` [N] on ``design`` [N, F].

    Returns:
      The fit, or ``None`` where the rows do not identify every coefficient.
    """
    rows, columns = design.shape
    if rows <= columns:
        return None
    coef, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    if rank < columns:
        return None
    residual = target - design @ coef
    variance = float(residual @ residual) / (rows - columns)
    covariance = variance * np.linalg.inv(design.T @ design)
    centred = target - target.mean()
    total = float(centred @ centred)
    r2 = 1.0 - float(residual @ residual) / total if total > 0.0 else 0.0
    se = np.sqrt(np.diag(covariance))
    return Fit(np.asarray(coef, np.float64), se, float(np.sqrt(variance)), r2)


def shrink(estimate: Floats, se: Floats) -> Shrinkage:
    """Pulls noisy estimates of one group towards their common mean.

    Model: ``estimate_i ~ N(theta_i, se_i^2)``, ``theta_i ~ N(mean, tau^2)``. ``tau``
    is the restricted maximum likelihood estimate, found by the fixed-point form of
    its score equation (Viechtbauer 2005, "Bias and efficiency of meta-analytic
    variance estimators", Journal of Educational and Behavioral Statistics 30).

    Args:
      estimate: [G] estimates.
      se: [G] their standard errors.
    """
    variance = np.maximum(se, _SE_FLOOR) ** 2
    tau2 = float(np.var(estimate))
    for _ in range(_SHRINK_STEPS):
        weight = 1.0 / (variance + tau2)
        mean = float(weight @ estimate) / weight.sum()
        squared = weight**2
        surplus = float(squared @ ((estimate - mean) ** 2 - variance))
        new = max(0.0, surplus / squared.sum() + 1.0 / weight.sum())
        converged = abs(new - tau2) <= 1e-14 * (1.0 + tau2)
        tau2 = new
        if converged:
            break
    weight = 1.0 / (variance + tau2)
    mean = float(weight @ estimate) / float(weight.sum())
    values = mean + tau2 * weight * (estimate - mean)
    return Shrinkage(mean, float(weight.sum()) ** -0.5, tau2**0.5, values)


def ar1(series: Floats, week: Ints) -> tuple[float, float]:
    """Stationary sd and persistence of a first-order autoregression.

    Only pairs of consecutive weeks count, so gaps do no harm. The persistence is the
    lag-1 correlation, clipped to [0, ``MAX_PERSISTENCE``]; a constant series has
    neither spread nor persistence.

    Args:
      series: [N] values in the order of ``week``.
      week: [N] increasing week numbers.
    """
    x = series - series.mean()
    sd = float(x.std())
    pairs = np.diff(week) == 1
    before, after = x[:-1][pairs], x[1:][pairs]
    scale = float(np.sqrt((before @ before) * (after @ after)))
    if sd <= _SE_FLOOR or scale <= _SE_FLOOR**2:
        return 0.0, 0.0
    return sd, float(np.clip((before @ after) / scale, 0.0, MAX_PERSISTENCE))


def reference_level(log_price: Floats, week: Ints) -> Floats:
    """[N] the log price a customer remembers before each week's price.

    Exponential smoothing that starts at the series' mean; a gap of k weeks repeats
    the last price seen k times.
    """
    level = np.empty_like(log_price)
    level[0] = log_price.mean()
    for t in range(1, len(log_price)):
        kept = REFERENCE_DECAY ** float(week[t] - week[t - 1])
        level[t] = kept * level[t - 1] + (1.0 - kept) * log_price[t - 1]
    return level


def _usable_rows(panel: Panel) -> NDArray[np.bool_]:
    """[N] rows whose numbers are all finite, with positive prices and cost."""
    prices = np.where(np.isfinite(panel.prices), panel.prices, -1.0)
    scalars = np.stack([panel.log_units, panel.feature, panel.deal, panel.margin])
    return (
        np.isfinite(scalars).all(axis=0)
        & (prices > 0.0).all(axis=1)
        & (panel.margin < 100.0)
    )


def estimate_table(panel: Panel) -> dict[str, NDArray]:
    """One row per store x brand, sorted by store, then brand.

    Series shorter than ``MIN_WEEKS`` or that do not identify every coefficient are
    left out. ``data/README.md`` says what each column is and how it is estimated.

    Returns:
      ``COLUMNS`` [rows] by name: ``store``, ``brand``, ``weeks``, ``held_out`` int64,
      the rest float64.

    Raises:
      ValueError: a brand has no column of prices, or no series is left.
    """
    brands = panel.prices.shape[1]
    strange = panel.brand[(panel.brand < 1) | (panel.brand > brands)]
    if strange.size:
        raise ValueError(f"brand={strange[0]} must be 1 to {brands}, as its price")
    panel = _take(panel, _usable_rows(panel))
    series = []
    for store in np.unique(panel.store):
        at_store = panel.store == store
        volume = _mean_volume(_take(panel, at_store))
        for brand in np.unique(panel.brand[at_store]):
            chosen = np.flatnonzero(at_store & (panel.brand == brand))
            chosen = chosen[np.argsort(panel.week[chosen], kind="stable")]
            row = _estimate_series(_take(panel, chosen), volume)
            if row is not None:
                series.append({"store": store, "brand": brand} | row)
    if not series:
        raise ValueError("no store x brand has a series long enough to estimate")
    table = {name: np.array([row[name] for row in series]) for name in series[0]}
    return _add_pooled(table)


def _take(panel: Panel, rows: NDArray) -> Panel:
    return Panel._make(column[rows] for column in panel)


def _mean_volume(panel: Panel) -> Floats:
    """[M] mean weekly units of each brand in one store, 0 where it is not sold."""
    brands = panel.prices.shape[1]
    units = np.bincount(panel.brand, np.exp(panel.log_units), brands + 1)[1:]
    return units / np.maximum(np.bincount(panel.brand, minlength=brands + 1)[1:], 1)


def _estimate_series(panel: Panel, volume: Floats) -> dict[str, float] | None:
    """Everything estimated from one store x brand alone; rows in week order."""
    weeks, own = len(panel.week), int(panel.brand[0]) - 1
    weights = np.where(np.arange(len(volume)) == own, 0.0, volume)
    if weeks < MIN_WEEKS or weights.sum() <= 0.0:
        return None
    log_prices = np.log(panel.prices)
    log_price, rival = log_prices[:, own], log_prices @ (weights / weights.sum())
    year = 2.0 * np.pi * panel.week / WEEKS_PER_YEAR
    trend = (panel.week - panel.week.mean()) / WEEKS_PER_YEAR
    # fmt: off
    design = np.stack([
        np.ones(weeks), log_price, rival, panel.feature, panel.deal,
        np.cos(year), np.sin(year), trend,
    ], axis=1)
    # fmt: on
    fit = least_squares(design, panel.log_units)
    if fit is None:
        return None
    gap = reference_level(log_price, panel.week) - log_price
    with_reference = least_squares(np.column_stack([design, gap]), panel.log_units)
    log_cost = log_price + np.log1p(-panel.margin / 100.0)
    cost_vol, cost_persistence = ar1(log_cost, panel.week)
    rival_vol, rival_persistence = ar1(rival, panel.week)
    return {
        "weeks": weeks,
        "elasticity_ols": fit.coef[1],
        "elasticity_se": fit.se[1],
        "cross_ols": fit.coef[2],
        "cross_se": fit.se[2],
        "unit_cost": float(np.exp(log_cost.mean() - log_price.mean())),
        "cost_vol": cost_vol,
        "cost_persistence": cost_persistence,
        "rival_vol": rival_vol,
        "rival_persistence": rival_persistence,
        "season_amplitude": float(np.hypot(fit.coef[5], fit.coef[6])),
        "season_phase": float(np.arctan2(fit.coef[6], fit.coef[5])),
        "reference_ols": with_reference.coef[-1] if with_reference else np.nan,
        "reference_se": with_reference.se[-1] if with_reference else np.nan,
        "demand_noise": fit.noise,
        "r2": fit.r2,
    }


def _add_pooled(table: dict[str, NDArray]) -> dict[str, NDArray]:
    """Shrinks within each brand, marks held-out stores, orders the columns."""
    size = len(table["store"])
    elasticity, cross, reference = np.zeros(size), np.zeros(size), np.zeros(size)
    for brand in np.unique(table["brand"]):
        rows = table["brand"] == brand
        own = shrink(table["elasticity_ols"][rows], table["elasticity_se"][rows])
        elasticity[rows] = own.values
        cross[rows] = shrink(table["cross_ols"][rows], table["cross_se"][rows]).values
        known = rows & np.isfinite(table["reference_ols"])
        if known.any():
            pooled = shrink(table["reference_ols"][known], table["reference_se"][known])
            reference[rows] = pooled.mean
    stores = np.unique(table["store"])
    rank = np.searchsorted(stores, table["store"])
    table = table | {
        "elasticity": elasticity,
        "cross_elasticity": cross,
        "reference_effect": reference,
        "held_out": (rank % 3 == 2).astype(np.int64),
    }
    return {name: table[name] for name in COLUMNS}


def standardise(values: Floats) -> Floats:
    """[N] to mean 0 and sd 1 over the finite entries; missing ones become 0."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros_like(values)
    spread = float(values[known].std())
    scaled = (np.where(known, values, 0.0) - values[known].mean()) / (spread or 1.0)
    return np.where(known, scaled, 0.0)
