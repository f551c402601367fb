"""A running peer: its clock, slow markets and failing disks."""

import asyncio
import json
import shutil
import threading

import numpy as np
import pytest

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.market import MarketOutcome, SimulatedMarket
from p2p_sac_jax.agent.service import Service
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from tests.helpers.agents import NAMES, agent_config
from tests.helpers.hub_peers import run

CONFIG = agent_config()


class Weeks:
    """A clock of weeks that the test moves."""

    def __init__(self):
        self.now = 0.5

    def __call__(self):
        return self.now


class Slow:
    """A market whose weeks end when the test sets ``over``."""

    environment, params, observation_dim, action_dim = None, (), 4, 2

    def __init__(self):
        self.asked, self.over = [], asyncio.Event()

    async def reset(self, clock):
        return np.full(4, 0.1 * clock, np.float32)

    async def step(self, action, clock):
        self.asked.append((clock, action.tolist()))
        await self.over.wait()
        return MarketOutcome(np.zeros(4, np.float32), 1.0, False, 0.0, {})


@pytest.fixture(autouse=True)
def no_wait_for_peers(monkeypatch):
    """Three peers in each roster share the programs of other tests; two are absent."""
    monkeypatch.setattr("p2p_sac_jax.agent.service.FIRST_PEER_S", 0.0)


def open_service(folder, market, weeks, peers=NAMES, hub=None):
    network = in_process_network(hub or Hub(peers), NAMES[0])
    agent = P2PSACAgent(
        market.observation_dim,
        market.action_dim,
        CONFIG,
        network=network,
        params=market.params,
        environment=market.environment,
        seed=0,
        peer_id=0,
        folder=folder,
    )
    service = Service(agent, market, network, clock=weeks, week_s=0.02)
    return agent, service


async def until(condition):
    async with asyncio.timeout(60.0):
        while not condition():
            await asyncio.sleep(0.01)


@run
async def test_a_week_runs_when_the_clock_reaches_it_and_none_twice(tmp_path):
    market, weeks, stop = SimulatedMarket(CONFIG, 0), Weeks(), asyncio.Event()
    agent, service = open_service(tmp_path, market, weeks)
    running = asyncio.create_task(service.run(stop))
    await until(lambda: agent.steps == 1)
    await asyncio.sleep(0.1)
    assert (agent.steps, agent.clock) == (1, 1)  # week 1 has not come
    weeks.now = 1.0
    await until(lambda: agent.steps == 2)
    weeks.now = 7.3  # it slept: what was missed is left out
    await until(lambda: agent.steps == 3)
    assert agent.clock == 8
    stop.set()
    await running
    assert service.metrics["clock"] == 8
    assert 0.0 < service.metrics["profit_share"] <= 1.1


@run
async def test_a_stop_does_not_wait_for_a_slow_market(tmp_path):
    market, stop = Slow(), asyncio.Event()
    agent, service = open_service(tmp_path, market, Weeks(), NAMES[:1])
    running = asyncio.create_task(service.run(stop))
    await until(lambda: market.asked)
    stop.set()
    async with asyncio.timeout(20.0):
        await running
    assert agent.steps == 0

    agent, service = open_service(tmp_path, market, Weeks(), NAMES[:1])
    agent.load()
    market.over.set()
    await service.run(asyncio.Event(), weeks=1)
    assert agent.steps == 1
    assert market.asked[0] == market.asked[1]  # the price stood meanwhile


def test_a_stop_does_not_wait_for_a_blocking_market(tmp_path):
    over = threading.Event()

    class Blocking(Slow):
        def step(self, action, clock):
            self.asked.append((clock, action.tolist()))
            over.wait()

    async def work():
        market, stop = Blocking(), asyncio.Event()
        _, service = open_service(tmp_path, market, Weeks(), NAMES[:1])
        running = asyncio.create_task(service.run(stop))
        await until(lambda: market.asked)
        stop.set()
        await running

    loops = threading.Thread(target=asyncio.run, args=(work(),))
    loops.start()
    loops.join(60.0)  # asyncio.run waits for threads of its own
    ended = not loops.is_alive()
    over.set()
    loops.join()
    assert ended


@run
async def test_a_failing_disk_does_not_end_a_peer(tmp_path):
    market, weeks = SimulatedMarket(CONFIG, 0), Weeks()
    agent, service = open_service(tmp_path / "state", market, weeks)
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    (tmp_path / "state").write_text("in the way")
    weeks.now = 0.0
    running = asyncio.create_task(service.run(asyncio.Event(), weeks=2))
    await until(lambda: agent.steps == 1)
    weeks.now = 1.0
    await running
    assert agent.steps == 2
    assert service.metrics["save_errors"] >= 1


@run
async def test_the_log_names_peers_figures_and_messages(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("p2p_sac_jax.agent.service._WATCH_S", 0.01)
    caplog.set_level("INFO", "p2p_sac_jax")
    hub, weeks, stop = Hub(NAMES), Weeks(), asyncio.Event()
    market = SimulatedMarket(CONFIG, 0)
    _, service = open_service(tmp_path, market, weeks, hub=hub)

    def logged(event):
        found = [record for record in caplog.records if record.getMessage() == event]
        return [record.data for record in found]

    running = asyncio.create_task(service.run(stop))
    await until(lambda: len(logged("week")) == 1)
    other = in_process_network(hub, NAMES[1])
    await other.connect()
    await until(lambda: logged("peer up"))
    weeks.now = 1.0
    await until(lambda: len(logged("week")) == 2)
    other.must_agree(interval=99)
    await until(lambda: logged("peer down"))
    stop.set()
    await running
    assert logged("compiling")[0] == {"elapsed_s": 0.0}
    assert logged("ready")[0]["week"] == 0
    assert logged("peer up") == [{"peer": NAMES[1]}]
    why = "its settings differ in interval"
    assert logged("peer down") == [{"peer": NAMES[1], "reason": why}]
    first, second = logged("week")
    assert first["away"] == dict.fromkeys(NAMES[1:], "never connected")
    assert (second["health"], list(second["away"])) == ("degraded", [NAMES[2]])
    assert second["messages"]["sent"] == 2  # both kinds of the first round
    assert {"price", "units", "achieved"} <= set(second["figures"])
    assert json.loads(json.dumps(second)) == second


@run
async def test_a_lost_week_is_skipped_and_what_was_charged_is_learned(tmp_path):
    class Shop(SimulatedMarket):
        def step(self, action, clock):
            if clock == 9:
                raise TimeoutError("till server did not answer")
            charged = np.array([0.5], np.float32)
            return super().step(action, clock)._replace(charged=charged)

    market, weeks = Shop(CONFIG, 0), Weeks()
    weeks.now = 9.5
    agent, service = open_service(tmp_path, market, weeks)
    running = asyncio.create_task(service.run(asyncio.Event(), weeks=1))
    await until(lambda: agent.clock == 10)
    assert agent.steps == 0
    weeks.now = 10.0
    await running
    assert (agent.steps, agent.clock) == (1, 11)
    assert service.metrics["weeks_left_out"] == 1
    assert np.isfinite(service.metrics["profit_share"])
    assert np.asarray(agent._state.peer.replay.rows)[0, 11] == np.float32(0.5)


@pytest.mark.parametrize("restart", [True, False])
@run
async def test_a_clock_that_was_ahead_puts_no_peer_to_sleep(tmp_path, caplog, restart):
    market, weeks, stop = SimulatedMarket(CONFIG, 0), Weeks(), asyncio.Event()
    weeks.now = 6000.5  # 2 minutes of these short weeks
    agent, service = open_service(tmp_path, market, weeks)
    running = asyncio.create_task(service.run(stop))
    await until(lambda: agent.clock == 6001)
    if restart:
        stop.set()
        await running
        agent, service = open_service(tmp_path, market, weeks)
        agent.load()
        stop.clear()
        weeks.now = 7.5
        running = asyncio.create_task(service.run(stop))
    else:
        await until(lambda: service.metrics.get("clock") == 6001)
        await asyncio.sleep(0.1)  # the next week is waited for
    weeks.now = 7.5
    await until(lambda: agent.clock == 8)
    stop.set()
    await running
    (line,) = [r.data for r in caplog.records if r.getMessage() == "clock was ahead"]
    assert (line["week"], line["back_to"]) == (6001, 7)
