"""Weekly retail pricing: one seller sets one price per week.

The order of a week: the seller observes season, cost and rival; its action names
a price; noisy demand answers; then cost, rival, reference price and, rarely, the
regime move on. The episode never ends: evaluation calls ``reset`` itself.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import calibration, heterogeneity, worlds
from p2p_sac_jax.environments import pricing_model as model
from p2p_sac_jax.environments.base import (
    DemandCurve,
    DemandModel,
    Environment,
    EnvironmentFactory,
    PeerDraw,
    TimeStep,
)
from p2p_sac_jax.environments.observation import (
    OBSERVATION_DIM,
    WEEKS_PER_YEAR,
    clip_log_sales,
    encode,
    observed_cost,
)
from p2p_sac_jax.environments.own_store import store_params
from p2p_sac_jax.environments.pricing_coefficients import pricing_coefficients
from p2p_sac_jax.environments.pricing_model import (
    LOG_PRICE_RANGE,
    USUAL_SHARE,
    Market,
    Noise,
    PricingParams,
    draw_noise,
    make_pricing_params,
)
from p2p_sac_jax.environments.week_figures import USUAL_WEEKS
from p2p_sac_jax.environments.worlds import DemandWorld
from p2p_sac_jax.types import Array, Candidates, Score, Transition

NUM_CANDIDATES = 41
# Public codebook: the quintiles of cost of a seller with mean cost .7 and a
# standard deviation of log cost of .13, and the four quarters of the year.
COST_EDGES = (0.63, 0.68, 0.72, 0.78)
NUM_SEASONS = 4

_FIGURES_STREAM = 1  # of a seed; stream 0 draws the stores
_MEAN_KEEP = 0.8  # weight of the old average of log demand
_MIN_LOG_DEMAND = -8.0
_MAX_LOG_DEMAND = -math.log(USUAL_SHARE)  # every customer buys


class PricingState(NamedTuple):
    """State of one seller."""

    market: Market
    reference_price: Array  # []
    oracle_reference: Array  # [] reference price had the oracle set all prices
    last_price: Array  # []
    log_sales: Array  # [] last week's ln(units / usual units)
    log_sales_mean: Array  # [] moving average of the observed, clipped log sales
    last_reward: Array  # []


class Info(NamedTuple):
    """One week's outcome; profits in units of a usual week's profit."""

    price: Array  # []
    cost: Array  # [] unit cost, relative to the usual price
    units: Array  # [] sold, per potential customer
    log_sales: Array  # [] ln(units / usual units)
    expected_profit: Array  # [] noise-free, at the price charged
    oracle_price: Array  # []
    oracle_profit: Array  # [] noise-free, at the oracle's price on its own path
    historical_profit: Array  # [] noise-free, at the usual price for ever


def make_pricing(config: EnvironmentConfig) -> Environment:
    """The pricing environment.

    Args:
      config: with ``reference_effect`` > 0 demand has a coefficient of the reference
        price and the oracle looks ahead.
    """
    farsighted, world = config.reference_effect > 0, demand_world(config)
    return Environment(
        reset=_reset,
        step=lambda key, state, action, params: advance(
            world, state, action, draw_noise(key, world.normals), params
        ),
        cell=_cell,
        score=lambda info: Score(
            info.expected_profit, info.oracle_profit, info.historical_profit
        ),
        observation_dim=OBSERVATION_DIM,
        action_dim=1,
        num_cells=(len(COST_EDGES) + 1) * NUM_SEASONS,
        cells_per_group=NUM_SEASONS,
        bound=USUAL_WEEKS,
        has_oracle=True,
        demand=DemandModel(
            coefficients=pricing_coefficients(reference_price=farsighted),
            features=functools.partial(_features, farsighted),
            outcome=lambda info: info.log_sales,
            candidates=functools.partial(_candidates, farsighted),
            counterfactual=_counterfactual,
            exogenous=_exogenous,
            store_params=store_params,
            curve=functools.partial(_curve, farsighted, world),
        ),
    )


def _draw_sellers(
    config: EnvironmentConfig, population: PopulationConfig, seed: int
) -> PeerDraw:
    """The calibrated sellers of a named population."""
    sellers = calibration.select_population(
        population.name,
        population.peers,
        population.held_out,
        population.newcomers,
        population.draw,
        seed,
    )
    sellers = heterogeneity.rescale(sellers, population.heterogeneity)
    generator = np.random.default_rng((seed, _FIGURES_STREAM))
    figures = worlds.draw_figures(demand_world(config), generator)
    return PeerDraw(
        make_pricing_params(config, sellers, figures),
        calibration.market_names(sellers),
        sellers.context,
    )


PRICING = EnvironmentFactory(make_pricing, _draw_sellers)


def demand_world(config: EnvironmentConfig) -> DemandWorld:
    """How demand answers prices in the market that ``config`` describes."""
    if config.reference_effect > 0:
        return worlds.REFERENCE_PRICE
    return worlds.WORLDS[config.world]


def advance(
    world: DemandWorld,
    state: PricingState,
    action: Array,
    noise: Noise,
    params: PricingParams,
) -> TimeStep:
    """One week with its noise given.

    Args:
      world: static; how demand answers prices.
      state: before the week.
      action: [1] in [-1, 1]; 0 is the usual price.
      noise: from ``draw_noise``.
      params: one seller's.
    """
    market = state.market
    price = action_price(action)
    demand = world.demand(market, state.reference_price, price, params)
    units, log_sales = world.sell(demand, noise, params)
    cost = model.cost(market, params)
    reward = _gain(price, cost, params) * units / USUAL_SHARE

    oracle_price = worlds.best_price(world, market, state.oracle_reference, params)
    expected_profit = functools.partial(worlds.expected_profit, world, market)
    one = jnp.ones_like(price)
    info = Info(
        price=price,
        cost=cost,
        units=units,
        log_sales=log_sales,
        expected_profit=expected_profit(state.reference_price, price, params),
        oracle_price=oracle_price,
        oracle_profit=expected_profit(state.oracle_reference, oracle_price, params),
        historical_profit=expected_profit(one, one, params),
    )
    following = PricingState(
        market=world.next_market(market, noise, params),
        reference_price=model.next_reference(state.reference_price, price, params),
        oracle_reference=model.next_reference(
            state.oracle_reference, oracle_price, params
        ),
        last_price=price,
        log_sales=log_sales,
        log_sales_mean=_next_mean(state.log_sales_mean, log_sales),
        last_reward=reward,
    )
    obs = _observe(following, params)
    never = jnp.zeros((), dtype=bool)
    return TimeStep(following, obs, reward, never, never, obs, info)


def _reset(key: Array, params: PricingParams) -> tuple[PricingState, Array]:
    """Week 0 after a usual week; cost and rival from their stationary laws.

    The last reward starts at 1, that of an average week at the usual price.
    """
    state = _status_quo(jnp.zeros((), jnp.int32), jax.random.normal(key, (2,)), params)
    return state, _observe(state, params)


def _cell(obs: Array) -> Array:
    """Cost bin times four plus the quarter, both read from the observation."""
    cost_bin = jnp.sum(observed_cost(obs) > np.asarray(COST_EDGES, np.float32))
    turn = jnp.arctan2(obs[1], obs[0]) / (2.0 * np.pi)
    # Half a week on, so that rounding cannot move the first week of a quarter.
    quarter = jnp.floor((turn + 0.5 / WEEKS_PER_YEAR) * NUM_SEASONS) % NUM_SEASONS
    return (cost_bin * NUM_SEASONS + quarter).astype(jnp.int32)


def _features(farsighted: bool, obs: Array, action: Array) -> Array:
    """[F] regressors of log demand: 1, -(p-1), [-(p-r)], y, cos, sin."""
    price = action_price(action)
    columns = [jnp.ones_like(price), 1.0 - price]
    if farsighted:
        columns.append(1.0 + obs[4] / 4.0 - price)
    return jnp.stack([*columns, obs[3] / 4.0, obs[0], obs[1]])


def _candidates(farsighted: bool, obs: Array, params: PricingParams) -> Candidates:
    """An even grid of actions over [-1, 1] in the observed week."""
    actions = jnp.linspace(-1.0, 1.0, NUM_CANDIDATES)[:, None]
    features = jax.vmap(functools.partial(_features, farsighted, obs))(actions)
    gain = _gain(jax.vmap(action_price)(actions), observed_cost(obs), params)
    return Candidates(actions, features, gain, _cell(obs))


def _counterfactual(
    transition: Transition,
    action: Array,
    log_demand: Array,
    expected: Array,
    params: PricingParams,
) -> Transition:
    """The stored week with another price.

    The reward is the expected one under the given demand; the next observation
    keeps the real week's shock, in its log demand and in its last reward alike.
    ``log_demand`` is clipped to [-8, ln(1/s0)].
    """
    obs, price = transition.obs, action_price(action)
    log_demand = jnp.clip(log_demand, _MIN_LOG_DEMAND, _MAX_LOG_DEMAND)
    gain = _gain(price, observed_cost(obs), params)
    shock = 2.0 * transition.next_obs[6] - expected
    log_sales = log_demand + shock
    reference = model.next_reference(1.0 + obs[4] / 4.0, price, params)
    changed = jnp.stack(
        [
            4.0 * (reference - 1.0),
            4.0 * jnp.log(price),
            0.5 * clip_log_sales(log_sales),
            0.5 * _next_mean(2.0 * obs[7], log_sales),
            gain * jnp.exp(log_sales),
        ]
    )
    return transition._replace(
        action=action,
        reward=gain * jnp.exp(log_demand),
        next_obs=transition.next_obs.at[4:9].set(changed),
    )


def _exogenous(key: Array, params: PricingParams) -> Transition:
    """A week at the status quo: what can be seen without selling."""
    key_week, key_start, key_next = jax.random.split(key, 3)
    week = jax.random.randint(key_week, (), 0, WEEKS_PER_YEAR)
    state = _status_quo(week, jax.random.normal(key_start, (2,)), params)
    noise = draw_noise(key_next)._replace(regime=jnp.ones(()))
    price = jnp.ones(())
    reward = _gain(price, model.cost(state.market, params), params)
    following = state._replace(
        market=model.next_market(state.market, noise, params), last_reward=reward
    )
    return Transition(
        obs=_observe(state, params),
        action=jnp.zeros(1),
        reward=reward,
        next_obs=_observe(following, params),
        discount=jnp.ones(()),
    )


def _curve(
    farsighted: bool, world: DemandWorld, state: PricingState, params: PricingParams
) -> DemandCurve:
    """Demand without season, at usual cost, rival and reference price."""
    price = np.linspace(*model.PRICE_RANGE, NUM_CANDIDATES, dtype=np.float32)
    slopes = [1.0 - price] * (2 if farsighted else 1)
    zero = np.zeros_like(price)
    usual = params._replace(
        season_amplitude=jnp.zeros(()), sensitivity_swing=jnp.zeros(())
    )
    market = state.market._replace(log_cost=jnp.zeros(()), log_rival=jnp.zeros(()))
    share = jax.vmap(world.demand, (None, None, 0, None))(
        market, jnp.ones(()), price, usual
    )
    return DemandCurve(
        price=jnp.asarray(price),
        features=np.stack([zero + 1.0, *slopes, zero, zero, zero], axis=1),
        demand=share / USUAL_SHARE,
    )


def _status_quo(week: Array, normals: Array, params: PricingParams) -> PricingState:
    """State after a usual week; ``normals`` [2] place cost and rival."""
    one, zero = jnp.ones(()), jnp.zeros(())
    market = Market(
        week=week,
        log_cost=params.cost_vol * normals[0],
        log_rival=params.rival_vol * normals[1],
        alpha=params.alpha * one,
        demand_shift=zero,
    )
    return PricingState(market, one, one, one, zero, zero, one)


def _next_mean(mean: Array, log_sales: Array) -> Array:
    return _MEAN_KEEP * mean + (1.0 - _MEAN_KEEP) * clip_log_sales(log_sales)


def _observe(state: PricingState, params: PricingParams) -> Array:
    """[11] observation, each entry of order one; no clock, no stock."""
    market = state.market
    return encode(
        model.season_angle(market.week),
        model.cost(market, params),
        market.log_rival,
        state.reference_price,
        state.last_price,
        state.log_sales,
        state.log_sales_mean,
        state.last_reward,
    )


def action_price(action: Array) -> Array:
    """[] relative price named by an action [1]; 0 is the usual price."""
    return jnp.exp(LOG_PRICE_RANGE * action[0])


def _gain(price: Array, cost: Array, params: PricingParams) -> Array:
    """Reward per usual unit sold, of ``price``'s shape."""
    return (price - cost) / (1.0 - params.unit_cost)
