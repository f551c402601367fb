"""Demand worlds: markets whose demand is not the calibrated logit.

A world changes how demand answers a price, how sales scatter around demand, or how
the market moves. Its figures are drawn once per population and are the same for all
its sellers: what sellers have in common is the shape of demand. Every world but
``logit`` finds its oracle by a grid over prices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from p2p_sac_jax.environments import pricing_model as model
from p2p_sac_jax.environments.pricing_model import (
    LOG_PRICE_RANGE,
    USUAL_SHARE,
    Market,
    Noise,
    PricingParams,
)
from p2p_sac_jax.types import Array

GRID_PRICES = 81  # of the oracle's coarse grid, and of the one around its best price

_PROMOTION_FACTOR = 5.0  # of sales in a week with an unseen promotion
_MIN_DEMAND = 0.01  # of usual demand; linear demand would become negative
_POISSON_TERMS = 64
_NORMAL_FROM = 40.0  # mean from which a Poisson count is a rounded normal one
_T_LIMIT = 6.0  # bound of t-distributed noise, so that its exponential has a mean
_QUANTILES = special.stdtrit(3.0, (np.arange(256) + 0.5) / 256)  # for that mean


class Sales(NamedTuple):
    """What was sold in one week."""

    units: Array  # [] per potential customer
    log_sales: Array  # [] ln(units / usual units) as the seller records it


def _lognormal_sales(demand: Array, noise: Noise, params: PricingParams) -> Sales:
    log_noise = params.demand_noise * noise.demand - params.demand_noise**2 / 2.0
    log_sales = jnp.log(demand / USUAL_SHARE) + log_noise
    return Sales(demand * jnp.exp(log_noise), log_sales)


def _all_of_it(demand: Array, params: PricingParams) -> Array:
    del params
    return demand


class DrawnFigure(NamedTuple):
    """One figure of a world, drawn per population, uniform between two bounds."""

    name: str
    low: float
    high: float


class DemandWorld(NamedTuple):
    """How demand differs from the calibrated logit; functions of one seller.

    ``params.world`` [n] holds the world's figures in the order of ``figures``.
    """

    figures: tuple[DrawnFigure, ...] = ()
    # (market, reference, price, params) -> [] expected demand per potential customer
    demand: Callable[[Market, Array, Array, PricingParams], Array] = (
        model.expected_share
    )
    # (demand, noise, params) -> what was sold
    sell: Callable[[Array, Noise, PricingParams], Sales] = _lognormal_sales
    # (demand, params) -> [] expected units sold where ``demand`` is expected
    mean_units: Callable[[Array, PricingParams], Array] = _all_of_it
    next_market: Callable[[Market, Noise, PricingParams], Market] = model.next_market
    # (market, reference, params) -> [] best price; None: by a grid
    best_price: Callable[[Market, Array, PricingParams], Array] | None = None
    normals: int = 0  # extra standard normal numbers that a week needs


def draw_figures(world: DemandWorld, generator: np.random.Generator) -> np.ndarray:
    """[n] figures of the world in one population."""
    lows = [figure.low for figure in world.figures]
    highs = [figure.high for figure in world.figures]
    return generator.uniform(lows, highs).astype(np.float32)


def expected_profit(
    world: DemandWorld,
    market: Market,
    reference: Array,
    price: Array,
    params: PricingParams,
) -> Array:
    """[] expected profit of the week, 1 in an average logit week at the usual price."""
    margin = (price - model.cost(market, params)) / (1.0 - params.unit_cost)
    demand = world.demand(market, reference, price, params)
    return margin * world.mean_units(demand, params) / USUAL_SHARE


def best_price(
    world: DemandWorld, market: Market, reference: Array, params: PricingParams
) -> Array:
    """[] price of the price range that maximises this week's expected profit."""
    if world.best_price is not None:
        return world.best_price(market, reference, params)

    def profit(log_price: Array) -> Array:
        return expected_profit(world, market, reference, jnp.exp(log_price), params)

    coarse = jnp.linspace(-LOG_PRICE_RANGE, LOG_PRICE_RANGE, GRID_PRICES)
    centre = coarse[jnp.argmax(jax.vmap(profit)(coarse))]
    step = 2.0 * LOG_PRICE_RANGE / (GRID_PRICES - 1)
    fine = centre + step * jnp.linspace(-1.0, 1.0, GRID_PRICES)
    fine = jnp.clip(fine, -LOG_PRICE_RANGE, LOG_PRICE_RANGE)
    return jnp.exp(fine[jnp.argmax(jax.vmap(profit)(fine))])


def _constant_elasticity(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    del reference
    elasticity = (1.0 - USUAL_SHARE) * model.sensitivity(market, params)
    return _usual_demand(market, params) * price**-elasticity


def _linear(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    del reference
    slope = (1.0 - USUAL_SHARE) * model.sensitivity(market, params)
    share = jnp.maximum(1.0 - slope * (price - 1.0), _MIN_DEMAND)
    return _usual_demand(market, params) * share


def _usual_demand(market: Market, params: PricingParams) -> Array:
    """[] demand at the usual price: season, rival and regime multiply it."""
    rival = params.rival_share * market.alpha * market.log_rival
    log_demand = model.season(market, params) + rival + market.demand_shift
    return USUAL_SHARE * jnp.exp(log_demand)


def _threshold(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    place, fall = params.world
    share = model.expected_share(market, reference, price, params)
    return share * jnp.where(price > place, 1.0 - fall, 1.0)


def _kink(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    place, factor = params.world
    steeper = (factor - 1.0) * market.alpha * jnp.maximum(price - place, 0.0)
    return model.expected_share(market, reference, price, params, -steeper)


def _cost_correlated(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    shift = params.world[0] * market.log_cost
    return model.expected_share(market, reference, price, params, shift)


def _heavy_tailed_sales(demand: Array, noise: Noise, params: PricingParams) -> Sales:
    """Noise of a bounded t distribution with 3 degrees, and unseen promotions."""
    promotions = params.world[0]
    scale = params.demand_noise / np.sqrt(3.0)

    def factor(t: Array) -> Array:
        return jnp.exp(scale * jnp.clip(t, -_T_LIMIT, _T_LIMIT))

    *chi, chance = noise.extra
    t = noise.demand / jnp.sqrt(sum(jnp.square(x) for x in chi) / 3.0)
    promoted = jax.scipy.stats.norm.cdf(chance) < promotions
    factors = factor(t) * jnp.where(promoted, _PROMOTION_FACTOR, 1.0)
    mean = jnp.mean(factor(jnp.asarray(_QUANTILES, jnp.float32)))
    mean *= 1.0 + promotions * (_PROMOTION_FACTOR - 1.0)
    units = demand * factors / mean
    return Sales(units, jnp.log(units / USUAL_SHARE))


def _counted_sales(demand: Array, noise: Noise, params: PricingParams) -> Sales:
    """A Poisson count around log-normal demand; no sale is recorded as half a unit."""
    usual = params.world[0]
    mean = usual * _lognormal_sales(demand, noise, params).units / USUAL_SHARE
    normal = noise.extra[0]
    terms = np.arange(_POISSON_TERMS, dtype=np.float32)
    log_mass = terms * jnp.log(mean) - mean - jax.scipy.special.gammaln(terms + 1.0)
    below = jnp.cumsum(jnp.exp(log_mass)) < jax.scipy.stats.norm.cdf(normal)
    many = jnp.maximum(jnp.round(mean + jnp.sqrt(mean) * normal), 0.0)
    count = jnp.where(mean < _NORMAL_FROM, jnp.sum(below), many)
    recorded = jnp.maximum(count, 0.5)
    return Sales(count * USUAL_SHARE / usual, jnp.log(recorded / usual))


def _limited_sales(demand: Array, noise: Noise, params: PricingParams) -> Sales:
    """Sales end when the week's stock, a multiple of usual units, is sold."""
    sold = _lognormal_sales(demand, noise, params)
    stock = params.world[0]
    return Sales(
        jnp.minimum(sold.units, stock * USUAL_SHARE),
        jnp.minimum(sold.log_sales, jnp.log(stock)),
    )


def _mean_limited(demand: Array, params: PricingParams) -> Array:
    """E[min(q, stock)] of a log-normal q with mean ``demand``."""
    cdf, std = jax.scipy.stats.norm.cdf, params.demand_noise
    stock = params.world[0] * USUAL_SHARE
    d = jnp.log(stock / demand) / std
    return demand * cdf(d - std / 2.0) + stock * cdf(-d - std / 2.0)


def _drifting_market(market: Market, noise: Noise, params: PricingParams) -> Market:
    """Price sensitivity and utility follow random walks."""
    sensitivity, utility = params.world * noise.extra
    following = model.next_market(market, noise, params)
    return following._replace(
        alpha=following.alpha * jnp.exp(sensitivity),
        demand_shift=following.demand_shift + utility,
    )


LOGIT = DemandWorld(best_price=model.myopic_price)
REFERENCE_PRICE = DemandWorld(best_price=model.reference_price_policy)

# The choices of ``environment.world``.
WORLDS: dict[str, DemandWorld] = {
    "logit": LOGIT,
    "constant_elasticity": DemandWorld(demand=_constant_elasticity),
    "linear": DemandWorld(demand=_linear),
    # Demand falls by a fixed share above a price.
    "threshold": DemandWorld(
        (DrawnFigure("place", 1.0, 1.1), DrawnFigure("fall", 0.2, 0.4)),
        demand=_threshold,
    ),
    # Customers react more strongly above a price.
    "kink": DemandWorld(
        (DrawnFigure("place", 0.97, 1.03), DrawnFigure("factor", 1.5, 2.5)),
        demand=_kink,
    ),
    # Demand rises with the seller's own cost.
    "cost_correlated": DemandWorld(
        (DrawnFigure("utility", 1.0, 2.0),), demand=_cost_correlated
    ),
    "heavy_tails": DemandWorld(
        (DrawnFigure("promotions", 0.02, 0.06),), sell=_heavy_tailed_sales, normals=4
    ),
    "counts": DemandWorld(
        (DrawnFigure("usual_units", 1.5, 3.0),), sell=_counted_sales, normals=1
    ),
    "stock_outs": DemandWorld(
        (DrawnFigure("stock", 1.1, 1.5),), sell=_limited_sales, mean_units=_mean_limited
    ),
    "drift": DemandWorld(
        (DrawnFigure("sensitivity", 0.01, 0.03), DrawnFigure("utility", 0.02, 0.05)),
        next_market=_drifting_market,
        normals=2,
        best_price=model.myopic_price,
    ),
}
