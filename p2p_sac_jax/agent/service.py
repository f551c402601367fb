"""One agent in one market, week after week, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.market import (
    MarketInterface,
    MarketOutcome,
    reset_market,
    step_market,
)
from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.delivery import in_thread
from p2p_sac_jax.agent.protocol.payloads import KINDS
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.arguments import missing

LOG = logging.getLogger(__name__)
FIRST_PEER_S = 10.0  # a starting peer waits this long for another one
AHEAD_S = 30.0  # by which the agent waits for the clock; beyond, the clock was wrong
SAVE_S = 10.0  # between two saves, at least
COMPILING_S = 5.0  # between two lines of a peer that compiles
_POLL_S, _WATCH_S = 0.2, 1.0
_BEST = "oracle"  # in an outcome's figures: the largest possible profit
_TRAFFIC = "sent", "kept", "delivered", "pulled", "refused"  # counters of a week


async def run_week(
    agent: P2PSACAgent, market: MarketInterface, obs: Any
) -> tuple[MarketOutcome, dict[str, float]]:
    """One step: acts on an observation [D], and trains on the outcome."""
    action = await agent.select_action(obs)
    outcome = await step_market(market, action, agent.clock)
    return outcome, await _train(agent, action, outcome)


async def _train(
    agent: P2PSACAgent, action: Any, outcome: MarketOutcome
) -> dict[str, float]:
    agent.observe(
        action if outcome.charged is None else outcome.charged,
        outcome.reward,
        outcome.observation,
        terminated=outcome.terminated,
        log_sales=outcome.log_sales,
    )
    return await agent.train()


class Service:
    """Acts, trains, exchanges and saves; see ``run``.

    Attributes:
      metrics: of the peer by name, for monitors.
    """

    def __init__(
        self,
        agent: P2PSACAgent,
        market: MarketInterface,
        network: PeerNetwork,
        *,
        clock: Callable[[], float],
        week_s: float,
    ) -> None:
        """Stores the parts; nothing starts yet.

        Args:
          agent: new or loaded; it has a folder.
          market: the agent acts in it.
          network: the agent's.
          clock: weeks of the network's clock, with their fraction. A week runs when
            the clock reaches it, and no week runs twice.
          week_s: seconds of a week.
        """
        self._agent, self._market, self._network = agent, market, network
        self._clock, self._week_s = clock, week_s
        self._earned = self._best = 0.0
        self._saved_at = -math.inf  # the first week is saved at once
        self._save_errors = 0
        self._received: Counter[str] = Counter()  # since the last week, by sender
        self._traffic: Mapping[str, float] = {}  # counters at the end of the last week
        self.metrics: dict[str, float] = {}
        for kind in KINDS:
            network.register_message_handler(kind, self._count)

    async def run(self, stop: asyncio.Event, weeks: int = 0) -> None:
        """Runs until ``stop`` is set; then saves and disconnects.

        Args:
          stop: set to end the run. A week without an outcome is abandoned; after the
            next start its action is repeated until there is one.
          weeks: number of weeks, counted from the agent's first; 0 is no end.
        """
        await self._network.connect()
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(self._compile(), _unless(stop, self._wait_for_peer()))
            await self._run_weeks(stop, weeks)
        finally:
            watch.cancel()
            self._save()
            counters = self._network.status().counters._asdict()
            await self._network.disconnect()
            _log("stopped", {"week": self._agent.steps, **counters})

    async def _compile(self) -> None:
        """Compiles in a thread, so that the peer answers others meanwhile."""
        began = time.monotonic()
        work = asyncio.ensure_future(in_thread(self._agent.compile))
        elapsed_s = 0.0
        while not work.done():
            _log("compiling", {"elapsed_s": elapsed_s})
            await asyncio.wait({work}, timeout=COMPILING_S)
            elapsed_s = round(time.monotonic() - began, 1)
        work.result()
        _log("ready", {"elapsed_s": elapsed_s, "week": self._agent.steps})

    async def _run_weeks(self, stop: asyncio.Event, weeks: int) -> None:
        agent, market, obs = self._agent, self._market, None
        while not weeks or agent.steps < weeks:
            await _unless(stop, self._wait_for_week())
            agent.set_clock(max(agent.clock, int(self._clock())))
            if obs is None:
                obs = await _unless(stop, reset_market(market, agent.clock))
            if stop.is_set():
                return
            action = await agent.select_action(obs)
            step = step_market(market, action, agent.clock)
            outcome = await _unless(stop, step)
            if outcome is None:
                return
            self._record(action, outcome, await _train(agent, action, outcome))
            obs = outcome.observation
            if time.monotonic() - self._saved_at >= SAVE_S:
                self._save()

    async def _wait_for_peer(self) -> None:
        """Waits a while for another peer: a new store profits from its messages."""
        deadline = time.monotonic() + FIRST_PEER_S
        while len(self._network.peers) > 1 and time.monotonic() < deadline:
            if self._network.status().peers:
                return
            await asyncio.sleep(_POLL_S)

    async def _wait_for_week(self) -> None:
        """Waits until the clock reaches the agent's next week.

        That is a week at most, unless the clock has been ahead. It may be set back at
        any moment of the wait: the agent's clock is then turned back as well.
        """
        logged = False
        while (left := self._agent.clock - self._clock()) > 0:
            late_s = (left - 1.0) * self._week_s
            data = {"week": self._agent.clock, "ahead_s": round(late_s, 1)}
            if late_s > AHEAD_S:
                now = int(self._clock())
                self._agent.set_clock(now)
                _log("clock was ahead", data | {"back_to": now}, logging.WARNING)
            elif late_s > _POLL_S and not logged:
                until = datetime.now(UTC) + timedelta(seconds=late_s + self._week_s)
                data |= {"until": until.isoformat(timespec="seconds")}
                _log("waiting for the clock", data, logging.WARNING)
                logged = True
            await asyncio.sleep(min(left * self._week_s, _POLL_S))

    async def _watch(self) -> None:
        """Logs who comes and goes; pulls from who came, and when a sync is due."""
        away = self._network.status().away
        while True:
            await asyncio.sleep(_WATCH_S)
            now = self._network.status().away
            for name, reason in now.items():
                if away.get(name) != reason:
                    _log("peer down", {"peer": name, "reason": reason}, logging.WARNING)
            came = away.keys() - now.keys()
            for name in sorted(came):
                _log("peer up", {"peer": name})
            away = now
            self._agent.connection.sync_if_due(now=bool(came))

    def _count(self, delivery: Delivery) -> None:
        self._received[delivery.sender] += 1

    def _save(self) -> None:
        """Saves; a failing disk does not end the peer."""
        try:
            self._agent.save()
        except OSError as error:
            self._save_errors += 1
            _log("state not saved", {"reason": str(error)}, logging.ERROR)
        self._saved_at = time.monotonic()

    def _record(
        self, action: Any, outcome: MarketOutcome, train: Mapping[str, float]
    ) -> None:
        figures = outcome.metrics
        self.metrics = {
            "week": self._agent.steps,
            "clock": self._agent.clock,
            "save_errors": self._save_errors,
            **train,
        }
        if not missing(outcome.reward):
            self.metrics["reward"] = outcome.reward
            self._earned += figures.get("achieved", outcome.reward)
            self._best += figures.get(_BEST, 0.0)
        if self._best:
            self.metrics["profit_share"] = self._earned / self._best
        status = self._network.status()
        counters = status.counters._asdict()
        counters["refused"] = sum(status.counters.refused.values())
        traffic = {name: counters[name] for name in _TRAFFIC}
        before, self._traffic = self._traffic, traffic
        data = {
            **_rounded(self.metrics),
            "action": [
                round(float(x), 4)
                for x in (action if outcome.charged is None else outcome.charged)
            ],
            "figures": _rounded(figures),
            "messages": {name: x - before.get(name, 0) for name, x in traffic.items()},
            "received": dict(self._received),
            "health": status.health,
            "peers": len(status.peers),
            "away": status.away,
        }
        _log("week", data)
        self._received.clear()


def _log(event: str, data: Mapping[str, Any], level: int = logging.INFO) -> None:
    LOG.log(level, event, extra={"data": data})


def _rounded(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Numbers for the log; JSON has no NaN."""
    return {
        name: None if missing(x) else round(float(x), 4) for name, x in values.items()
    }


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of ``work``, or None if ``stop`` is set before it is there."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None
