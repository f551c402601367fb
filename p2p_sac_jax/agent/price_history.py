"""A store's record of past weeks, and the agent's steps that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.arguments import numbers
from p2p_sac_jax.agent.core import AgentStep
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.environments.observation import clip_log_sales
from p2p_sac_jax.environments.pricing_model import LOG_PRICE_RANGE
from p2p_sac_jax.types import Array, Transition

# Entries of an observation that hold last week's price and sales, as made by
# ``observation``.
_LAST_PRICE, _LAST_SALES = 5, 6
_TOLERANCE = 1e-3


class PriceHistory(NamedTuple):
    """Past weeks of one store, in order; any array-likes, T may be 0."""

    observations: Any  # [T, 11] at the start of each week: ``p2p_sac_jax.observation``
    prices: Any  # [T] charged, relative to the usual price
    units: Any  # [T] sold, relative to a usual week


def price_action(price: float | np.ndarray, name: str = "price") -> np.ndarray:
    """Action [..., 1] of a price relative to the usual one.

    Raises:
      ConfigError: a price is outside the range of actions.
    """
    prices = np.asarray(price, np.float64)
    low, high = math.exp(-LOG_PRICE_RANGE), math.exp(LOG_PRICE_RANGE)
    wrong = ~((prices >= low * (1 - 1e-6)) & (prices <= high * (1 + 1e-6)))
    if wrong.any():
        raise ConfigError(
            f"{name}={prices[wrong].flat[0]:g} must be in [{low:.3f}, {high:.3f}]"
        )
    action = np.log(prices) / LOG_PRICE_RANGE
    return np.clip(action, -1.0, 1.0)[..., None].astype(np.float32)


def action_price(action: np.ndarray) -> np.ndarray:
    """Relative prices [...] of actions [..., 1]."""
    return np.exp(LOG_PRICE_RANGE * np.asarray(action, np.float64)[..., 0])


def check_history(history: PriceHistory | None, environment: Environment) -> int:
    """Checks a history, or None; returns its number of weeks.

    Raises:
      ConfigError: it does not fit the environment.
    """
    if history is None:
        return 0
    if not isinstance(history, PriceHistory):
        raise ConfigError(
            f"price_history of type {type(history).__name__} must be a PriceHistory"
        )
    if not any(np.size(values) for values in history):
        return 0
    if environment.demand is None:
        raise ConfigError(
            "price_history must be empty: this environment has no demand model"
        )
    weeks = np.size(history.prices)
    shapes = (weeks, environment.observation_dim), (weeks,), (weeks,)
    arrays = zip(history._asdict().items(), shapes, strict=True)
    _, prices, units = (
        numbers(f"price_history.{name}", values, shape)
        for (name, values), shape in arrays
    )
    price_action(prices, "price_history.prices")
    if not (units > 0).all():
        raise ConfigError(f"price_history.units={units.min():g} must be above 0")
    return weeks


def past_steps(
    history: PriceHistory | None, environment: Environment, params: Any
) -> Iterator[AgentStep]:
    """One step for each week, oldest first.

    The reward is the demand model's for this price and these units. A week goes into
    the replay if the next observation holds its price and sales. The last week, and a
    week before a gap, update the memory alone.

    Args:
      history: accepted by ``check_history``; None or empty has no steps.
      environment: with a demand model.
      params: its parameters, of this store.
    """
    if history is None or not np.size(history.prices):
        return
    obs = np.asarray(history.observations, np.float32)
    action = price_action(history.prices)
    log_sales = np.log(np.asarray(history.units, np.float64)).astype(np.float32)
    following = np.concatenate([obs[1:], obs[-1:]])
    next_values = np.stack(
        [following[:, _LAST_PRICE], following[:, _LAST_SALES]], axis=1
    )
    differ = np.abs(next_values - _next_values(action, log_sales)).max(axis=1)
    kept = np.append(differ[:-1] <= _TOLERANCE, False)  # the last has no successor
    transitions = Transition(
        obs=obs,
        action=action,
        reward=np.zeros_like(log_sales),
        next_obs=following,
        discount=np.ones_like(log_sales),
    )
    reward = _rewards(environment, transitions, log_sales, params)
    transitions = transitions._replace(reward=reward)
    for week in range(len(obs)):
        transition = jax.tree.map(lambda leaf, week=week: leaf[week], transitions)
        yield AgentStep(transition, log_sales[week], np.float32(kept[week]))


def _next_values(action: np.ndarray, log_sales: np.ndarray) -> np.ndarray:
    """[T, 2] price and sales entries of the observations after these weeks."""
    sales = 0.5 * np.asarray(clip_log_sales(jnp.asarray(log_sales)))
    return np.stack([4.0 * np.log(action_price(action)), sales], axis=1)


def _rewards(
    environment: Environment, transitions: Transition, log_sales: Array, params: Any
) -> np.ndarray:
    """[T] rewards of weeks with known sales: the counterfactual at the actual price."""
    if environment.demand is None:
        raise TypeError("rewards of sales need an environment with a demand model")
    evaluate = jax.vmap(environment.demand.counterfactual, (0, 0, 0, 0, None))
    weeks = evaluate(transitions, transitions.action, log_sales, log_sales, params)
    return np.asarray(weeks.reward)
