"""The functional protocol of every environment: pure functions for ONE peer.

Optional hooks are ``None`` where an environment has no such model; ``peer``
decides once, at trace time, what that means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from p2p_sac_jax.types import Array, Candidates, Score, Transition

State = Any
Params = Any
Info = Any


class Step(NamedTuple):
    """Result of one environment step."""

    state: State
    obs: Array  # [D] what the peer sees next, after a reset if the episode ended
    reward: Array  # []
    terminated: Array  # [] bool: the future is worth nothing
    truncated: Array  # [] bool: the clock ran out, bootstrap through it
    final_obs: Array  # [D] true successor of the action, before any reset
    info: Info


class Environment(NamedTuple):
    """A bundle of pure functions and the static sizes they agree on."""

    reset: Callable[[Array, Params], tuple[State, Array]]  # (key, params)
    step: Callable[[Array, State, Array, Params], Step]  # (key, state, action, params)
    cell: Callable[[Array], Array]  # (obs) -> [] int32 in [0, num_cells)
    score: Callable[[Info], Score]
    observation_dim: int
    action_dim: int
    num_cells: int
    num_features: int = 0
    has_oracle: bool = False  # whether ``score`` knows oracle and baseline
    # (obs, action) -> [F] regressors of log demand
    features: Callable[[Array, Array], Array] | None = None
    # (info) -> [] ln(units / usual units)
    outcome: Callable[[Info], Array] | None = None
    # (obs, params) -> Candidates: a public grid of actions in this state
    candidates: Callable[[Array, Params], Candidates] | None = None
    # (transition, action, log_demand, expected, params) -> Transition: the same
    # week with another action; both are ln(demand / usual units), ``log_demand``
    # what the action would have sold and ``expected`` what was expected of the
    # action that happened: the week's demand shock is what really sold less that
    counterfactual: (
        Callable[[Transition, Array, Array, Array, Params], Transition] | None
    ) = None
    # (key, params) -> Transition: a week at the status quo, observable without
    # selling; its reward and demand are placeholders for ``counterfactual``
    exogenous: Callable[[Array, Params], Transition] | None = None
