"""One round of exchange against the full [I, J, K] form, and its limit cases."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import ConfigError, ExchangeConfig, TrainConfig
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.exchange.exchange import (
    MIN_SENDERS,
    POOLINGS,
    ExchangeInputs,
    make_exchange,
)
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import LocalSummary, Received
from tests.helpers import exchange_cases
from tests.helpers.demand import base_with
from tests.reference import exchange as reference

P, K, F = 5, exchange_cases.K, exchange_cases.F
NOW = np.float32(50.0)
ALL_HYPER = make_hyper(
    TrainConfig(exchange=ExchangeConfig(local_weight=0.7, network_weight=0.3))
)
HYPER = ALL_HYPER.exchange._replace(
    recency_tau_s=np.float32(20.0), age_max_s=np.float32(40.0)
)
BASE = base_with(np.arange(F) / 7, np.eye(F))
MODES = ("scalar", "per_cell", "precision", "shaping", "max")
STEPS = np.array([0.0, 10.0, 100.0, 200.0, 400.0], np.float32)


@cache
def compiled(mode, pooling="none"):
    return jax.jit(round_of(mode, pooling))


def round_of(mode, pooling):
    """The guidance of a round of equal trust, every message read in full."""
    exchange = make_exchange(
        BASE, value_sharing=mode, pooling=pooling, entropy_sharing=True
    )

    def guide(sent, own, edge, hyper, now, steps):
        inputs = ExchangeInputs(
            received=read(sent),
            own=own,
            edges=edge,
            trust=jnp.ones(edge.shape),
            own_steps=steps,
            hyper=ALL_HYPER._replace(exchange=hyper),
            clock=jnp.asarray(1000, jnp.int32),
            now=now,
        )
        return exchange(inputs).guidance

    return guide


def read(sent):
    return Received(*sent, trend=jnp.zeros(jnp.shape(sent.insight.valid)))


def cells_of(mode):
    return 1 if mode == "scalar" else K


def random_messages(rng, peers, cells):
    """Some of them stale, some of the future."""
    messages, shape = exchange_cases.messages(rng, peers, cells), (peers, cells)
    return messages._replace(
        insight=messages.insight._replace(
            timestamp=np.float32(rng.uniform(0, 60, shape)),
            count=np.float32(rng.uniform(1, 40, shape)),
        )
    )


def full_messages(peers, cells, seed=0):
    """Messages that every receiver may use in full."""
    messages = random_messages(np.random.default_rng(seed), peers, cells)
    shape = (peers, cells)
    insight = messages.insight._replace(
        timestamp=np.full(shape, NOW),
        confidence=np.full(shape, 0.5, np.float32),
        valid=np.ones(shape, np.float32),
    )
    demand = messages.demand._replace(count=np.full(peers, 5, np.float32))
    return LocalSummary(insight, demand, messages.performance)


def take(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def with_insight(messages, **fields):
    filled = {
        name: np.full_like(getattr(messages.insight, name), value)
        for name, value in fields.items()
    }
    return messages._replace(insight=messages.insight._replace(**filled))


def assert_close(got, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
        got,
        expected,
    )


def assert_no_weight(guidance):
    np.testing.assert_array_equal(guidance.value_weight, 0.0)
    np.testing.assert_array_equal(guidance.std_weight, 0.0)


def assert_base_prior(guidance):
    np.testing.assert_array_equal(guidance.has_prior, 0.0)
    for i in range(guidance.has_prior.shape[0]):
        np.testing.assert_array_equal(guidance.prior.mean[i], BASE.mean)
        np.testing.assert_array_equal(guidance.prior.covariance[i], BASE.covariance)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("mode", MODES)
def test_matches_the_full_tensor(mode, seed):
    rng = np.random.default_rng(seed)
    messages = random_messages(rng, P, cells_of(mode))
    own = take(messages, slice(1, 3))
    edge = rng.choice([0.0, 0.5, 1.0], size=(2, P)).astype(np.float32)
    steps = STEPS[1:3]
    guidance = compiled(mode)(messages, own, edge, HYPER, NOW, steps)
    value, weight = reference.value_channel(
        mode, edge, messages.insight, own.insight, HYPER, NOW, steps
    )
    np.testing.assert_allclose(guidance.value_weight, weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(guidance.value, value, rtol=1e-3, atol=1e-3)
    w = reference.edge_weights(edge, messages.insight, NOW, 20.0, 40.0)
    entropy, mass = reference.aggregate(w, messages.insight.entropy)
    np.testing.assert_allclose(guidance.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(guidance.std_weight, 0.3 * (mass > 0), rtol=1e-6)
    enough = (w > 0).sum(axis=1) >= MIN_SENDERS
    np.testing.assert_allclose(guidance.entropy_weight, 0.3 * enough, rtol=1e-6)


@pytest.mark.parametrize("mode", VALUE_SHARING)
def test_without_senders_is_pure_local(mode):
    """P = 1, empty adjacency and network_weight = 0: the same guidance, bit for bit."""
    messages = full_messages(P, cells_of(mode))
    edge = topology.adjacency("complete", P)
    off = HYPER._replace(network_weight=np.float32(0.0))
    pooling = "prior" if mode == "precision" else "none"
    run = compiled(mode, pooling)
    empty = run(messages, messages, 0.0 * edge, HYPER, NOW, STEPS)
    isolated = run(messages, messages, edge, off, NOW, STEPS)
    one = take(messages, slice(0, 1))
    lone = topology.adjacency("complete", 1)
    alone = compiled(mode)(one, one, lone, HYPER, NOW, STEPS[:1])
    for guidance in (empty, isolated, alone):
        assert_no_weight(guidance)
        assert_base_prior(guidance)
    jax.tree.map(np.testing.assert_array_equal, empty, isolated)
    jax.tree.map(np.testing.assert_array_equal, take(empty, slice(0, 1)), alone)


@pytest.mark.parametrize(
    "fields",
    [{"timestamp": 9.0}, {"timestamp": 51.0}, {"confidence": 0.0}, {"valid": 0.0}],
    ids=["stale", "future", "not confident", "masked"],
)
@pytest.mark.parametrize("mode", MODES)
def test_unusable_neighbours_are_pure_local(mode, fields):
    messages = full_messages(P, cells_of(mode))
    edge = topology.adjacency("complete", P)
    unusable = with_insight(messages, **fields)
    guidance = compiled(mode)(unusable, messages, edge, HYPER, NOW, STEPS)
    np.testing.assert_array_equal(guidance.std_weight, 0.0)
    if mode == "scalar" and fields == {"timestamp": 9.0}:
        np.testing.assert_allclose(guidance.value_weight, 0.3)  # no age limit
    else:
        assert_no_weight(guidance)
    usable = compiled(mode)(messages, messages, edge, HYPER, NOW, STEPS)
    assert float(usable.value_weight.min()) > 0.0
    assert float(usable.std_weight.min()) > 0.0


@pytest.mark.parametrize("mode", ["per_cell", "precision"])
@pytest.mark.parametrize("cells_seen", [0, 1])
def test_receiver_without_a_scale_keeps_its_own_values(mode, cells_seen):
    messages = full_messages(P, K)
    valid = np.zeros((P, K), np.float32)
    valid[:, :cells_seen] = 1.0
    own = messages._replace(insight=messages.insight._replace(valid=valid))
    edge = topology.adjacency("complete", P)
    guidance = compiled(mode)(messages, own, edge, HYPER, NOW, STEPS)
    np.testing.assert_array_equal(guidance.value_weight, 0.0)
    np.testing.assert_allclose(guidance.std_weight, 0.3, rtol=1e-6)


def test_influence_fades_with_age_own_data_and_own_steps():
    messages = full_messages(P, K)
    edge = topology.adjacency("ring", P)

    def weight(sent=messages, own=messages, steps=STEPS):
        return np.asarray(
            compiled("precision")(sent, own, edge, HYPER, NOW, steps).value_weight
        )

    assert (weight(with_insight(messages, timestamp=NOW - 30)) < weight()).all()
    assert (weight(own=with_insight(messages, count=1e4)) < weight()).all()
    assert (weight(steps=STEPS + 50) < weight()).all()
    np.testing.assert_allclose(
        weight(own=with_insight(messages, confidence=0.0), steps=0 * STEPS), 0.3
    )
    np.testing.assert_allclose(
        weight(own=with_insight(messages, confidence=0.0), steps=0 * STEPS + 100), 0.15
    )


def test_agent_is_one_row():
    rng = np.random.default_rng(6)
    messages = random_messages(rng, P, K)
    edge = topology.adjacency("complete", P)
    run, row = compiled("precision", "pooled"), slice(3, 4)
    guidance = run(messages, messages, edge, HYPER, NOW, STEPS)
    agent = run(messages, take(messages, row), edge[row], HYPER, NOW, STEPS[row])
    assert_close(agent, take(guidance, row))


def test_a_broken_message_is_as_good_as_none():
    messages = full_messages(P, K)
    edge = topology.adjacency("complete", P)

    def corrupt(x):
        x = np.array(x)
        x[2] = np.nan
        return x

    run = compiled("precision", "pooled")
    got = run(jax.tree.map(corrupt, messages), messages, edge, HYPER, NOW, STEPS)
    edge[:, 2] = 0.0
    assert_close(got, run(messages, messages, edge, HYPER, NOW, STEPS))


def test_refusals():
    with pytest.raises(
        ConfigError, match=r"exchange\.value_sharing='sum' must be one of"
    ):
        make_exchange(BASE, value_sharing="sum", pooling="none")
    with pytest.raises(ConfigError, match=r"exchange\.aggregator='sum' must be one of"):
        make_exchange(BASE, value_sharing="max", pooling="none", aggregator="sum")
    with pytest.raises(ConfigError, match=r"memory\.pooling='all' must be one of"):
        make_exchange(BASE, value_sharing="per_cell", pooling="all")
    messages = full_messages(P, K)
    edge = topology.adjacency("ring", P)
    with pytest.raises(ValueError, match="K = 1"):
        compiled("scalar")(messages, messages, edge, HYPER, NOW, STEPS)


def test_every_mode_can_be_made():
    for mode in VALUE_SHARING:
        for pooling in POOLINGS:
            make_exchange(BASE, value_sharing=mode, pooling=pooling)
