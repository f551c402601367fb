"""States and steps of a real market, as an agent learns them."""

from __future__ import annotations

import logging
import math
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.agent.core import AgentStep
from p2p_sac_jax.arguments import missing, number, numbers
from p2p_sac_jax.environments.week_figures import MAX_LOG_SALES, bound, complete
from p2p_sac_jax.peer.context import PeerComponents
from p2p_sac_jax.types import Transition

# Actions taken lie within +-1, or where others set prices too, within this: 1.5**6 is
# beyond every price that counts as relative.
_MOST_CHARGED = 6.0
_FLOATS = (float, np.floating, jax.Array)
_log = logging.getLogger(__name__)


class RealData:
    """Reads states and steps by the rules of ``environments.week_figures``.

    Attributes:
      counts: steps so far of which figures were bounded, or that were left out.
    """

    def __init__(self, components: PeerComponents) -> None:
        self.counts = {"weeks_left_out": 0.0, "weeks_bounded": 0.0}
        self._environment = components.environment
        self._sells = components.memory.model is not None

    def state(self, clock: int, state: Any, last: np.ndarray) -> np.ndarray:
        """An observed state [D] without gaps; ``last`` [D] is the one before."""
        obs = numbers("state", state, last.shape, gaps=True)
        obs, note = complete("state", obs, last, self._environment.bound)
        self._report(clock, note)
        return obs

    def step(
        self,
        clock: int,
        obs: np.ndarray,
        action: Any,
        reward: Any,
        next_state: Any,
        terminated: bool,
        log_sales: Any,
    ) -> AgentStep | None:
        """A step to learn, or None where a figure is missing.

        For the arguments see ``P2PSACAgent.observe``. A step whose action is outside
        [-1, 1] stays out of the replay, as no action of the policy is like it; the
        demand model learns it.

        Raises:
          ConfigError: an argument is no number, or has another shape.
        """
        environment, most = self._environment, _MOST_CHARGED if self._sells else 1.0
        action = numbers("action", action, (environment.action_dim,), most)
        following = numbers("next_state", next_state, obs.shape, gaps=True)
        if not self._sells:
            log_sales = 0.0
        elif isinstance(log_sales, _FLOATS) and log_sales == -math.inf:
            log_sales = -MAX_LOG_SALES  # nothing was sold
        for name, value in (("reward", reward), ("log_sales", log_sales)):
            if value is not None and missing(value):
                self.counts["weeks_left_out"] += 1.0
                self._report(clock, f"{name}={value}: nothing is learned")
                return None
        reward, of_reward = bound("reward", number("reward", reward), environment.bound)
        sold = number("log_sales", log_sales)
        sold, of_sales = bound("log_sales", sold, MAX_LOG_SALES)
        following, of_state = complete("next_state", following, obs, environment.bound)
        notes = of_reward, of_sales, of_state
        self.counts["weeks_bounded"] += float(any(notes))
        self._report(clock, *notes)
        transition = Transition(
            obs=obs,
            action=action,
            reward=np.float32(reward),
            next_obs=following,
            discount=np.float32(not terminated),
        )
        kept = np.float32((np.abs(action) <= 1.0).all())
        return AgentStep(transition, np.float32(sold), kept)

    def _report(self, clock: int, *notes: str) -> None:
        for note in filter(None, notes):
            _log.warning("step %d: %s", clock, note)
