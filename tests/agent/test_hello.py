"""Peers that disagree on what must agree find out when they connect."""

import pytest

from p2p_sac_jax.agent.protocol.hello import MAX_HELLO, differences, make_hello
from p2p_sac_jax.agent.settings import (
    make_agent_setup,
    named_environment,
    shared_settings,
)
from p2p_sac_jax.agent.transport.in_process import in_process_network
from p2p_sac_jax.config_io import replace_fields
from tests.helpers.agents import agent_config
from tests.helpers.hub_peers import FIELDS, KIND, Recorder, hub_of, peer, run

SETTINGS = {"interval": 4, "environment": ("pricing", 604_800.0), "week": (1.0, 7.5)}


def test_a_hello_names_the_fields_that_differ():
    own = make_hello(SETTINGS)
    assert own == make_hello(dict(reversed(SETTINGS.items())))
    assert differences(own, own) == []
    for name, value in (("interval", 2), ("week", (1.0, 7.0))):
        other = make_hello(SETTINGS | {name: value})
        assert differences(own, other) == differences(other, own) == [name]
    assert differences(own, make_hello({"week": 3, "colour": "red"})) == ["week"]
    assert differences(own, "2" + own[1:]) == ["protocol"]
    assert differences(own, "") == differences("", own) == []
    for nonsense in ("-", "1-.-..-interval", "x" * MAX_HELLO):
        assert isinstance(differences(own, nonsense), list)


@pytest.mark.parametrize("mode", ["private", "consortium"])
def test_settings_that_matter_to_receivers_are_in_the_hello(mode):
    def hello_of(**changes):
        config = replace_fields(agent_config(mode), changes)
        environment = named_environment(config.environment)
        setup = make_agent_setup(config, environment, None, peer_id=0)
        return make_hello(shared_settings(setup))

    own = hello_of()
    assert len(own) < MAX_HELLO
    changed = {
        "exchange.interval": (4, ["interval"]),
        "environment.seconds_per_step": (60.0, ["environment"]),
        "environment.reference_effect": (2.0, ["features"]),
        "privacy.clip": (9.0, [] if mode == "private" else ["privacy"]),
        "privacy.demand_noise": (9.0, []),  # the sender's own matter
        "sac.hidden": (16, []),
    }
    for field, (value, expected) in changed.items():
        assert differences(own, hello_of(**{field: value})) == expected, field


@run
async def test_a_peer_of_other_settings_is_refused_on_both_sides_by_reason(caplog):
    hub, received = hub_of(3), Recorder()
    networks = [in_process_network(hub, name) for name in hub.roster.keys]
    for network, interval in zip(networks, (4, 2, 4), strict=True):
        network.must_agree(interval=interval, environment="pricing")
        network.register_message_handler(KIND, received)
        await network.connect()
    why = "its settings differ in interval"
    assert networks[0].status().away == {"peer1": why}
    assert networks[1].status().away == {"peer0": why, "peer2": why}
    assert networks[0].status().peers == ("peer2",)
    assert networks[0].status().health == "degraded"
    await networks[1].broadcast(KIND, FIELDS)
    assert received.received == []
    assert networks[0].status().counters.refused_from == {
        "peer1": {"wrong_settings": 1}
    }
    line = {"reason": "wrong_settings", "detail": "interval", "count": 1}
    assert {"peer": "peer1", **line} in [record.data for record in caplog.records]
    assert await networks[0].sync() == 0
    assert await networks[1].sync() == 0  # nobody of the same settings
    await networks[0].broadcast(KIND, FIELDS)
    assert [delivery.sender for delivery in received.received] == ["peer0"]


@run
async def test_a_peer_that_is_away_is_named_with_the_reason():
    hub = hub_of(3)
    network, other = await peer(hub, "peer0"), await peer(hub, "peer1")
    assert network.status().away == {"peer2": "never connected"}
    await other.disconnect()
    assert network.status().away == {
        "peer1": "connection lost",
        "peer2": "never connected",
    }
