"""The functional protocol of every environment: pure functions for ONE peer.

An environment that sells something brings a ``DemandModel`` too; ``peer`` decides
once, at trace time, what its absence means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.coefficients import CoefficientSpec, own_price_index
from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.types import Array, Candidates, Score, Transition

State = Any
Params = Any
Info = Any


class TimeStep(NamedTuple):
    """Result of one environment step."""

    state: State
    obs: Array  # [D] what the peer sees next, after a reset if the episode ended
    reward: Array  # []
    terminated: Array  # [] bool: the future is worth nothing
    truncated: Array  # [] bool: the clock ran out, bootstrap through it
    final_obs: Array  # [D] true successor of the action, before any reset
    info: Info


class DemandCurve(NamedTuple):
    """True demand of one peer in a usual week, for reports."""

    price: Array  # [N] relative to the usual price
    features: Array  # [N, F] regressors of log demand
    demand: Array  # [N] expected units / usual units


class DemandModel(NamedTuple):
    """What a price memory may know of an environment that sells something."""

    coefficients: tuple[CoefficientSpec, ...]  # F, the first of them the level
    # (obs, action) -> [F] regressors of log demand
    features: Callable[[Array, Array], Array]
    # (info) -> [] ln(units / usual units)
    outcome: Callable[[Info], Array]
    # (obs, params) -> a public grid of actions in this state
    candidates: Callable[[Array, Params], Candidates]
    # (transition, action, log_demand, expected, params) -> the same week with another
    # action. Both are ln(demand / usual units): ``log_demand`` what the action would
    # have sold, ``expected`` what was expected of the action that happened; the
    # week's demand shock is what really sold less that.
    counterfactual: Callable[[Transition, Array, Array, Array, Params], Transition]
    # (key, params) -> a week at the status quo, observable without selling; its
    # reward and demand are placeholders for ``counterfactual``
    exogenous: Callable[[Array, Params], Transition]
    # ([T, D] observed weeks, T may be 0) -> parameters of a store known by them alone
    store_params: Callable[[Array], Params] | None = None
    # (state, params) -> without season, at usual cost, rival and reference price
    curve: Callable[[State, Params], DemandCurve] | None = None

    @property
    def price_slope(self) -> int | None:
        """Index of the coefficient that is reported as the slope in the own price."""
        return next(iter(own_price_index(self.coefficients)), None)


class Environment(NamedTuple):
    """A bundle of pure functions and the static sizes they agree on."""

    reset: Callable[[Array, Params], tuple[State, Array]]  # (key, params)
    step: Callable[
        [Array, State, Array, Params], TimeStep
    ]  # (key, state, action, params)
    cell: Callable[[Array], Array]  # (obs) -> [] int32 in [0, num_cells)
    score: Callable[[Info], Score]
    observation_dim: int
    action_dim: int
    num_cells: int
    cells_per_group: int = 1  # this many cells in a row make one of a coarser grid
    # Rewards and entries of observations are within +- this in a deployed agent, so
    # that one absurd step does not outweigh all others, nor overflow when squared.
    bound: float = 1e6
    has_oracle: bool = False  # whether ``score`` knows oracle and baseline
    demand: DemandModel | None = None  # None: nothing to remember or imagine


class PeerDraw(NamedTuple):
    """The peers of a population."""

    params: Any  # [P, ...] environment parameters, NumPy leaves
    names: list[str]  # P, label of each peer in reports
    context: np.ndarray  # [P, C] public descriptors of each peer, standardised


class EnvironmentFactory(NamedTuple):
    """How an environment and its peers are made from a configuration."""

    make: Callable[[EnvironmentConfig], Environment]
    # The seed matters where ``population.draw`` is ``random``.
    draw_peers: Callable[[EnvironmentConfig, PopulationConfig, int], PeerDraw]
