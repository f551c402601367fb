"""The agent's price memory: what a history teaches, what the network adds."""

import asyncio

import numpy as np
import pytest

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.price_history import PriceHistory
from p2p_sac_jax.agent.price_memory import P2PPriceMemory
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments.observation import observation
from p2p_sac_jax.environments.week_figures import USUAL_WEEKS
from tests.helpers.agents import (
    NAMES,
    Store,
    agent_config,
    make_agent,
    make_history,
    networks,
    run_weeks,
)
from tests.helpers.demand import base_prior
from tests.helpers.hub_peers import run
from tests.helpers.populations import assert_close, assert_identical
from tests.reference.bayes import demand_posterior

pytestmark = pytest.mark.slow
CONFIG = agent_config()
WEEKS = 6
STORE = Store(CONFIG, 0).params


@pytest.fixture(scope="module")
def history():
    return make_history(CONFIG, WEEKS)


def memory_of(history, network=None):
    return P2PPriceMemory(history, network, CONFIG, params=STORE)


def test_the_posterior_is_the_regression_on_the_history(history):
    """The posterior of the weeks' own regression, from prices and units as given."""
    obs, prices, units = history
    features = np.stack(
        [np.ones(WEEKS), 1 - prices, obs[:, 3] / 4, obs[:, 0], obs[:, 1]], axis=1
    )
    prior = base_prior(5)
    expected = demand_posterior(
        features, np.log(units), np.ones(WEEKS), prior.mean, prior.covariance
    )
    belief = memory_of(history)._belief()
    for value, wanted in zip(belief[:3], expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=2e-4, atol=2e-4)


def test_update_week_by_week_equals_the_history(history):
    memory = memory_of(None)
    unknown = memory.get_exploration_bonus(history.observations[0], 1.0)
    for week in zip(*history, strict=True):
        memory.update(*week)
    assert_close(memory._memory, memory_of(history)._memory, 1e-6)
    assert memory.get_exploration_bonus(history.observations[0], 1.0) < unknown <= 1.0


def test_regions_and_spread_name_prices(history):
    memory, week = memory_of(history), history.observations[-1]
    regions = memory.get_promising_regions(week)
    chances = [region.probability for region in regions]
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) <= 1 + 1e-6
    for region in regions:
        assert 1 / 1.5 - 1e-6 <= region.low < region.high <= 1.5 + 1e-6
        assert region.std > 0
    best = np.sqrt(regions[0].low * regions[0].high)
    near = memory.get_optimal_exploration_std(week, best)
    far = memory.get_optimal_exploration_std(week, 1.5 if best < 1 else 1 / 1.5)
    assert 0 <= near < far


def test_a_history_counts_as_steps_without_training(history):
    """Memory, replay and statistics equal those of an agent that ran these weeks."""
    network = in_process_network(Hub(NAMES), NAMES[0])
    with_past = make_agent(CONFIG, network, price_history=history)

    async def results():
        store = Store(CONFIG, 0, seed=1)
        agent = make_agent(CONFIG, in_process_network(Hub(NAMES), NAMES[0]))
        for price in history.prices:
            await agent.select_action(store.obs)
            action = np.log([price]) / np.log(1.5)
            week = store.step(action.astype(np.float32))
            agent.observe(action, week.reward, week.obs, log_sales=week.log_sales)
        return agent

    other = asyncio.run(results())
    names = (
        "steps",
        "memory",
        "normalised_error",
        "performance",
        "last_seen",
        "visits",
    )
    for name in names:
        assert_close(
            getattr(with_past._state.peer, name), getattr(other._state.peer, name), 1e-5
        )
    # The last week has no successor in the record.
    assert int(with_past._state.peer.replay.size) == WEEKS - 1
    mine, theirs = with_past._state.peer.replay, other._state.peer.replay
    assert_close(mine.rows[: WEEKS - 1], theirs.rows[: WEEKS - 1], 1e-5)


def test_a_week_before_a_gap_updates_the_memory_but_not_the_replay(history):
    with_gap = PriceHistory(*(np.delete(array, 2, axis=0) for array in history))
    network = in_process_network(Hub(NAMES), NAMES[0])
    agent = make_agent(CONFIG, network, price_history=with_gap)
    assert agent.steps == WEEKS - 1
    assert int(agent._state.peer.replay.size) == WEEKS - 3


def test_observations_hold_last_weeks_price_and_sales():
    """Weeks made of figures, as a user makes them, follow each other."""
    prices, units = np.array([0.9, 1.2, 1.0]), np.array([1.3, 0.6, 1.1])
    weeks = [
        observation(week, 0.7, last_price=prices[week - 1], last_units=units[week - 1])
        for week in range(3)
    ]
    network = in_process_network(Hub(NAMES), NAMES[0])
    agent = make_agent(
        CONFIG, network, price_history=PriceHistory(np.array(weeks), prices, units)
    )
    assert int(agent._state.peer.replay.size) == 2
    # Reward of the first week: (price - cost) times units, in usual profits.
    unit_cost = float(STORE.unit_cost)
    expected = (0.9 - 0.7) / (1 - unit_cost) * 1.3
    assert float(agent._state.peer.replay.rows[0, 12]) == pytest.approx(
        expected, rel=1e-5
    )


def retail_history(week=9, **change):
    """A year with promotions every sixth week, and one week that is different."""
    figures = {
        "prices": np.where(np.arange(52) % 6 == 5, 0.8, 1.0).tolist(),
        "units": [1.0] * 52,
    }
    for name, value in change.items():
        figures[name][week] = value
    observations = [observation(number, 0.45) for number in range(52)]
    return PriceHistory(observations, figures["prices"], figures["units"])


def test_weeks_as_retail_has_them_are_learned():
    """Half a price, no sales, returns and one absurd week, against bounded ones."""
    counts = [
        float(memory_of(retail_history(**week))._memory.n)
        for week in ({}, {"prices": 0.5}, {"units": 0.0})
    ]
    assert counts == [52.0] * 3
    for found, as_if in ((-0.2, 1 / USUAL_WEEKS), (90, USUAL_WEEKS), (0, 1e-9)):
        assert_identical(
            memory_of(retail_history(units=found))._memory,
            memory_of(retail_history(units=as_if))._memory,
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prices": 0.0}, "prices[9]=0.0 must be a finite number in [0.1, 3]"),
        ({"prices": None}, "a figure is missing"),
        ({"units": float("nan")}, "a figure is missing"),
        ({"units": 1240}, "units[9]=1240 must be"),
    ],
)
def test_weeks_that_cannot_be_used_are_left_out_by_number(change, words, caplog):
    history = retail_history(**change)
    assert float(memory_of(history)._memory.n) == 51.0
    assert "week 9 of the history is left out: " in caplog.text
    assert words in caplog.text
    agent = make_agent(
        CONFIG, in_process_network(Hub(NAMES), NAMES[0]), price_history=history
    )
    assert (agent.steps, agent.clock) == (51, 52)


def test_one_week_at_a_time_has_the_same_rules(caplog):
    memory, obs = memory_of(None), observation(3, 0.45)
    memory.update(obs, 0.5, 0)
    memory.update(obs, 1.0, None)
    assert float(memory._memory.n) == 1.0
    assert "a figure is missing" in caplog.text
    with pytest.raises(ConfigError, match=r"prices\[0\]=19.99 must be .* \[0.1, 3\]"):
        memory.update(obs, 19.99, 1.0)


def test_a_store_of_ones_own_is_known_by_its_weeks(caplog):
    for params in (None, ()):
        memory = P2PPriceMemory(retail_history(), None, CONFIG, params=params)
        assert memory.setup.params.environment.unit_cost == pytest.approx(0.45)
    assert not caplog.text
    unknown = P2PPriceMemory(None, None, CONFIG, params=())
    assert unknown.setup.params.environment.unit_cost == pytest.approx(0.7)
    assert "a usual unit cost of 0.7 is assumed" in caplog.text


def test_no_history_is_fine():
    empty = PriceHistory(np.zeros((0, 11)), [], [])
    for history in (None, empty, PriceHistory([], [], [])):
        assert float(memory_of(history)._memory.n) == 0.0


@run
async def test_the_network_informs_the_prior():
    """The prior from two neighbours' messages equals that of an agent."""
    opened = await networks(Hub(NAMES))
    alone = memory_of(None)
    informed = memory_of(None, opened[0])
    agent = make_agent(CONFIG, opened[0], start_clock=4)
    unweighted = P2PPriceMemory(
        None,
        opened[0],
        agent_config(exchange={"network_weight": 0.0}),
        params=STORE,
    )
    before = alone._belief().mean
    np.testing.assert_array_equal(informed._belief().mean, before)
    for number in (1, 2):
        peer = make_agent(CONFIG, opened[number])
        await run_weeks(peer, Store(CONFIG, number), 4)
    await agent.select_action(Store(CONFIG, 0).obs)
    belief = informed._belief()
    assert_close(belief.mean, agent._state.guidance.prior.mean, 1e-5)
    assert_close(belief.covariance, agent._state.guidance.prior.covariance, 1e-5)
    assert np.abs(belief.mean - before).max() > 0.05
    np.testing.assert_array_equal(unweighted._belief().mean, before)


@run
async def test_an_agents_memory_learns_by_observe_only():
    agent = make_agent(CONFIG, in_process_network(Hub(NAMES), NAMES[0]))
    store = Store(CONFIG, 0)
    unknown = agent.price_memory.get_exploration_bonus(store.obs, 1.0)
    await run_weeks(agent, store, 3)
    assert agent.price_memory.get_exploration_bonus(store.obs, 1.0) < unknown
    with pytest.raises(ConfigError, match="agent's observe"):
        agent.price_memory.update(store.obs, 1.0, 1.0)


def test_a_history_needs_a_demand_model():
    history = PriceHistory(np.zeros((1, 4)), [1.0], [1.0])
    with pytest.raises(ConfigError, match="must be empty: this environment has"):
        P2PSACAgent(4, 1, CONFIG, history)
