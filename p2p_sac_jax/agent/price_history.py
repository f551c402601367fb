"""A store's record of past weeks, and the agent's steps that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.agent.core import AgentStep
from p2p_sac_jax.arguments import missing, numbers
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments.base import DemandModel, Environment
from p2p_sac_jax.environments.pricing_model import LOG_PRICE_RANGE
from p2p_sac_jax.environments.week_figures import (
    MAX_LOG_SALES,
    USUAL_WEEKS,
    bound,
    log_units,
    relative_price,
    usual_weeks,
)
from p2p_sac_jax.types import Transition

# Entries of an observation that hold last week's price and sales, as made by
# ``observation``.
_LAST_PRICE, _LAST_SALES = 5, 6
_TOLERANCE = 1e-3
_log = logging.getLogger(__name__)


class PriceHistory(NamedTuple):
    """Past weeks of one store, in order, T of them; any array-likes, T may be 0.

    What a week may hold is written in ``environments.week_figures``. A week with a
    missing figure (None, NaN), or one that cannot be relative, is left out and logged
    by its number; the rest count. The costs of the observations, averaged, become the
    store's usual cost.
    """

    # [T, 11] at the start of each week, from ``p2p_sac_jax.observation``; row t shows
    # price, units and profit of week t - 1
    observations: Any
    prices: Any  # [T] charged, over the usual price: .1 to 3
    units: Any  # [T] sold, over those of a usual week; 0 and net returns are legal


class Weeks(NamedTuple):
    """A checked history."""

    obs: np.ndarray  # [T, D]
    action: np.ndarray  # [T, 1]; beyond +-1 where no action can name the price
    log_sales: np.ndarray  # [T] ln(units / usual units), bounded
    known: np.ndarray  # [T] bool: False where a week is left out


def price_action(price: Any, name: str = "price") -> np.ndarray:
    """Action [1] of a price relative to the usual one.

    Beyond ±1 it is a price that an agent cannot choose, such as a promotion.

    Raises:
      ConfigError: it is no such price.
    """
    action = np.log(relative_price(name, price)) / LOG_PRICE_RANGE
    nearest = np.clip(action, -1.0, 1.0)
    named = nearest if abs(action - nearest) < 1e-5 else action
    return np.array([named], np.float32)


def action_price(action: np.ndarray) -> np.ndarray:
    """Relative prices [...] of actions [..., 1]."""
    return np.exp(LOG_PRICE_RANGE * np.asarray(action, np.float64)[..., 0])


def read_history(history: PriceHistory | None, environment: Environment) -> Weeks:
    """Checks a history; None has no weeks.

    Raises:
      ConfigError: it does not fit the environment, or half of its weeks cannot be
        used; the message is about the first of them.
    """
    dim = environment.observation_dim
    if history is None:
        history = PriceHistory((), (), ())
    if not isinstance(history, PriceHistory):
        raise ConfigError(
            f"price_history of type {type(history).__name__} must be a PriceHistory"
        )
    prices, sold = (np.asarray(x, object) for x in history[1:])
    size = prices.size
    if size and environment.demand is None:
        raise ConfigError(
            "price_history must be empty: this environment has no demand model"
        )
    given = history.observations if size else np.zeros((0, dim))
    obs = numbers("price_history.observations", given, (size, dim), gaps=True)
    if not prices.shape == sold.shape == (size,):
        raise ConfigError(
            f"price_history.units of shape {sold.shape} must be one number for each"
            f" of {size} weeks, as prices"
        )
    action, units = np.zeros((size, 1), np.float32), np.ones(size)
    left_out, refused = {}, []
    for week, figures in enumerate(zip(prices, sold, strict=True)):
        if any(map(missing, figures)) or np.isnan(obs[week]).any():
            left_out[week] = "a figure is missing"
            continue
        try:
            action[week] = price_action(figures[0], f"price_history.prices[{week}]")
            units[week] = usual_weeks(f"price_history.units[{week}]", figures[1])
        except ConfigError as error:
            left_out[week] = str(error)
            refused.append(str(error))
    if 2 * len(refused) > size:
        raise ConfigError(f"{refused[0]}; {len(refused)} of {size} weeks are not")
    for week, reason in left_out.items():
        _log.warning("week %d of the history is left out: %s", week, reason)
    for week in np.flatnonzero(units > USUAL_WEEKS):
        _log.warning("%s", bound(f"price_history.units[{week}]", units[week])[1])
    return Weeks(
        obs=np.clip(np.nan_to_num(obs), -environment.bound, environment.bound),
        action=action,
        log_sales=log_units(units).astype(np.float32),
        known=~np.isin(np.arange(size), list(left_out)),
    )


def past_steps(
    weeks: Weeks, environment: Environment, params: Any
) -> Iterator[AgentStep | None]:
    """One step for each week, oldest first; None for a week that is left out.

    The reward is the demand model's for this price and these units, under the
    parameters of the store. A week goes into the replay if an action can name its
    price and the next observation holds price and sales. Other weeks, the last among
    them, update the memory alone.
    """
    if environment.demand is None or not len(weeks.obs):
        return
    obs, action, log_sales, known = weeks
    following = np.concatenate([obs[1:], obs[-1:]])
    next_values = following[:, [_LAST_PRICE, _LAST_SALES]]
    differ = np.abs(next_values - _next_values(action, log_sales)).max(axis=1)
    chosen = (np.abs(action[:, 0]) <= 1.0) & (differ <= _TOLERANCE)
    kept = chosen & np.append(known[1:], False)  # the last has no successor
    transitions = Transition(
        obs=obs,
        action=action,
        reward=np.zeros_like(log_sales),
        next_obs=following,
        discount=np.ones_like(log_sales),
    )
    reward = _rewards(environment.demand, transitions, log_sales, params)
    reward = np.clip(reward, -environment.bound, environment.bound)
    transitions = transitions._replace(reward=reward)
    for week in range(len(obs)):
        transition = jax.tree.map(lambda leaf, week=week: leaf[week], transitions)
        step = AgentStep(transition, log_sales[week], np.float32(kept[week]))
        yield step if known[week] else None


def _next_values(action: np.ndarray, log_sales: np.ndarray) -> np.ndarray:
    """[T, 2] price and sales entries of the observations after these weeks."""
    sales = 0.5 * np.clip(log_sales, -MAX_LOG_SALES, MAX_LOG_SALES)
    return np.stack([4.0 * np.log(action_price(action)), sales], axis=1)


def _rewards(
    demand: DemandModel, weeks: Transition, log_sales: np.ndarray, params: Any
) -> np.ndarray:
    """[T] rewards of weeks with known sales: the counterfactual at the actual price."""
    evaluate = jax.vmap(demand.counterfactual, (0, 0, 0, 0, None))
    rewards = evaluate(weeks, weeks.action, log_sales, log_sales, params).reward
    return np.asarray(rewards)
