"""Synchronisation: when a peer speaks, what its neighbours hold, what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import FaultsConfig, TrainConfig
from p2p_sac_jax.exchange import send_policy as sync
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import DemandSummary, Insight, LocalSummary

K, STEPS_A_ROUND = 3, 4
NO_LIMIT = 2**31 - 1
EVERY_ROUND = make_hyper(TrainConfig()).synchronisation


def message(value, valid=1.0):
    """A peer whose values are 0, 1 and ``value``."""
    ones = jnp.ones(K)
    values = jnp.stack([jnp.zeros(()), jnp.ones(()), jnp.asarray(value, jnp.float32)])
    insight = Insight(
        state_value=values * valid,
        action_value=values,
        entropy=ones,
        confidence=ones,
        timestamp=ones,
        action_mean=ones[:, None],
        action_std=ones[:, None],
        count=5.0 * ones,
        valid=valid * ones,
    )
    demand = DemandSummary(jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros(()))
    return LocalSummary(insight, demand, jnp.zeros(()))


def send_conditions(**changes):
    fields = {name: np.float32(1) for name in sync.SendConditions._fields}
    fields |= {"delayed": np.float32(0), "frozen": np.float32(0)}
    fields |= {"allowed": np.int32(NO_LIMIT)}
    return sync.SendConditions(**fields | changes)


def hyper(**changes):
    fields = {name: np.float32(value) for name, value in changes.items()}
    return EVERY_ROUND._replace(**fields)


def live(values, rules=EVERY_ROUND, limits=None, faults=None, valid=None):
    """A peer with these values in successive rounds: sent flags and what arrives."""
    faults = FaultsConfig() if faults is None else faults
    limits = send_conditions() if limits is None else limits
    valid = [1.0] * len(values) if valid is None else valid
    rounds = len(values)

    def one(outbox, now):
        value, valid, index, term = now
        own = message(value, valid)
        outbox, carried, sending = sync.publish(
            outbox, own, own, term, rules, faults, index, STEPS_A_ROUND * index
        )
        return outbox, (sending, carried.insight.state_value[2])

    per_round = jax.tree.map(
        lambda leaf: (
            jnp.broadcast_to(leaf, (rounds, *jnp.shape(leaf)[1:]))
            if np.ndim(leaf)
            else jnp.full(rounds, leaf)
        ),
        limits,
    )
    start = sync.empty_outbox(message(0.0), K, 2, faults.delay)
    inputs = jnp.asarray(values), jnp.asarray(valid), jnp.arange(rounds), per_round
    outbox, (sent, arrived) = jax.jit(lambda *a: jax.lax.scan(one, *a))(start, inputs)
    return outbox, sent.tolist(), arrived.tolist()


def test_by_default_every_round_is_spoken_at():
    outbox, sent, arrived = live([1.0, 1.0, 2.0, 3.0])
    assert sent == [1, 1, 1, 1]
    assert arrived == [1, 1, 2, 3]
    assert outbox.releases == 4
    assert outbox.sent_at == 3 * STEPS_A_ROUND


def test_a_fixed_timer_is_the_special_case_without_a_trigger():
    """No threshold and a longest interval of three rounds."""
    rules = hyper(max_interval=3 * STEPS_A_ROUND)
    _, sent, arrived = live([1.0, 2, 3, 4, 5, 6, 7], rules)
    assert sent == [0, 0, 0, 1, 0, 0, 1]
    assert arrived == [0, 0, 0, 4, 4, 4, 7]


def test_a_change_triggers_and_its_absence_does_not():
    rules = hyper(threshold=0.5, max_interval=1000)
    _, sent, arrived = live([1.0, 1.0, 1.1, 1.0, 9.0, 9.0], rules)
    assert sent == [1, 0, 0, 0, 1, 0]
    assert arrived == [1, 1, 1, 1, 9, 9]


def test_relative_change_is_in_units_of_the_spread():
    own = message(2.0)  # values 0, 1, 2 with equal counts: std sqrt(2/3)
    held = jnp.asarray([0.0, 1.0, 5.0])
    expected = np.sqrt(3.0**2 / 3) / np.sqrt(2 / 3)
    np.testing.assert_allclose(sync.relative_change(own, held), expected, rtol=1e-6)


def test_tokens_run_out_and_come_back():
    _, sent, _ = live([1.0] * 6, hyper(tokens=2))
    assert sent == [1, 1, 0, 0, 0, 0]
    _, sent, _ = live([1.0] * 7, hyper(tokens=1, refill=0.5))
    assert sent == [1, 0, 1, 0, 1, 0, 1]


def test_the_privacy_budget_is_a_hard_stop():
    outbox, sent, arrived = live(
        [1.0, 2, 3, 4], limits=send_conditions(allowed=np.int32(2))
    )
    assert sent == [1, 1, 0, 0]
    assert arrived == [1, 2, 2, 2]  # what has left is held; nothing new leaves
    assert outbox.releases == 2
    _, sent, arrived = live([1.0, 2], limits=send_conditions(allowed=np.int32(0)))
    assert sent == [0, 0]
    assert arrived == [0, 0]


@pytest.mark.parametrize("who", ["active", "connected"])
def test_who_takes_no_part_sends_nothing(who):
    _, sent, arrived = live([1.0, 2.0], limits=send_conditions(**{who: np.float32(0)}))
    assert sent == [0, 0]
    assert arrived == [0, 0]


def test_who_knows_nothing_says_nothing():
    _, sent, _ = live([1.0, 1.0, 1.0], valid=[0.0, 1.0, 1.0])
    assert sent == [0, 1, 1]


def test_a_frozen_peer_repeats_itself_and_pays_for_it():
    outbox, sent, arrived = live(
        [1.0, 2, 3], limits=send_conditions(frozen=np.float32(1))
    )
    assert sent == [1, 1, 1]
    assert arrived == [1, 1, 1]
    assert outbox.releases == 3


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_delayed_messages_arrive_late_and_others_do_not(rounds):
    values = [float(1 + t) for t in range(8)]
    faults = FaultsConfig(delay=rounds)
    late = live(values, limits=send_conditions(delayed=np.float32(1)), faults=faults)[2]
    assert late == ([0.0] * rounds + values)[:8]
    assert live(values, faults=faults)[2] == values


def test_the_past_is_remembered_for_trends():
    outbox, _, _ = live([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(outbox.past_value[:, 2], [2.0, 3.0])
    np.testing.assert_array_equal(outbox.past_valid, 1.0)


def test_bytes_are_counted_where_they_arrive():
    edge = topology.adjacency("star", 4)
    edge[3, 0] = 0.5  # a faint edge still carries a whole message
    edge[0, 3] = 0.0  # peer 3 listens and does not speak
    count = jax.jit(sync.bytes_received, static_argnums=0)
    sending = np.ones(4, np.float32)
    np.testing.assert_array_equal(count(100, sending, edge), [200, 100, 100, 100])
    sending[2] = 0.0  # neighbours of a silent peer hold an old message: no bytes
    np.testing.assert_array_equal(count(100, sending, edge), [100, 100, 100, 100])
