"""One agent at work in one market, week after week, until it is told to stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.market import Market, Outcome
from p2p_sac_jax.agent.protocol.peer_network import Network
from p2p_sac_jax.agent.protocol.threads import in_thread

LOG = logging.getLogger(__name__)
COMPANY_S = 10.0  # a peer that starts waits this long for a first other one
SAVE_S = 10.0  # between two savings, at least
_LOOK_S = 0.2  # how often it looks whether somebody has come
_BEST = "oracle"  # of an outcome's figures: what could have been earned


async def live_week(
    agent: P2PSACAgent, market: Market, obs: Any
) -> tuple[Outcome, dict[str, float]]:
    """One step: acts on an observation [D], and learns from what comes of it."""
    action = await agent.select_action(obs)
    outcome = await _answer(market.step, action, agent.clock)
    return outcome, await _learn(agent, action, outcome)


async def _learn(agent: P2PSACAgent, action: Any, outcome: Outcome) -> dict[str, float]:
    agent.observe(
        action,
        outcome.reward,
        outcome.observation,
        terminated=outcome.terminated,
        log_sales=outcome.log_sales,
    )
    return await agent.train()


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
        clock: Callable[[], float],
        week_s: float,
        sync_s: float,
    ) -> None:
        """Holds what works together; nothing starts yet.

        Args:
          agent: new or loaded; it has a folder.
          market: what it acts in.
          network: the agent's.
          clock: weeks of the network's clock, with their fraction. A week is lived
            when it has come, and no week twice.
          week_s: seconds that a week lasts.
          sync_s: seconds between two rounds of asking for what is missing.
        """
        self._agent, self._market, self._network = agent, market, network
        self._clock, self._week_s, self._sync_s = clock, week_s, sync_s
        self._earned = self._best = 0.0
        self._saved_at = -math.inf  # the first week is saved at once
        self._save_errors = 0
        self.figures: dict[str, float] = {}

    async def run(self, stop: asyncio.Event, weeks: int = 0) -> None:
        """Works until ``stop`` is set; then saves, and leaves the network.

        Args:
          stop: set by whoever wants it to end. A week whose outcome is not there yet is
            given up: after the next start its action stands until it is.
          weeks: number of weeks, counted from the agent's first; 0 is no end.
        """
        await self._network.connect()
        others = asyncio.create_task(self._keep_in_step())
        try:
            await self._work(stop, weeks)
        finally:
            others.cancel()
            self._save()
            counters = self._network.status().counters._asdict()
            await self._network.disconnect()
            done = {"week": self._agent.steps, **counters}
            LOG.info("stopped", extra={"data": done})

    async def _work(self, stop: asyncio.Event, weeks: int) -> None:
        agent, market, obs = self._agent, self._market, None
        await _unless(stop, self._company())
        while not weeks or agent.steps < weeks:
            await _unless(stop, self._next_week())
            agent.catch_up(int(self._clock()))
            if obs is None:
                obs = await _unless(stop, _answer(market.reset, agent.clock))
            if stop.is_set():
                return
            action = await agent.select_action(obs)
            answer = _answer(market.step, action, agent.clock)
            outcome = await _unless(stop, answer)
            if outcome is None:
                return
            self._note(outcome, await _learn(agent, action, outcome))
            obs = outcome.observation
            if time.monotonic() - self._saved_at >= SAVE_S:
                self._save()

    async def _company(self) -> None:
        """Waits for somebody, for a while: who opens a store does well to listen."""
        deadline = time.monotonic() + COMPANY_S
        while len(self._network.peers) > 1 and time.monotonic() < deadline:
            if self._network.status().peers:
                return
            await asyncio.sleep(_LOOK_S)

    async def _next_week(self) -> None:
        """Rests until the agent's next week has come."""
        while (left := self._agent.clock - self._clock()) > 0:
            await asyncio.sleep(min(left * self._week_s, _LOOK_S))

    async def _keep_in_step(self) -> None:
        """Asks for what is missing between the agent's own rounds, which may be far."""
        while True:
            await asyncio.sleep(max(self._sync_s, _LOOK_S))
            await self._agent.sync()

    def _save(self) -> None:
        """A disk that does not take the state ends no peer: what was there stays."""
        try:
            self._agent.save()
        except OSError as error:
            self._save_errors += 1
            LOG.error("not saved", extra={"data": {"reason": str(error)}})
        self._saved_at = time.monotonic()

    def _note(self, outcome: Outcome, metrics: Mapping[str, float]) -> None:
        self._earned += outcome.figures.get("achieved", outcome.reward)
        self._best += outcome.figures.get(_BEST, 0.0)
        self.figures = {
            "week": self._agent.steps,
            "clock": self._agent.clock,
            "reward": outcome.reward,
            "save_errors": self._save_errors,
            **metrics,
        }
        if self._best:
            self.figures["earned_share"] = self._earned / self._best
        status = self._network.status()
        seen = {"health": status.health, "peers": len(status.peers)}
        rounded = {name: round(x, 4) for name, x in self.figures.items()}
        LOG.info("week", extra={"data": rounded | seen})


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of ``work``, or None if ``stop`` is set before it is there."""
    task, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None


async def _answer(ask: Callable[..., Any], *question: Any) -> Any:
    """What a market answers, which may take a week; others go on meanwhile."""
    if inspect.iscoroutinefunction(ask):
        return await ask(*question)

    def call() -> Any:
        return ask(*question)

    return await in_thread(call)  # a stop must not wait for it
