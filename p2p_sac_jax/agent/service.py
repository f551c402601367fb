"""One agent at work in one market, week after week, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.market import Market, Outcome
from p2p_sac_jax.agent.network import Network

LOG = logging.getLogger(__name__)
_BEST = "oracle"  # of an outcome's figures: what could have been earned


async def live_week(
    agent: P2PSACAgent, market: Market, obs: Any
) -> tuple[Outcome, dict[str, float]]:
    """One step: acts on an observation [D], and learns from what comes of it."""
    action = await agent.select_action(obs)
    outcome = market.step(action, agent.clock)
    agent.observe(
        action,
        outcome.reward,
        outcome.observation,
        terminated=outcome.terminated,
        log_sales=outcome.log_sales,
    )
    return outcome, await agent.train()


class Service:
    """Acts, learns, talks and saves; see ``run``.

    Attributes:
      figures: of the peer by name, for monitors.
    """

    def __init__(
        self,
        agent: P2PSACAgent,
        market: Market,
        network: Network,
        *,
        week_s: float,
        save_every: int = 10,
    ) -> None:
        """Holds what works together; nothing starts yet.

        Args:
          agent: new or loaded; it has a folder.
          market: what it acts in.
          network: the agent's.
          week_s: seconds that a step lasts at least.
          save_every: steps between two savings.
        """
        self._agent, self._market, self._network = agent, market, network
        self._week_s, self._save_every = week_s, save_every
        self._earned = self._best = 0.0
        self.figures: dict[str, float] = {}

    async def run(self, stop: asyncio.Event, weeks: int = 0) -> None:
        """Works until ``stop`` is set; then saves, and leaves the network.

        Args:
          stop: set by whoever wants it to end; the week at hand is finished.
          weeks: number of weeks, counted from the agent's first; 0 is no end.
        """
        agent, loop = self._agent, asyncio.get_running_loop()
        await self._network.connect()
        try:
            obs = self._market.reset(agent.clock)
            while not stop.is_set() and (not weeks or agent.steps < weeks):
                began = loop.time()
                obs = await self._week(obs)
                await _rest(stop, self._week_s - (loop.time() - began))
        finally:
            agent.save()
            await self._network.disconnect()
            counters = self._network.status().counters._asdict()
            LOG.info("stopped", extra={"data": {"week": agent.steps, **counters}})

    async def _week(self, obs: Any) -> Any:
        agent = self._agent
        outcome, metrics = await live_week(agent, self._market, obs)
        self._note(outcome, metrics)
        if agent.steps % self._save_every == 0:
            agent.save()
        return outcome.observation

    def _note(self, outcome: Outcome, metrics: Mapping[str, float]) -> None:
        self._earned += outcome.figures.get("achieved", outcome.reward)
        self._best += outcome.figures.get(_BEST, 0.0)
        self.figures = {
            "week": self._agent.steps,
            "clock": self._agent.clock,
            "reward": outcome.reward,
            **metrics,
        }
        if self._best:
            self.figures["earned_share"] = self._earned / self._best
        status = self._network.status()
        seen = {"health": status.health, "peers": len(status.peers)}
        rounded = {name: round(x, 4) for name, x in self.figures.items()}
        LOG.info("week", extra={"data": rounded | seen})


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Waits for the next week, or for the end; others go on meanwhile."""
    try:
        await asyncio.wait_for(stop.wait(), max(seconds, 0.0))
    except TimeoutError:
        return
