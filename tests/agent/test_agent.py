"""The deployed agent: equal to the simulation, and undisturbed by its peers."""

import asyncio

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.loopback import free_ports
from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.ops.authority import write_network
from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
from p2p_sac_jax.experiment.build import build_experiment
from tests.helpers.agents import (
    NAMES,
    PEERS,
    Store,
    agent_config,
    make_agent,
    make_history,
    networks,
    run_weeks,
    volatile_world,
)
from tests.helpers.hub_peers import run
from tests.helpers.populations import (
    assert_close,
    assert_identical,
    peer_of,
    placement,
    plain,
)

pytestmark = pytest.mark.slow
WEEKS = 8  # 32 updates
MODES = ["private", pytest.param("consortium", marks=pytest.mark.thorough)]
PRIVATE = agent_config()


async def population_of_agents(mode, folder):
    """All peers over a hub, week by week, in the order of the simulation."""
    config, hub = agent_config(mode), Hub(NAMES, mode)
    opened = await networks(hub)
    stores = [Store(config, number) for number in range(PEERS)]
    agents = [
        make_agent(config, network, folder=folder / network.name) for network in opened
    ]
    for _ in range(WEEKS):
        for agent, store in zip(agents, stores, strict=True):
            action = await agent.select_action(store.obs)
            week = store.step(action)
            agent.observe(action, week.reward, week.obs, log_sales=week.log_sales)
        for agent in agents:
            await agent.train()
    for network in opened:
        await network.disconnect()
    return agents


def simulated(mode):
    """The same population in one program: state [P, ...] and metrics of all rounds."""
    config = agent_config(mode)
    setup = build_experiment(config, placement(config, "vmap"), volatile_world(config))
    inputs = setup.peer_inputs, setup.run_inputs
    # These programs run under strict settings elsewhere; here they cost half the time.
    with jax.debug_key_reuse(False), jax.debug_nans(False):
        state = jax.jit(setup.population.init)(*inputs)
        run_chunk, metrics = jax.jit(setup.population.run_chunk), []
        for clock in range(0, WEEKS, config.evaluate_every):
            state, reported = run_chunk(state, *inputs, jnp.int32(clock))
            metrics.append(reported)
        return peer_of(plain(state), (slice(None), 0)), plain(metrics)


@pytest.mark.parametrize("mode", MODES)
def test_agents_equal_the_simulated_population(mode, tmp_path):
    agents = asyncio.run(population_of_agents(mode, tmp_path))
    state, metrics = simulated(mode)
    for number, agent in enumerate(agents):
        there, here = peer_of(state, number), plain(agent._state.peer)
        assert int(here.learner.updates) == 4 * WEEKS
        # The market is outside, and the last message of an agent is one round ahead.
        apart = {
            "environment": (),
            "obs": (),
            "belief": (),
            "send_state": (),
            "channel": (),
        }
        assert_close(here._replace(**apart), there._replace(**apart), 1e-5)
        assert_close(agent._state.belief, there.belief, 1e-5)
        counters = agent.network.status().counters
        assert agent.connection.errors == 0
        assert counters.refused == {}
        # Two kinds of message from two peers at every end of a round.
        assert (
            counters.delivered == 2 * (PEERS - 1) * WEEKS // PRIVATE.exchange.interval
        )
    # What was sent did matter.
    last = metrics[-1]
    assert np.max(last.peer.value_weight) > 0.02
    assert np.max(last.peer.std_weight) > 0.05
    assert np.min(last.exchange.has_prior) == 1.0
    assert np.ptp(state.trust) > 1e-3


def over_zenoh(folder, name, place, connect=()):
    """A peer's network over real sockets."""
    own_folder = folder / name
    transport = ZenohTransport(own_folder, listen=[place], connect=connect)
    return PeerNetwork(transport, load_identity(own_folder), load_roster(own_folder))


@pytest.mark.parametrize("transport", ["in process", "zenoh"])
@run
async def test_usage_example(transport, tmp_path):
    state_dim, action_dim, config = 11, 1, PRIVATE
    price_history = make_history(PRIVATE, weeks=6)
    if transport == "zenoh":
        write_network(tmp_path, "shops", "private", NAMES)
        here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
        network = over_zenoh(tmp_path, NAMES[0], here)
        other = over_zenoh(tmp_path, NAMES[1], there, connect=[here])
    else:
        hub = Hub(NAMES)
        network, other = (in_process_network(hub, name) for name in NAMES[:2])
    received = []
    other.register_message_handler("model_insight", received.append)
    await network.connect()
    await other.connect()
    while not network.status().peers:
        await asyncio.sleep(0.05)
    state = price_history.observations[-1]

    # Initialize P2P SAC agent
    agent = P2PSACAgent(
        state_dim=state_dim,
        action_dim=action_dim,
        config=config,
        price_history=price_history,
        network=network,
        local_weight=0.7,
        network_weight=0.3,
    )

    # Select action with network insights
    action = await agent.select_action(state)

    # Train with collaborative learning
    train_info = await agent.train(batch_size=32)

    assert action.shape == (action_dim,)
    assert np.abs(action).max() < 1.0
    assert train_info["updates"] == 4  # on weeks of the history
    assert all(np.isfinite(value) for value in train_info.values())
    assert all(type(value) is float for value in train_info.values())
    assert agent.clock == agent.steps == 6
    while not received:  # round 3 begins at week 6
        await asyncio.sleep(0.05)
    assert received[0].sender == NAMES[0]
    await network.disconnect()
    await other.disconnect()


@run
async def test_an_own_environment_without_network():
    """No network, no demand: sizes are enough, and every batch size works."""
    agent = P2PSACAgent(4, 2, PRIVATE, seed=1)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=4)
    for _ in range(3):
        action = await agent.select_action(obs)
        assert action.shape == (2,)
        obs = rng.normal(size=4)
        agent.observe(action, float(-np.square(action).sum()), obs, terminated=True)
        report = await agent.train(batch_size=5)
        assert report["shared"] == report["value_weight"] == 0.0
    assert report["updates"] == 4 * 3
    assert agent._state.peer.replay.rows[:3, 7].tolist() == [0.0] * 3  # discounts
    assert agent.price_memory.get_promising_regions(obs) == []
    assert agent.price_memory.get_exploration_bonus(obs, 1.0) == 0.0
    assert await agent.sync() == 0


class Broken(Exception):
    """Nothing that a network is expected to raise."""


def test_a_failing_network_changes_nothing_and_raises_nothing(monkeypatch):
    """Failures are counted; the agent continues as one without receivers."""

    async def weeks(breaks):
        network, store = in_process_network(Hub(NAMES), NAMES[0]), Store(PRIVATE, 0)
        if breaks:

            async def broken(*_):
                raise Broken

            monkeypatch.setattr(network, "sync", broken)
            monkeypatch.setattr(network, "broadcast", broken)
        agent = make_agent(PRIVATE, network)
        await run_weeks(agent, store, 4)
        return agent

    quiet, disturbed = asyncio.run(weeks(False)), asyncio.run(weeks(True))
    assert_identical(quiet._state, disturbed._state)
    assert quiet.connection.errors == 0
    assert disturbed.connection.errors == 1 + 2 * 2  # a first sync, two rounds of two
    # No peer was reachable: the messages are kept for later peers.
    assert quiet.network.status().counters.kept == 4


@run
async def test_evaluation_changes_nothing_and_an_action_is_repeated_until_observed():
    agent = make_agent(PRIVATE, in_process_network(Hub(NAMES), NAMES[0]))
    store = Store(PRIVATE, 0)
    await run_weeks(agent, store, 1)
    before = plain(agent._state), agent._progress
    greedy = await agent.select_action(store.obs, evaluate=True)
    assert_identical(before, (plain(agent._state), agent._progress))
    action = await agent.select_action(store.obs)
    np.testing.assert_array_equal(action, await agent.select_action(store.obs))
    assert (greedy != action).all()


@run
async def test_programs_are_compiled_once():
    agent = make_agent(PRIVATE, in_process_network(Hub(NAMES), NAMES[0]))
    store, core = Store(PRIVATE, 0), agent._core
    programs = (
        core.select_action,
        core.observe,
        core.train_step(32),
        core.make_message,
        core.exchange,
    )

    def sizes():
        return [program._cache_size() for program in programs]

    await run_weeks(agent, store, 3)
    before = sizes()
    await run_weeks(agent, store, 4)
    assert sizes() == before
    assert min(before) > 0


@run
async def test_repeated_training_in_a_step_draws_anew():
    agent = make_agent(PRIVATE, (await networks(Hub(NAMES)))[0])
    store = Store(PRIVATE, 0)
    first = (await run_weeks(agent, store, 2))[-1][1]
    second = await agent.train()
    assert second["updates"] == first["updates"] + 4
    assert first["shared"] == 1.0
    assert second["shared"] == 0.0  # one message a round


@run
async def test_messages_of_another_shape_are_refused_and_counted():
    """Arrays of another size, over the real network; nothing of them is kept."""
    hub = Hub(NAMES)
    opened = await networks(hub)
    agent = make_agent(PRIVATE, opened[0])
    before = agent.price_memory.latest_messages.messages()
    fields = agent.price_memory.latest_messages.split(
        agent._state.peer.send_state.message
    )
    odd = fields["model_insight"] | {"entropy": np.zeros(3)}
    await opened[1].broadcast("model_insight", odd)
    await opened[2].broadcast(
        "market_insight", fields["market_insight"] | {"shift": np.zeros(4)}
    )
    assert opened[0].status().counters.refused == {"shape": 2}
    assert opened[0].status().counters.handler_errors == 0
    assert_identical(before, agent.price_memory.latest_messages.messages())
    await agent.select_action(Store(PRIVATE, 0).obs)


@run
async def test_a_future_time_is_clipped_and_older_messages_are_ignored():
    opened = await networks(Hub(NAMES))
    agent, store = make_agent(PRIVATE, opened[0]), Store(PRIVATE, 0)
    await run_weeks(agent, store, 1)
    latest_messages, second = agent.price_memory.latest_messages, 604_800.0
    fields = latest_messages.split(agent._state.peer.send_state.message)[
        "model_insight"
    ]
    cells = fields["timestamp"].size

    async def send(weeks):
        times = np.full(cells, weeks * second)
        await opened[1].broadcast("model_insight", fields | {"timestamp": times})
        return latest_messages.messages().insight.timestamp[1] / second

    np.testing.assert_array_equal(await send(1), np.full(cells, 1.0))
    # The clock stands at 1; nothing is read before the round that begins at 2.
    np.testing.assert_array_equal(await send(50), np.full(cells, 2.0))
    old = latest_messages.content["stamps"][1, 0]
    assert old.tolist() == [opened[1]._epoch, 2]
    late = fields | {"timestamp": np.zeros(cells)}
    assert (
        latest_messages.take(Delivery(NAMES[1], "model_insight", late, 0, *old)) is None
    )
    assert latest_messages.messages().insight.timestamp[1].min() > 0


@run
async def test_a_late_agent_pretrains_on_the_first_demand_prior():
    hub = Hub(NAMES)
    late = in_process_network(hub, NAMES[0])
    for number in (1, 2):
        network = in_process_network(hub, NAMES[number])
        await network.connect()
        await run_weeks(make_agent(PRIVATE, network), Store(PRIVATE, number), 2)
    agent, store = make_agent(PRIVATE, late, start_clock=2), Store(PRIVATE, 0)
    await late.connect()
    for _ in range(2):  # the second time there is nothing new to train on
        await agent.select_action(store.obs)
        updates = int(agent._state.peer.learner.updates)
        assert updates == PRIVATE.memory.pretrain_updates
    assert late.status().counters.pulled == 4
    assert float(agent._state.guidance.has_prior) == 1.0
