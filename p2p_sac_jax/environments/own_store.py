"""Parameters of a store of one's own, as far as its own weeks show them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.arguments import number, numbers
from p2p_sac_jax.config import EnvironmentConfig
from p2p_sac_jax.environments.calibration import MarketCalibration
from p2p_sac_jax.environments.observation import (
    COST_CENTRE,
    OBSERVATION_DIM,
    observed_cost,
)
from p2p_sac_jax.environments.pricing_model import make_pricing_params

_COSTS = (0.01, 0.99)  # of a usual week: at the usual price something is earned
_MIN_WEEKS = 8  # fewer say nothing about how a cost moves
# What is assumed of a series that its weeks do not show: deviation and persistence.
_COST_MOVES, _RIVAL_MOVES = (0.1, 0.8), (0.1, 0.5)
_MIN_VOL, _MAX_PERSISTENCE = 0.01, 0.99


def store_params(observations: Any = None, unit_cost: Any = COST_CENTRE) -> Any:
    """Parameters that an agent needs of a store: costs, rivals, and how they move.

    Demand itself is not among them; the agent learns it.

    Args:
      observations: [T, 11] of past weeks; their mean cost is the usual one.
      unit_cost: the usual one without weeks, over the usual price, from .01 to .99. It
        sets the unit of profit: rewards are profits over that of a usual week.

    Raises:
      ConfigError: the cost is outside its range, or a number of the weeks is missing.
    """
    given = np.zeros((0, OBSERVATION_DIM)) if observations is None else observations
    obs = numbers("observations", given, (len(given), OBSERVATION_DIM))
    costs = np.maximum(observed_cost(obs), _COSTS[0])
    usual = number("unit_cost", unit_cost, *_COSTS, "relative to the usual price")
    cost_vol, cost_persistence = _moves(np.log(costs), _COST_MOVES)
    rival_vol, rival_persistence = _moves(obs[:, 3] / 4.0, _RIVAL_MOVES)
    figures = {
        "unit_cost": np.clip(costs.mean(), *_COSTS) if len(obs) else usual,
        "cost_vol": cost_vol,
        "cost_persistence": cost_persistence,
        "rival_vol": rival_vol,
        "rival_persistence": rival_persistence,
        "elasticity": -2.0,  # of the simulated market, which this store is not in
    }
    unused = dict.fromkeys(MarketCalibration._fields, 0.0)
    one_store = {
        name: np.full(1, x, np.float32) for name, x in (unused | figures).items()
    }
    params = make_pricing_params(EnvironmentConfig(), SimpleNamespace(**one_store))
    return jax.tree.map(lambda leaf: leaf[0], params)


def _moves(
    series: NDArray[np.floating], assumed: tuple[float, float]
) -> tuple[float, float]:
    """Standard deviation of a series [T], and its correlation from week to week."""
    if len(series) < _MIN_WEEKS or series.std() < _MIN_VOL:
        return assumed
    centred = series - series.mean()
    persistence = (centred[1:] @ centred[:-1]) / (centred @ centred)
    return float(series.std()), float(np.clip(persistence, 0.0, _MAX_PERSISTENCE))
