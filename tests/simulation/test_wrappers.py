"""Wrappers around an exchange, and the channel on the sending side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.exchange.send_policy import init_send_state
from p2p_sac_jax.simulation.faults import FaultPlan
from p2p_sac_jax.simulation.network import (
    Participation,
    joined,
    make_simulated_network,
)
from p2p_sac_jax.simulation.wrappers import chain
from tests.helpers.exchange_cases import BASE, settings
from tests.helpers.rounds import ROUNDS, ExchangeInputs, mode_of

VALUES = np.float32([1.0, 2.0, 3.0, 4.0])


def scaled(factor, shift):
    """Edges times ``factor`` plus ``shift``."""

    def wrap(exchange):
        return lambda inputs: exchange(
            inputs._replace(edges=factor * inputs.edges + shift)
        )

    return wrap


def edges_of(inputs):
    return inputs.edges


def inputs():
    return ExchangeInputs(*ROUNDS["round: precision"].make(5, 0))


def test_a_chain_applies_its_wrappers_in_order():
    given = inputs()
    found = chain(scaled(2.0, 0.0), scaled(1.0, 5.0))(edges_of)(given)
    np.testing.assert_array_equal(found, 2.0 * given.edges + 5.0)
    assert chain()(edges_of) is edges_of


def test_edges_are_between_peers_that_have_joined():
    given = inputs()._replace(clock=np.int32(12))
    joins = np.int32([0, 12, 13, 0, 99])
    here = joins <= 12
    found = joined(joins, joins)(edges_of)(given)
    np.testing.assert_array_equal(found, given.edges * np.outer(here, here))


def network(attack="none", **faults):
    config = settings(attack={"kind": attack, "byzantine": 1}, faults=faults)
    return make_simulated_network(config, BASE, mode_of(config))


def participation(byzantine=0.0, delayed=0.0, leaves=99, joins=0):
    plan = FaultPlan(ids=0, delayed=delayed, leaves=leaves, rejoins=99, side=0)
    return jax.tree.map(jnp.asarray, Participation(joins, byzantine, plan))


def arrivals(simulated, who):
    """What neighbours read of a peer that sends ``VALUES`` in successive rounds."""

    def one_round(carry, now):
        state, channel = carry
        value, number = now
        state = state._replace(message=value, releases=number)
        channel, message = simulated.transmit(channel, state, jnp.ones(()), who)
        return (state, channel), message

    state = init_send_state(jnp.zeros(()), 1, 1)
    start = state, simulated.init_channel(jnp.zeros(()))
    numbers = jnp.arange(1, len(VALUES) + 1)
    return jax.lax.scan(one_round, start, (VALUES, numbers))[1].tolist()


def test_a_replayed_message_is_the_first_one():
    simulated = network("replay")
    assert arrivals(simulated, participation(byzantine=1.0)) == [1, 1, 1, 1]
    assert arrivals(simulated, participation()) == VALUES.tolist()


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_delayed_messages_arrive_late_and_others_do_not(rounds):
    simulated = network(delay=rounds)
    late = arrivals(simulated, participation(delayed=1.0))
    assert late == ([0.0] * rounds + VALUES.tolist())[:4]
    assert arrivals(simulated, participation()) == VALUES.tolist()


def test_a_peer_that_is_away_may_send_nothing():
    simulated = network(churn=0.4, leave_step=4)
    clock, most = jnp.int32(8), jnp.int32(7)
    assert simulated.allowed(participation(), most, clock) == 7
    assert simulated.allowed(participation(joins=9), most, clock) == 0
    assert simulated.allowed(participation(leaves=4), most, clock) == 0
