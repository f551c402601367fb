"""Wrong arguments of an agent get one line."""

import dataclasses

import numpy as np
import pytest

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.price_history import PriceHistory
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.config import ConfigError
from tests.helpers.agents import NAMES, Store, agent_config, make_agent
from tests.helpers.hub_peers import run

PRIVATE = agent_config()


def replaced(section, **values):
    changed = dataclasses.replace(getattr(PRIVATE, section), **values)
    return dataclasses.replace(PRIVATE, **{section: changed})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"state_dim": 0}, ("state_dim=0", "1 or more")),
        ({"action_dim": 2.5}, ("action_dim=2.5", "whole number")),
        ({"start_clock": -1}, ("start_clock=-1", "from 0 to 16777215")),
        ({"sync_interval": float("nan")}, ("sync_interval=nan", "finite")),
        ({"seed": -3}, ("seed=-3", "2147483647")),
        ({"peer_id": 99}, ("peer_id=99", "population.peers=3")),
        ({"network_weight": -1.0}, ("exchange.network_weight=-1.0", "[0, inf)")),
        ({"config": replaced("faults", loss=0.1)}, ("faults.loss=0.1", "0.0")),
        (
            {"config": replaced("exchange", topology="ring")},
            ("exchange.topology='ring'", "'complete'"),
        ),
        ({"network": "public"}, ("exchange.mode='private'", "'public'")),
        (
            {"config": agent_config("consortium"), "network": "consortium"},
            ("folder=None", "noise must not be used twice"),
        ),
        ({"price_history": [1, 2]}, ("price_history", "PriceHistory")),
        (
            {"price_history": PriceHistory(np.zeros((3, 11)), [1, 19.9, 9.0], [1] * 3)},
            ("price_history.prices[1]=19.9", "[0.1, 3]", "2 of 3 weeks are not"),
        ),
        (
            {"price_history": PriceHistory(np.zeros((2, 11)), [1.0], [1.0])},
            ("price_history.observations", "1 x 11 finite"),
        ),
        (
            {"price_history": PriceHistory(np.zeros((1, 11)), [1.0], [1.0, 1.0])},
            ("price_history.units of shape (2,)", "1 weeks"),
        ),
        (
            {"price_history": PriceHistory(np.zeros((1, 11)), [1.0], [1240])},
            ("price_history.units[0]=1240", "[-100, 100], relative to a usual week"),
        ),
    ],
)
def test_wrong_arguments_get_one_line(arguments, words):
    given = {"state_dim": 11, "action_dim": 1, "config": PRIVATE} | arguments
    if "network" in given:
        given["network"] = in_process_network(Hub(NAMES, given["network"]), NAMES[0])
    with pytest.raises(ConfigError) as refused:
        P2PSACAgent(**given)
    message = str(refused.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@run
async def test_wrong_values_get_one_line():
    agent = make_agent(PRIVATE, in_process_network(Hub(NAMES), NAMES[0]))
    obs = Store(PRIVATE, 0).obs
    with pytest.raises(ConfigError, match="after select_action"):
        agent.observe([0.0], 1.0, obs, log_sales=0.0)
    with pytest.raises(ConfigError, match=r"state of shape \(3,\) must be 11"):
        await agent.select_action(obs[:3])
    with pytest.raises(ConfigError, match="batch_size=0"):
        await agent.train(batch_size=0)
    with pytest.raises(ConfigError, match="folder=None"):
        agent.save()
    await agent.select_action(obs)
    good = {"action": [0.0], "reward": 1.0, "next_state": obs, "log_sales": 0.0}
    for wrong, words in (
        ({"action": [7.0]}, "action"),
        ({"reward": "1.2"}, "reward='1.2'"),
        ({"reward": None}, "reward=None"),
        ({"log_sales": None}, "log_sales=None"),
        ({"next_state": obs[:4]}, "next_state"),
    ):
        with pytest.raises(ConfigError, match=words):
            agent.observe(**good | wrong)
    agent.observe(**good)
