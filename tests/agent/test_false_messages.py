"""Extreme values in well-formed messages: they break no agent, and they fade."""

import jax
import numpy as np
import pytest

from p2p_sac_jax.agent.transport.in_process import Hub
from p2p_sac_jax.exchange.demand_prior import PRIOR_REACH
from p2p_sac_jax.peer.model_rollouts import ERROR_TOLERANCE
from tests.helpers.agents import (
    NAMES,
    Store,
    agent_config,
    make_agent,
    networks,
    run_weeks,
)
from tests.helpers.demand import base_prior
from tests.helpers.hub_peers import run

pytestmark = pytest.mark.slow
LARGEST = 1e9
ROUNDS = 4
POSITIVE = ("count", "valid", "known", "confidence", "variance", "action_std")
BASE = base_prior(5)
BASE_STD = np.sqrt(np.diagonal(BASE.covariance))


def extremes(rng, shape):
    """Magnitudes between 1e-9 and the largest number in a message."""
    return rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-9.0, 9.0, shape)


MODES = ["private", pytest.param("consortium", marks=pytest.mark.thorough), "public"]


def extreme_message(rng, latest_messages, seconds):
    """One message of random extremes, by kind and field, that a receiver reads."""
    message = {}
    for slot in latest_messages.layout:
        values = extremes(rng, slot.shape)
        if slot.field in ("timestamp", "time"):
            values = np.full(slot.shape, seconds)
        elif slot.field in POSITIVE:
            values = np.abs(values)
        elif slot.field == "precision":
            size = slot.shape[0]
            factor = rng.normal(size=(size, size)) * 10.0 ** rng.uniform(-4, 4)
            values = factor @ factor.T
        bounded = np.clip(values, -LARGEST, LARGEST)
        message.setdefault(slot.kind, {})[slot.field] = bounded
    return message


def assert_finite(agent_state):
    for path, leaf in jax.tree_util.tree_leaves_with_path(agent_state):
        found = np.isfinite(np.asarray(leaf, np.float64)).all()
        assert found, jax.tree_util.keystr(path)
    reach = PRIOR_REACH * BASE_STD * (1 + 1e-6)
    assert (np.abs(agent_state.guidance.prior.mean - BASE.mean) <= reach).all()


@pytest.mark.parametrize("mode", MODES)
@run
async def test_extreme_values_break_nothing_and_fade(mode, tmp_path):
    few = {"privacy": {"min_peers": 2}} if mode == "public" else {}
    config, rng = agent_config(mode, **few), np.random.default_rng(0)
    opened = await networks(Hub(NAMES, mode))
    agent = make_agent(config, opened[0], folder=tmp_path / NAMES[0])
    store, latest_messages = Store(config, 0), agent.price_memory.latest_messages
    far = False
    for _ in range(ROUNDS):
        for byzantine_peer in opened[1:]:
            seconds = agent.clock * config.environment.seconds_per_step
            for kind, fields in extreme_message(rng, latest_messages, seconds).items():
                assert await byzantine_peer.broadcast(kind, fields)
        await run_weeks(agent, store, config.exchange.interval)
        assert_finite(agent._state)
        away = np.abs(agent._state.guidance.prior.mean - BASE.mean) / BASE_STD
        far |= bool(away.max() > 0.9 * PRIOR_REACH)
    assert opened[0].status().counters.refused == {}
    assert far or mode != "private"  # there the values reach the bound
    # The peers turn honest: their next messages replace the last.
    for number in (1, 2):
        honest = make_agent(config, opened[number], folder=tmp_path / NAMES[number])
        honest.set_clock(agent.clock)
        await run_weeks(honest, Store(config, number), 2)
    await run_weeks(agent, store, 4)
    assert_finite(agent._state)
    for mean in (agent._state.guidance.prior.mean, agent._state.belief.mean):
        assert (np.abs(mean - BASE.mean) < 2.0 * BASE_STD).all()
    assert float(agent._state.peer.normalised_error) < ERROR_TOLERANCE
    assert agent.connection.errors == 0
