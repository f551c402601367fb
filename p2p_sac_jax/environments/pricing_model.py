"""The pricing market's economics: parameters of a seller, demand, profit, oracle.

Prices are relative to the seller's usual price, units to the whole market, profit
to that of an average week at the usual price. Demand is a logit over the seller,
one rival and not buying; its slope turns with the season around p = 1.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError, EnvironmentConfig
from p2p_sac_jax.environments import oracle, reference_oracle
from p2p_sac_jax.environments.observation import WEEKS_PER_YEAR
from p2p_sac_jax.types import Array

USUAL_SHARE = 0.2  # s0, the seller's market share at the usual price
LOG_PRICE_RANGE = math.log(1.5)
# Lowest and highest price an action can name.
PRICE_RANGE = math.exp(-LOG_PRICE_RANGE), math.exp(LOG_PRICE_RANGE)
ORACLE_DISCOUNT = 0.98  # of the reference-price oracle

_SENSITIVITY_SWING = 0.15  # assumed, not calibrated
_REFERENCE_DECAY = 0.7  # assumed, not calibrated
_RIVAL_SHARE_RANGE = (0.05, 0.6)
_SENSITIVITY_JUMP = 0.15  # sd of the change of ln alpha in a regime shift
_SHIFT_JUMP = 0.2  # sd of the change of utility in a regime shift
_CHAIN_STATES = 5  # one standard deviation apart
_NUM_REFERENCES = 41
_NUM_PRICES = 121

# Calibrated fields and the open or closed interval each must lie in.
_ALLOWED = {
    "elasticity": (-math.inf, 0.0, "negative"),
    "unit_cost": (0.0, 1.0, "strictly between 0 and 1"),
    "cost_vol": (0.0, math.inf, "positive"),
    "rival_vol": (0.0, math.inf, "positive"),
    "cost_persistence": (-1.0, 1.0, "strictly between -1 and 1"),
    "rival_persistence": (-1.0, 1.0, "strictly between -1 and 1"),
}


class PricingParams(NamedTuple):
    """One seller; in a population every leaf has a leading [P]."""

    alpha: Array  # [] price sensitivity, utility per unit of price at the start
    rival_share: Array  # [] the rival's share at its usual price
    unit_cost: Array  # [] mean cost relative to the usual price
    cost_vol: Array  # [] stationary sd of log cost
    cost_persistence: Array  # [] AR(1) coefficient per week
    rival_vol: Array  # [] stationary sd of the log rival price
    rival_persistence: Array  # [] AR(1) coefficient per week
    season_amplitude: Array  # [] annual swing of utility
    season_phase: Array  # [] radians
    sensitivity_swing: Array  # [] relative annual swing of alpha
    reference_effect: Array  # [] eta, utility per unit of (p - r)
    reference_decay: Array  # [] weight of the old reference price per week
    demand_noise: Array  # [] sd of log demand
    regime_hazard: Array  # [] chance of a regime shift per week
    reference_policy: Array | tuple[()]  # [W, S, S, M] oracle prices; () if eta = 0
    world: Any = ()  # [n] figures of the demand world; () if it has none


class Market(NamedTuple):
    """What demand depends on this week, price and reference price aside."""

    week: Array  # [] int32
    log_cost: Array  # [] x, deviation from the mean cost
    log_rival: Array  # [] y, log of the rival's price
    alpha: Array  # [] price sensitivity of the current regime
    demand_shift: Array  # [] utility added by regime shifts so far


class Noise(NamedTuple):
    """All randomness of one week, drawn whether or not it is used."""

    cost: Array  # [] standard normal
    rival: Array  # [] standard normal
    demand: Array  # [] standard normal
    sensitivity_jump: Array  # [] standard normal
    shift_jump: Array  # [] standard normal
    regime: Array  # [] uniform
    extra: Any = ()  # [n] standard normal, for demand worlds


def make_pricing_params(
    config: EnvironmentConfig, calibration: Any, figures: Any = ()
) -> PricingParams:
    """Parameters of P sellers from their calibration.

    With a reference price every seller's optimal policy is solved here, once, by
    value iteration.

    Args:
      config: ``reference_effect`` (eta / alpha) and ``regime_hazard``.
      calibration: named [P] arrays: elasticity, cross_elasticity, unit_cost,
        cost_vol, cost_persistence, rival_vol, rival_persistence,
        season_amplitude, season_phase, demand_noise.
      figures: [n] of the demand world, the same for all sellers.

    Returns:
      float32 NumPy leaves [P], ``reference_policy`` [P, 52, 5, 5, 41] or ().

    Raises:
      ConfigError: a calibrated value is out of range.
    """
    for name, (low, high, allowed) in _ALLOWED.items():
        values = np.asarray(getattr(calibration, name))
        if not np.all((values > low) & (values < high)):
            raise ConfigError(f"calibration.{name}={values} must be {allowed}")

    alpha = np.abs(calibration.elasticity) / (1.0 - USUAL_SHARE)
    constant = functools.partial(np.full_like, alpha)
    params = PricingParams(
        alpha=alpha,
        rival_share=np.clip(calibration.cross_elasticity / alpha, *_RIVAL_SHARE_RANGE),
        unit_cost=calibration.unit_cost,
        cost_vol=calibration.cost_vol,
        cost_persistence=calibration.cost_persistence,
        rival_vol=calibration.rival_vol,
        rival_persistence=calibration.rival_persistence,
        season_amplitude=calibration.season_amplitude,
        season_phase=calibration.season_phase,
        sensitivity_swing=constant(_SENSITIVITY_SWING),
        reference_effect=config.reference_effect * alpha,
        reference_decay=constant(_REFERENCE_DECAY),
        demand_noise=calibration.demand_noise,
        regime_hazard=constant(config.regime_hazard),
        reference_policy=(),
        world=np.tile(figures, (len(alpha), 1)) if len(figures) else (),
    )
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    if config.reference_effect > 0:
        policies = np.asarray(_solve_policies(params))
        params = params._replace(reference_policy=policies)
    return params


def season_angle(week: Array) -> Array:
    """Phase of the year in radians; ``week`` [] int32."""
    return (week % WEEKS_PER_YEAR) * np.float32(2.0 * np.pi / WEEKS_PER_YEAR)


def cost(market: Market, params: PricingParams) -> Array:
    """[] unit cost of this week."""
    return params.unit_cost * jnp.exp(market.log_cost)


def expected_share(
    market: Market,
    reference: Array,
    price: Array,
    params: PricingParams,
    shift: Array | float = 0.0,
) -> Array:
    """[] expected units sold per potential customer at ``price``.

    e^u / (1 + e^u + e^{u_c}), u = appeal - (alpha_t + eta) p + shift.
    """
    utility = _appeal(market, reference, params) - sensitivity(market, params) * price
    utility = utility + shift
    return jax.nn.sigmoid(utility - jnp.logaddexp(0.0, _rival_utility(market, params)))


def expected_profit(
    market: Market, reference: Array, price: Array, params: PricingParams
) -> Array:
    """[] expected profit, 1 in an average week at the usual price."""
    margin = (price - cost(market, params)) / (1.0 - params.unit_cost)
    return margin * expected_share(market, reference, price, params) / USUAL_SHARE


def myopic_price(market: Market, reference: Array, params: PricingParams) -> Array:
    """[] price that maximises this week's expected profit, in the price range.

    Profit has one peak, so clipping its unconstrained optimum is exact. Without a
    reference effect it is optimal for any horizon.
    """
    best = oracle.logit_price(
        sensitivity(market, params),
        cost(market, params),
        _appeal(market, reference, params),
        jnp.exp(_rival_utility(market, params)),
    )
    return jnp.clip(best, *PRICE_RANGE)


def reference_price_policy(
    market: Market, reference: Array, params: PricingParams
) -> Array:
    """[] farsighted price: the value-iteration table read between its points.

    Exact on the chain market; cost and rival beyond two standard deviations
    continue the table's outermost slope.
    """
    middle = (_CHAIN_STATES - 1) / 2
    positions = (
        market.log_cost / params.cost_vol + middle,
        market.log_rival / params.rival_vol + middle,
        reference_oracle.reference_position(_references(), reference),
    )
    # Parameters may still be NumPy, which a traced week cannot index.
    table = jnp.asarray(params.reference_policy)[market.week % WEEKS_PER_YEAR]
    return jnp.clip(reference_oracle.interpolate(table, positions), *PRICE_RANGE)


def draw_noise(key: Array, extra: int = 0) -> Noise:
    """Randomness of one week; the same for the same key, whatever the price.

    Args:
      key: of the week.
      extra: standard normal numbers beyond those that every week needs.
    """
    *normals, last = jax.random.normal(key, (6,))
    noise = Noise(*normals, regime=jax.scipy.stats.norm.cdf(last))
    if extra:
        key_extra = jax.random.fold_in(key, 1)
        noise = noise._replace(extra=jax.random.normal(key_extra, (extra,)))
    return noise


def next_market(market: Market, noise: Noise, params: PricingParams) -> Market:
    """Cost and rival one AR(1) step on, and a new regime where one begins."""
    shifts = noise.regime < params.regime_hazard
    jump = jnp.where(shifts, _SENSITIVITY_JUMP * noise.sensitivity_jump, 0.0)
    shift = jnp.where(shifts, _SHIFT_JUMP * noise.shift_jump, 0.0)
    return Market(
        week=market.week + 1,
        log_cost=_autoregress(
            market.log_cost, params.cost_persistence, params.cost_vol, noise.cost
        ),
        log_rival=_autoregress(
            market.log_rival, params.rival_persistence, params.rival_vol, noise.rival
        ),
        alpha=market.alpha * jnp.exp(jump),
        demand_shift=market.demand_shift + shift,
    )


def next_reference(reference: Array, price: Array, params: PricingParams) -> Array:
    """[] reference price after a week at ``price``."""
    decay = params.reference_decay
    return decay * reference + (1.0 - decay) * price


def reference_market(params: PricingParams) -> reference_oracle.ReferenceMarket:
    """The chain market whose value iteration is this seller's oracle."""
    chain = reference_oracle.rouwenhorst
    return reference_oracle.ReferenceMarket(
        cost=chain(params.cost_vol, params.cost_persistence, _CHAIN_STATES),
        rival=chain(params.rival_vol, params.rival_persistence, _CHAIN_STATES),
        references=_references(),
        prices=jnp.exp(jnp.linspace(-LOG_PRICE_RANGE, LOG_PRICE_RANGE, _NUM_PRICES)),
        decay=params.reference_decay,
    )


def reference_profit(params: PricingParams) -> reference_oracle.Profit:
    """This seller's weekly profit in the form value iteration wants."""

    def profit(
        week: Array, log_cost: Array, log_rival: Array, reference: Array, price: Array
    ) -> Array:
        market = Market(week, log_cost, log_rival, params.alpha, jnp.zeros(()))
        return expected_profit(market, reference, price, params)

    return profit


@jax.jit
def _solve_policies(params: PricingParams) -> Array:
    """[P, W, S, S, M] optimal prices of sellers with a reference price."""

    def solve(one: PricingParams) -> Array:
        return reference_oracle.solve(
            reference_profit(one), reference_market(one), ORACLE_DISCOUNT
        ).prices

    return jax.lax.map(solve, params)  # in turn: the working set is large


def _autoregress(value: Array, persistence: Array, vol: Array, normal: Array) -> Array:
    """One AR(1) step that keeps the stationary standard deviation ``vol``."""
    return persistence * value + vol * jnp.sqrt(1.0 - persistence**2) * normal


def season(market: Market, params: PricingParams) -> Array:
    """[] utility that the season adds this week."""
    angle = season_angle(market.week) - params.season_phase
    return params.season_amplitude * jnp.cos(angle)


def _references() -> Array:
    """[M] grid of reference prices over the price range."""
    return jnp.linspace(*PRICE_RANGE, _NUM_REFERENCES)


def sensitivity(market: Market, params: PricingParams) -> Array:
    """[] alpha_t + eta: utility lost per unit of own price this week."""
    return market.alpha + _alpha_swing(market, params) + params.reference_effect


def _alpha_swing(market: Market, params: PricingParams) -> Array:
    """[] alpha_t - alpha."""
    angle = season_angle(market.week) - params.season_phase - 1.0
    return market.alpha * params.sensitivity_swing * jnp.cos(angle)


def _appeal(market: Market, reference: Array, params: PricingParams) -> Array:
    """[] all terms of the seller's utility without its price."""
    usual = jnp.log(USUAL_SHARE / (1.0 - USUAL_SHARE - params.rival_share))
    return (
        usual
        + market.alpha
        + market.demand_shift
        + season(market, params)
        + _alpha_swing(market, params)
        + params.reference_effect * reference
    )


def _rival_utility(market: Market, params: PricingParams) -> Array:
    """[] u_c, the rival's utility at its current price."""
    usual = jnp.log(params.rival_share / (1.0 - USUAL_SHARE - params.rival_share))
    return usual + market.alpha * (1.0 - jnp.exp(market.log_rival))
