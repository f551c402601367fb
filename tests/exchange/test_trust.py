"""Trust: errors against loops on the data, and the trust in byzantine peers."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange import trust as trust_lib
from p2p_sac_jax.exchange.weights import edge_factor
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import DemandSummary, Insight
from tests.helpers.demand import base_prior, base_with

RECEIVERS, J, K, F = 3, 6, 5, 5
NOISE = 0.3  # sd of log sales
TRUE = np.array([0.1, 2.0, 0.3, 0.1, -0.1])
BASE = base_with([0, 2, 0, 0, 0], np.eye(F))
HYPER = make_hyper(TrainConfig()).weights._replace(trust_rate=np.float32(0.3))
SEEDS = st.integers(0, 10_000)

coefficients = jax.jit(lambda sent, base: trust_lib.coefficients(sent, base)[0])
demand_error = jax.jit(trust_lib.demand_error)
value_error = jax.jit(trust_lib.value_error)
update_trust = jax.jit(trust_lib.update_trust)
uniform = trust_lib.uniform_trust


def weeks(rng, count, truth=TRUE):
    """Regressors and log sales of one peer."""
    x = np.stack([np.ones(count), *rng.normal(0.0, 0.4, (F - 1, count))], axis=1)
    return x, x @ truth + NOISE * rng.normal(size=count)


def summarise(data):
    precision = [x.T @ x / NOISE**2 for x, _ in data]
    shift = [x.T @ z / NOISE**2 for x, z in data]
    count = [len(z) for _, z in data]
    return DemandSummary(
        *(np.asarray(leaf, np.float32) for leaf in (precision, shift, count))
    )


def insight(value, confidence=0.7, count=10.0, valid=1.0):
    value = np.asarray(value, np.float32)
    cells = np.zeros_like(value)
    actions = np.zeros((*value.shape, 1), np.float32)
    return Insight(
        state_value=value,
        action_value=cells,
        entropy=cells,
        confidence=cells + np.asarray(confidence, np.float32),
        timestamp=cells,
        action_mean=actions,
        action_std=actions,
        count=cells + np.asarray(count, np.float32),
        valid=cells + np.asarray(valid, np.float32),
    )


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_demand_error_is_the_excess_of_squared_errors(seed):
    """Against residuals week by week, and posterior means by least squares."""
    rng = np.random.default_rng(seed)
    own = [weeks(rng, n) for n in (12, 40, 200)]
    sent = [weeks(rng, n, TRUE + rng.normal(0, 0.5, F)) for n in (20, 5, 60, 9, 30, 90)]
    fitted = coefficients(summarise(sent), BASE)
    for j, (x, z) in enumerate(sent):
        # The base prior is F more rows of data.
        rows = np.concatenate([x / NOISE, np.eye(F)])
        target = np.concatenate([z / NOISE, BASE.mean])
        expected = np.linalg.lstsq(rows, target, rcond=None)[0]
        np.testing.assert_allclose(fitted[j], expected, atol=2e-3)
    got = demand_error(summarise(own), fitted)
    for i, (x, z) in enumerate(own):
        best = np.linalg.lstsq(x, z, rcond=None)[0]
        for j in range(J):
            theta = np.asarray(fitted[j], np.float64)
            errors = (z - x @ theta) ** 2 - (z - x @ best) ** 2
            expected = errors.mean() / NOISE**2 * len(z) / (len(z) + 8)
            assert got[i, j] == pytest.approx(expected, rel=2e-2, abs=1e-2)


def test_own_curve_fits_best_and_no_data_proves_nothing():
    rng = np.random.default_rng(0)
    own = summarise([weeks(rng, 50, TRUE + rng.normal(0, 0.5, F)) for _ in range(J)])
    error = np.asarray(demand_error(own, coefficients(own, BASE)))
    np.testing.assert_array_equal(error.argmin(axis=1), np.arange(J))
    assert (error >= 0).all()
    assert np.diagonal(error).max() < 0.1
    init_state = jax.tree.map(np.zeros_like, own)
    np.testing.assert_array_equal(
        demand_error(init_state, coefficients(own, BASE)), 0.0
    )
    # One week of F coefficients: an S without full rank.
    few = summarise([weeks(rng, 1)])
    assert 0 <= float(demand_error(few, TRUE[None].astype(np.float32))[0, 0]) < 1.0


def test_memories_without_demand_prove_nothing():
    summary = DemandSummary(
        np.ones((J, 0, 0), np.float32),
        np.ones((J, 0), np.float32),
        np.ones(J, np.float32),
    )
    fitted = coefficients(summary, base_prior(0))
    assert fitted.shape == (J, 0)
    own = jax.tree.map(lambda x: x[:RECEIVERS], summary)
    np.testing.assert_array_equal(demand_error(own, fitted), np.zeros((RECEIVERS, J)))


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_value_error_against_loops(seed):
    rng = np.random.default_rng(seed)

    def draw(peers):
        shape = (peers, K)
        return insight(
            2.0 + rng.normal(size=shape),
            confidence=rng.uniform(size=shape),
            count=rng.uniform(1, 9, shape) * (rng.uniform(size=shape) < 0.8),
            valid=rng.uniform(size=shape) < 0.8,
        )

    def shape_of(peers, i):
        known = (peers.valid[i] > 0) & (peers.count[i] > 0)
        if known.sum() < 2:
            return np.zeros(K), np.zeros(K, bool)
        value, count = (
            np.asarray(x[i], np.float64) for x in (peers.state_value, peers.count)
        )
        centre = np.average(value[known], weights=count[known])
        variance = np.average((value[known] - centre) ** 2, weights=count[known])
        return np.clip((value - centre) / np.sqrt(variance), -10, 10), known

    own, sent = draw(RECEIVERS), draw(J)
    got = value_error(own, sent)
    for i in range(RECEIVERS):
        for j in range(J):
            (mine, known), (theirs, values) = shape_of(own, i), shape_of(sent, j)
            both = known & values
            send_conditions = own.confidence[i, both] * (mine - theirs)[both] ** 2
            expected = send_conditions.mean() if both.any() else 0.0
            assert got[i, j] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_value_error_reads_shapes_not_levels_nor_boasts():
    rng = np.random.default_rng(1)
    value = rng.normal(size=(1, K))
    own = insight(value)
    sent = insight(np.concatenate([5.0 + 3.0 * value, -value]), [[0.1] * K, [1.0] * K])
    error = value_error(own, sent)
    np.testing.assert_allclose(error, [[0.0, 4 * 0.7]], atol=1e-4)
    humble = sent._replace(confidence=0.0 * sent.confidence)
    np.testing.assert_array_equal(value_error(own, humble), error)


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, rate=st.floats(0.0, 1.0))
def test_update_against_loops(seed, rate):
    rng = np.random.default_rng(seed)
    trust = rng.uniform(size=(RECEIVERS, J)).astype(np.float32)
    error = rng.uniform(0, 3, (RECEIVERS, J)).astype(np.float32)
    received = rng.uniform(size=(RECEIVERS, J)) < 0.7
    hyper = HYPER._replace(trust_rate=np.float32(rate))
    got = np.asarray(update_trust(trust, error, received, hyper))
    for i in range(RECEIVERS):
        here = received[i]
        odds = np.exp(-error[i, here] / 0.5)
        verdict = trust[i, here].sum() * odds / odds.sum()
        expected = (1 - rate) * trust[i, here] + rate * verdict
        np.testing.assert_allclose(got[i, here], expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(got[i, ~here], trust[i, ~here])
    np.testing.assert_allclose(got.sum(axis=1), trust.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(
        got, update_trust(trust, error, received.astype(np.float32), hyper)
    )


def test_trust_that_is_off_or_has_no_sender_keeps_every_bit():
    rng = np.random.default_rng(2)
    trust = rng.uniform(size=(RECEIVERS, J)).astype(np.float32)
    error = rng.uniform(size=(RECEIVERS, J)).astype(np.float32)
    everyone = np.ones((RECEIVERS, J), bool)
    off = HYPER._replace(trust_rate=np.float32(0.0))
    np.testing.assert_array_equal(update_trust(trust, error, everyone, off), trust)
    np.testing.assert_array_equal(update_trust(trust, error, ~everyone, HYPER), trust)


def judge(own, sent, mine, values, rounds=20):
    """Trust of everyone in everyone after some rounds of the same messages."""
    receivers, senders = mine.valid.shape[0], values.valid.shape[0]
    error = demand_error(own, coefficients(sent, BASE)) + value_error(mine, values)
    received = 1.0 - np.eye(receivers, senders, dtype=np.float32)
    trust = uniform(receivers, senders)
    for _ in range(rounds):
        trust = update_trust(trust, error, received, HYPER)
    return np.asarray(trust)


@pytest.mark.parametrize("wrong", ["demand", "values", "both"])
def test_a_byzantine_peer_loses_its_weight(wrong):
    """Below a twentieth of the honest in 20 rounds at η = .3; peers may differ."""
    rng = np.random.default_rng(3)
    truths = TRUE + rng.normal(0, 0.08, (J, F))
    honest = summarise([weeks(rng, 60, truth) for truth in truths])
    value = np.linspace(-1, 1, K) + rng.normal(0, 0.2, (J, K))
    sent, values = jax.tree.map(np.copy, (honest, insight(value)))
    if wrong != "values":
        sent.shift[-1] *= -1.0
    if wrong != "demand":
        values.state_value[-1] *= -1.0
        values.confidence[-1] = 1.0
    trust = judge(honest, sent, insight(value), values)
    others = ~np.eye(J, dtype=bool)
    others[:, -1] = False
    for i in range(J - 1):
        assert trust[i, -1] < 0.05 * trust[i, others[i]].min()
        assert trust[i, others[i]].min() > 0.1 * trust[i, others[i]].max()
    level = np.zeros(J, np.float32)
    edge_weight = edge_factor(~np.eye(J, dtype=bool), trust, level, level, HYPER)
    assert np.isfinite(edge_weight).all()


def test_trust_comes_back():
    """A peer that is no longer wrong gets its weight back."""
    error = np.zeros((1, 3), np.float32)
    error[0, 2] = 5.0
    trust, received = uniform(1, 3), np.ones((1, 3), bool)
    for _ in range(30):
        trust = update_trust(trust, error, received, HYPER)
    assert float(trust[0, 2]) < 1e-3
    for _ in range(30):
        trust = update_trust(trust, 0.0 * error, received, HYPER)
    np.testing.assert_allclose(trust, 1 / 3, rtol=1e-3)


def test_equal_messages_keep_trust_equal():
    rng = np.random.default_rng(4)
    own = summarise([weeks(rng, 30) for _ in range(J)])
    mine = insight(rng.normal(size=(J, K)))
    same = jax.tree.map(lambda x: np.repeat(x[:1], J, axis=0), (own, mine))
    trust = judge(own, same[0], mine, same[1])
    np.testing.assert_allclose(trust, 1 / J, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e9, 1e18, 1e38])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_extreme_magnitudes_stay_finite(size, sign):
    rng = np.random.default_rng(6)
    own = summarise([weeks(rng, 30) for _ in range(J)])
    mine = insight(rng.normal(size=(J, K)))
    sent, values = jax.tree.map(np.copy, (own, mine))
    sent.shift[0] = sign * size
    sent.precision[1] *= np.float32(min(size, 1e30))
    sent.shift[2], sent.precision[2] = sign * size, 0.0
    values.state_value[3, 0] = sign * min(size, 1e9)  # the most that is accepted
    values.count[4, 0] = min(size, 1e9)
    fitted = coefficients(sent, BASE)
    errors = demand_error(own, fitted), value_error(mine, values)
    for error in errors:
        assert ((np.asarray(error) >= 0) & (np.asarray(error) <= 1e3)).all()
    trust = judge(own, sent, mine, values)
    assert np.isfinite(trust).all()
    np.testing.assert_allclose(trust.sum(axis=1), 1.0, rtol=1e-5)
    nonsense = np.full((RECEIVERS, J), np.nan, np.float32)
    nonsense[:, 0] = np.inf
    frozen = HYPER._replace(trust_temperature=np.float32(1e-30))
    everyone = np.ones((RECEIVERS, J), bool)
    got = update_trust(uniform(RECEIVERS, J), nonsense, everyone, frozen)
    np.testing.assert_allclose(got, 1 / J, rtol=1e-5)
