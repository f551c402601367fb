"""Send policy: when a peer sends, what its neighbours hold, how many bytes travel."""

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange import send_policy as policy
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


def hyper(**changes):
    fields = {name: np.float32(value) for name, value in changes.items()}
    return EVERY_ROUND._replace(**fields)


def rounds_of(values, rules=EVERY_ROUND, allowed=NO_LIMIT, valid=None):
    """A peer with these values in successive rounds.

    Returns:
      The state after, whether a message was sent, and what neighbours hold, by round.
    """
    valid = [1.0] * len(values) if valid is None else valid

    def one(state, now):
        value, valid, index = now
        own, clock = message(value, valid), STEPS_A_ROUND * index
        sent = policy.is_due(state, own, rules, index, clock)
        sent &= state.releases < allowed
        state = policy.after_round(state, own, own, sent, clock)
        return state, (sent.astype(jnp.int32), state.message.insight.state_value[2])

    start = policy.init_send_state(message(0.0), K, 2)
    inputs = jnp.asarray(values), jnp.asarray(valid), jnp.arange(len(values))
    state, (sent, held) = jax.jit(lambda *a: jax.lax.scan(one, *a))(start, inputs)
    return state, sent.tolist(), held.tolist()


def test_by_default_a_peer_sends_in_every_round():
    state, sent, held = rounds_of([1.0, 1.0, 2.0, 3.0])
    assert sent == [1, 1, 1, 1]
    assert held == [1, 1, 2, 3]
    assert state.releases == 4
    assert state.sent_at == 3 * STEPS_A_ROUND


def test_a_fixed_timer_is_the_special_case_without_a_trigger():
    """No threshold and a longest interval of three rounds."""
    rules = hyper(max_interval=3 * STEPS_A_ROUND)
    _, sent, held = rounds_of([1.0, 2, 3, 4, 5, 6, 7], rules)
    assert sent == [0, 0, 0, 1, 0, 0, 1]
    assert held == [0, 0, 0, 4, 4, 4, 7]


def test_a_change_triggers_and_its_absence_does_not():
    rules = hyper(threshold=0.5, max_interval=1000)
    _, sent, held = rounds_of([1.0, 1.0, 1.1, 1.0, 9.0, 9.0], rules)
    assert sent == [1, 0, 0, 0, 1, 0]
    assert held == [1, 1, 1, 1, 9, 9]


def test_relative_change_is_in_units_of_the_spread():
    own = message(2.0)  # values 0, 1, 2 with equal counts: std sqrt(2/3)
    held = jnp.asarray([0.0, 1.0, 5.0])
    expected = np.sqrt(3.0**2 / 3) / np.sqrt(2 / 3)
    np.testing.assert_allclose(policy.relative_change(own, held), expected, rtol=1e-6)


def test_tokens_run_out_and_come_back():
    _, sent, _ = rounds_of([1.0] * 6, hyper(tokens=2))
    assert sent == [1, 1, 0, 0, 0, 0]
    _, sent, _ = rounds_of([1.0] * 7, hyper(tokens=1, refill=0.5))
    assert sent == [1, 0, 1, 0, 1, 0, 1]


def test_the_privacy_budget_is_a_hard_stop():
    state, sent, held = rounds_of([1.0, 2, 3, 4], allowed=2)
    assert sent == [1, 1, 0, 0]
    assert held == [1, 2, 2, 2]  # neighbours keep the last message
    assert state.releases == 2
    _, sent, held = rounds_of([1.0, 2], allowed=0)
    assert sent == [0, 0]
    assert held == [0, 0]


def test_a_peer_without_data_sends_nothing():
    _, sent, _ = rounds_of([1.0, 1.0, 1.0], valid=[0.0, 1.0, 1.0])
    assert sent == [0, 1, 1]


def test_past_values_are_kept_for_trends():
    state, _, _ = rounds_of([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(state.past_value[:, 2], [2.0, 3.0])
    np.testing.assert_array_equal(state.past_valid, 1.0)


def test_bytes_are_counted_where_they_arrive():
    edge = topology.adjacency("star", 4)
    edge[3, 0] = 0.5  # a small edge still carries a whole message
    edge[0, 3] = 0.0  # peer 3 receives and does not send
    count = jax.jit(policy.bytes_received, static_argnums=0)
    sending = np.ones(4, np.float32)
    np.testing.assert_array_equal(count(100, sending, edge), [200, 100, 100, 100])
    sending[2] = 0.0  # without a new message no bytes travel
    np.testing.assert_array_equal(count(100, sending, edge), [100, 100, 100, 100])
