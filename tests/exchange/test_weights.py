"""Weights: recency, confidence, edge factors, the share of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange import weights
from p2p_sac_jax.hyper import make_hyper
from tests.helpers.messages import honest

HYPER = make_hyper(TrainConfig()).exchange
SWITCHES = make_hyper(TrainConfig()).weights
RECEIVERS, J = 4, 6
DAY = 86_400.0
WEIGHTS = st.just(0.0) | st.floats(1e-6, 10.0)
sender_weight = jax.jit(weights.sender_weight)
edge_factor = jax.jit(weights.edge_factor)
cap_shares = jax.jit(weights.cap_shares)


def test_temporal_decays_and_ends():
    ages = np.array([0.0, DAY, 10 * DAY, 11 * DAY, -1.0], np.float32)
    got = weights.temporal(20 * DAY, 20 * DAY - ages, DAY, 10 * DAY)
    np.testing.assert_allclose(got, [1, np.exp(-1), np.exp(-10), 0, 0], rtol=1e-5)
    assert float(got[3]) == float(got[4]) == 0.0


@pytest.mark.parametrize("recency", [0.0, 1.0])
@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_sender_weight_and_its_switches(recency, confidence):
    """Validity and the hard limits of age hold whatever is switched off."""
    hyper = HYPER._replace(
        recency_tau_s=np.float32(DAY), age_max_s=np.float32(10 * DAY)
    )
    ages = DAY * np.array([[0.0, 2.0, 10.0, 10.5, -1.0, np.nan, 1.0]], np.float32)
    insight = honest(1, 7)._replace(timestamp=20 * DAY - ages)
    insight.valid[0, 6] = 0.0
    switches = SWITCHES._replace(
        recency=np.float32(recency), confidence=np.float32(confidence)
    )
    got = sender_weight(insight, jnp.float32(20 * DAY), hyper, switches)
    faded = np.exp(-ages[0, :3] / DAY)
    expected = np.where(recency, faded, 1.0) * (0.5 if confidence else 1.0)
    np.testing.assert_allclose(got[0, :3], expected, rtol=1e-4)
    np.testing.assert_array_equal(got[0, 3:], 0.0)


def mixing_weights(rng, senders=J):
    edge = rng.choice([0.0, 0.5, 1.0], size=(RECEIVERS, senders)).astype(np.float32)
    return edge * rng.uniform(0.1, 1.0, edge.shape).astype(np.float32)


def test_equal_trust_changes_no_bit():
    rng = np.random.default_rng(0)
    edge, nobody = mixing_weights(rng), np.zeros(RECEIVERS, np.float32)
    for level in (1 / J, 1 / 3, 0.7):
        trust = np.full((RECEIVERS, J), level, np.float32)
        got = edge_factor(edge, trust, nobody, np.zeros(J, np.float32), SWITCHES)
        np.testing.assert_array_equal(got, edge)


def test_edge_factor_is_edge_times_relative_trust():
    rng = np.random.default_rng(1)
    edge, trust = (
        mixing_weights(rng),
        rng.uniform(0.0, 1.0, (RECEIVERS, J)).astype(np.float32),
    )
    level = np.zeros(RECEIVERS, np.float32)
    got = edge_factor(edge, trust, level, np.zeros(J, np.float32), SWITCHES)
    expected = edge * trust / trust.max(axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_performance_filter():
    """One-way from better to worse, within the margin, and only if switched on."""
    edge, trust = np.ones((2, 4), np.float32), np.ones((2, 4), np.float32)
    own = np.array([0.5, 0.0], np.float32)
    stated = np.array([0.6, 0.41, 0.39, np.nan], np.float32)
    on = SWITCHES._replace(performance_filter=np.float32(1.0))
    got = edge_factor(edge, trust, own, stated, on)
    np.testing.assert_array_equal(got, [[1, 1, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_array_equal(edge_factor(edge, trust, own, stated, SWITCHES), 1.0)


def filled(row, share):
    """The same level by bisection, in float64; equal weights where none exists."""
    row = np.asarray(row, np.float64)
    positive = row[row > 0]
    if positive.size == 0 or positive.max() <= share * positive.sum():
        return row
    low, high = 0.0, positive.max()
    for _ in range(200):
        level = (low + high) / 2
        enough = level <= share * np.minimum(positive, level).sum()
        low, high = (level, high) if enough else (low, level)
    return np.minimum(row, max(low, positive.min()))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.999))
def test_shares_are_capped_by_filling(seed, share):
    rng = np.random.default_rng(seed)
    edge = mixing_weights(rng) * rng.choice([1.0, 100.0], size=(RECEIVERS, J)).astype(
        np.float32
    )
    edge[0] = 0.0
    got = np.asarray(cap_shares(edge, np.float32(share)))
    for i in range(RECEIVERS):
        np.testing.assert_allclose(got[i], filled(edge[i], share), rtol=2e-4)
        positive = edge[i] > 0
        np.testing.assert_array_equal(got[i] > 0, positive)
        allowed = max(share, 1 / max(positive.sum(), 1))
        assert got[i].max() <= allowed * got[i].sum() * (1 + 1e-4)


def test_caps_by_hand():
    edge = np.array([[8.0, 1.0, 1.0, 0.0], [4.0, 4.0, 1.0, 3.0]], np.float32)
    got = cap_shares(edge, np.float32(0.5))
    np.testing.assert_allclose(got, [[2.0, 1.0, 1.0, 0.0], edge[1]])
    # Two of three neighbours at most .4 each leave the third at least .2.
    got = cap_shares(np.array([[9.0, 7.0, 1.0]], np.float32), np.float32(0.4))
    np.testing.assert_allclose(got, [[2.0, 2.0, 1.0]], rtol=1e-6)
    # Three cannot stay below a quarter each: none is above another.
    got = cap_shares(edge[:1], np.float32(0.25))
    np.testing.assert_array_equal(got, [[1.0, 1.0, 1.0, 0.0]])
    lone = np.array([[0.0, 3.0]], np.float32)
    np.testing.assert_array_equal(cap_shares(lone, np.float32(0.1)), lone)
    np.testing.assert_array_equal(cap_shares(edge, np.float32(1.0)), edge)


def test_cap_bounds_the_weight_after_trust():
    rng = np.random.default_rng(2)
    edge, trust = (
        mixing_weights(rng),
        rng.uniform(1e-3, 1.0, (RECEIVERS, J)).astype(np.float32),
    )
    capped = SWITCHES._replace(max_share=np.float32(0.5))
    level = np.zeros(RECEIVERS, np.float32)
    got = edge_factor(edge, trust, level, np.zeros(J, np.float32), capped)
    assert (np.asarray(weights.largest_share(got)) <= 0.5 + 1e-5).all()
    expected = edge * trust / trust.max(axis=1, keepdims=True)
    for row, wanted in zip(np.asarray(got), expected, strict=True):
        np.testing.assert_allclose(row, filled(wanted, 0.5), rtol=1e-4)


def test_figures_of_a_round():
    edge = np.array(
        [[0.0, 0.0, 0.0], [2.0, 2.0, 0.0], [1.0, 2.0, 3.0], [1e-25, 0.0, 1e-25]],
        np.float32,
    )
    np.testing.assert_allclose(
        weights.effective_neighbours(edge), [0.0, 2.0, 36 / 14, 2.0], rtol=1e-6
    )
    np.testing.assert_allclose(
        weights.largest_share(edge), [0.0, 0.5, 0.5, 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(weights.coverage(edge), [0, 2 / 3, 1, 2 / 3], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(local=WEIGHTS, network=WEIGHTS)
def test_network_share(local, network):
    hyper = HYPER._replace(
        local_weight=np.float32(local), network_weight=np.float32(network)
    )
    share = np.asarray(weights.network_share(hyper, jnp.array([0.0, 1.0])))
    assert share[0] == 0.0
    total = np.float32(local) + np.float32(network)
    expected = np.float32(network) / total if total > 0 else 0.0
    assert share[1] == pytest.approx(expected, abs=1e-6)


def test_annealing_halves_at_t0():
    steps = jnp.array([0.0, 50.0, 100.0])
    np.testing.assert_allclose(weights.annealing(steps, 50.0), [1.0, 0.5, 0.2])
    np.testing.assert_array_equal(weights.annealing(steps, 0.0), 1.0)
