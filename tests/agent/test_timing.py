"""When an agent syncs, sends and pretrains, with calls side by side."""

import asyncio

import pytest

import p2p_sac_jax.agent as package
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from tests.helpers.agents import (
    NAMES,
    Store,
    agent_config,
    make_agent,
    networks,
    run_weeks,
)
from tests.helpers.hub_peers import run

pytestmark = pytest.mark.slow
PRIVATE = agent_config()


def syncs_of(network, monkeypatch):
    """A list that grows by one with every sync of a network."""
    done, sync = [], network.sync

    async def counted():
        done.append(network.status().counters.pulled)
        return await sync()

    monkeypatch.setattr(network, "sync", counted)
    return done


@run
async def test_missing_messages_are_requested_when_due(monkeypatch):
    for interval, expected in ((0.0, range(2, 7)), (3600.0, [1])):
        network = in_process_network(Hub(NAMES), NAMES[0])
        syncs = syncs_of(network, monkeypatch)
        agent = make_agent(PRIVATE, network, sync_interval=interval)
        # Due in two exchanges and four calls of train, unless one still runs.
        await run_weeks(agent, Store(PRIVATE, 0), 4)
        assert len(syncs) in expected


@run
async def test_weeks_do_not_wait_for_a_sync(monkeypatch):
    monkeypatch.setattr("p2p_sac_jax.agent.connection.FIRST_SYNC_S", 0.0)
    network, begun = in_process_network(Hub(NAMES), NAMES[0]), []

    async def endless():
        begun.append(True)
        await asyncio.Event().wait()

    monkeypatch.setattr(network, "sync", endless)
    agent = make_agent(PRIVATE, network, sync_interval=0.0)
    await run_weeks(agent, Store(PRIVATE, 0), 4)
    assert (agent.steps, begun) == (4, [True])  # no second one beside it


@run
async def test_a_resumed_agent_syncs_before_it_exchanges(monkeypatch, tmp_path):
    hub = Hub(NAMES)
    agent, store = make_agent(PRIVATE, (await networks(hub))[0]), Store(PRIVATE, 0)
    await run_weeks(agent, store, 4)
    agent.save(tmp_path)
    network = in_process_network(hub, NAMES[0])
    await network.connect()
    syncs = syncs_of(network, monkeypatch)
    resumed = make_agent(PRIVATE, network, sync_interval=3600.0)
    await resumed.sync()
    resumed.load(tmp_path)
    await resumed.select_action(store.obs)
    assert len(syncs) == 2


@run
async def test_shared_is_whether_a_message_left():
    opened = await networks(Hub(NAMES))
    apart = in_process_network(Hub(NAMES), NAMES[0])
    for network, left in ((opened[0], 1.0), (apart, 0.0)):
        results = await run_weeks(make_agent(PRIVATE, network), Store(PRIVATE, 0), 2)
        assert [report["shared"] for _, report in results] == [0.0, left]
        counters = network.status().counters
        assert (counters.sent, counters.kept) == (2 * left, 2 * (1 - left))


@run
async def test_training_beside_the_next_weeks_sends_in_its_round():
    """Two calls wait in a row while the clock goes on; the last is of round 1."""
    agent = make_agent(PRIVATE, (await networks(Hub(NAMES)))[0])
    store, trained = Store(PRIVATE, 0), []
    for _ in range(3):
        action = await agent.select_action(store.obs)
        week = store.step(action)
        agent.observe(action, week.reward, week.obs, log_sales=week.log_sales)
        trained.append(asyncio.create_task(agent.train()))
        await asyncio.sleep(0)
    reports = await asyncio.gather(*trained)
    assert [report["shared"] for report in reports] == [0.0, 1.0, 0.0]
    assert [report["updates"] for report in reports] == [4.0, 8.0, 12.0]
    assert (agent.clock, int(agent._progress.shared)) == (3, 1)


async def send_demand(hub):
    """Two peers that have sent their demand by week 2."""
    for number in (1, 2):
        network = in_process_network(hub, NAMES[number])
        await network.connect()
        await run_weeks(make_agent(PRIVATE, network), Store(PRIVATE, number), 2)


@run
async def test_training_beside_pretraining_loses_neither():
    hub = Hub(NAMES)
    await send_demand(hub)
    network, store = in_process_network(hub, NAMES[0]), Store(PRIVATE, 0)
    agent = make_agent(PRIVATE, network, start_clock=4)
    await run_weeks(agent, store)
    await network.connect()
    await run_weeks(agent, store)  # a round begins, and the pull comes after it
    await agent.sync()
    week = agent.select_action(store.obs)
    before = int(agent._state.peer.learner.updates)
    await asyncio.gather(week, agent.train(), agent.train())
    gained = int(agent._state.peer.learner.updates) - before
    assert gained == 2 * 4 + PRIVATE.memory.pretrain_updates


@pytest.mark.parametrize(("weeks", "pretrains"), [(0, True), (2, True), (4, False)])
@run
async def test_a_young_agent_pretrains_once_on_the_first_demand_prior(weeks, pretrains):
    """No peer is reachable at first; the network is older than the agent."""
    hub = Hub(NAMES)
    await send_demand(hub)
    network, store = in_process_network(hub, NAMES[0]), Store(PRIVATE, 0)
    agent = make_agent(PRIVATE, network, start_clock=2)
    await run_weeks(agent, store, weeks)
    assert not agent.informed
    await network.connect()
    await agent.sync()
    for expected in (pretrains, False):  # once
        before = int(agent._state.peer.learner.updates)
        await agent.select_action(store.obs)
        gained = int(agent._state.peer.learner.updates) - before
        assert gained == expected * PRIVATE.memory.pretrain_updates
        agent.set_clock(agent.clock + 2)
    assert agent.informed


def test_the_package_exports_its_names():
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'gossip'"):
        _ = package.gossip
