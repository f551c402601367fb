"""Sanitizing: impossible values are bounded, possible ones pass to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.exchange import sanitize
from p2p_sac_jax.linalg import cholesky, spd_inverse
from p2p_sac_jax.types import DemandSummary, Received
from tests.helpers.demand import base_prior
from tests.helpers.messages import honest
from tests.reference import bayes

F = 5
sanitize_insight = jax.jit(sanitize.sanitize_insight)
SCALE = base_prior(F).record_scale


@jax.jit
def sanitize_demand(summary, *max_count):
    return sanitize.sanitize_demand(summary, SCALE, *max_count)


@jax.jit
def sanitize_received(received, max_count):
    return sanitize.sanitize_received(received, SCALE, max_count)


@jax.jit
def posterior(precision):
    """Covariance of the coefficients and its root, under the base prior."""
    prior = spd_inverse(jnp.asarray(base_prior(F).covariance))
    covariance = spd_inverse(prior[None] + precision)
    return covariance, cholesky(covariance)


def weeks(seed=0, senders=3, steps=40):
    """Demand statistics of as many real weeks, exactly symmetric."""
    rng = np.random.default_rng(seed)
    x = [bayes.market_features(rng, steps).astype(float) for _ in range(senders)]
    S = np.stack([X.T @ X for X in x]) / 0.2
    S = (0.5 * (S + np.swapaxes(S, -1, -2))).astype(np.float32)
    shift = rng.normal(size=(senders, F)).astype(np.float32)
    return DemandSummary(S, shift, np.full(senders, steps, np.float32))


def dropped(summary, j):
    return all(not np.asarray(leaf[j]).any() for leaf in summary)


def same(got, sent, rows=slice(None)):
    for a, b in zip(got, sent, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[rows], np.asarray(b)[rows])


@pytest.mark.parametrize(
    ("field", "value", "confidence"),
    [
        ("confidence", 7.0, 1.0),
        ("confidence", -7.0, 0.0),
        ("confidence", np.nan, 0.0),
        ("confidence", np.inf, 0.0),
        ("timestamp", np.nan, 0.0),
        ("timestamp", -np.inf, 0.0),
        ("state_value", np.nan, 0.0),
        ("state_value", 1e30, 0.0),
        ("entropy", np.inf, 0.0),
        ("count", -1.0, 0.0),
        ("count", np.nan, 0.0),
        ("action_mean", np.nan, 0.0),
        ("action_std", -np.inf, 0.0),
        ("valid", 0.0, 0.0),
        ("valid", 50.0, 0.5),
        ("valid", np.nan, 0.0),
    ],
)
def test_messages_are_bounded(field, value, confidence):
    insight = honest(2)
    bad = np.array(getattr(insight, field))
    bad[1] = value
    got = sanitize_insight(insight._replace(**{field: bad}))
    assert float(got.confidence[1, 0] * got.valid[1, 0]) == confidence
    same(got, insight, rows=0)
    for leaf in got:
        assert np.isfinite(leaf).all()


def test_honest_insights_pass():
    same(sanitize_insight(honest(2, 3), 1.0), honest(2, 3))


def test_nobody_saw_more_than_there_was():
    insight = honest(3)._replace(count=np.float32([[5.0], [40.0], [1e6]]))
    got = sanitize_insight(insight, jnp.int32(40))
    np.testing.assert_array_equal(got.count, [[5.0], [40.0], [40.0]])
    summary = weeks()._replace(count=np.float32([40.0, 20.0, 160.0]))
    clipped = sanitize_demand(summary, jnp.int32(40))
    same(clipped, summary, rows=slice(2))
    assert clipped.count[2] == 40.0
    np.testing.assert_allclose(clipped.precision[2], summary.precision[2] / 4)
    np.testing.assert_allclose(clipped.shift[2], summary.shift[2] / 4)
    nothing = sanitize_demand(summary, jnp.int32(0))
    assert all(dropped(nothing, j) for j in range(3))


@pytest.mark.parametrize("steps", [40, 1000])
def test_honest_demand_passes(steps):
    same(sanitize_demand(weeks(steps=steps)), weeks(steps=steps))


def test_few_weeks_pass_almost_as_they_are():
    """Without full rank the diagonal is raised, by less than data can show."""
    for steps in (1, 2, 3):
        sent = weeks(senders=20, steps=steps)
        got = sanitize_demand(sent)
        np.testing.assert_array_equal(got.count, sent.count)
        np.testing.assert_allclose(got.precision, sent.precision, rtol=3e-5)
        np.testing.assert_array_equal(got.shift, sent.shift)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", np.nan),
        ("precision", np.inf),
        ("precision", -1.0),
        ("precision", 2e9),
        ("shift", np.nan),
        ("shift", -2e9),
        ("count", np.nan),
        ("count", -1.0),
        ("count", np.inf),
    ],
)
def test_demand_that_no_data_can_have_is_dropped(field, value):
    summary = weeks()
    bad = np.array(getattr(summary, field))
    bad[(1,) + (2,) * (bad.ndim - 1)] = value
    clean = sanitize_demand(summary._replace(**{field: bad}))
    assert dropped(clean, 1)
    same(clean, summary, rows=[0, 2])


def test_precisions_become_symmetric():
    summary = weeks()
    skew = np.triu(np.full((F, F), 0.01, np.float32), 1)
    summary = summary._replace(precision=summary.precision + (skew - skew.T)[None])
    clean = sanitize_demand(summary).precision
    np.testing.assert_array_equal(clean, np.swapaxes(clean, -1, -2))
    np.testing.assert_allclose(clean, weeks().precision, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    least=st.sampled_from([-1.0, -1e-2, -1e-3, -1e-7, 0.0, 1e-3]),
    scale=st.sampled_from([1e-3, 1.0, 1e5]),
)
def test_precisions_are_semidefinite_or_dropped(seed, least, scale):
    """The verdict is that of the eigenvalues; any prior plus what passes inverts."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(3, F, F)))
    values = rng.uniform(0.3, 1.0, (3, F))
    values[1, 0] = least
    S = (np.einsum("jfe,je,jge->jfg", basis, values, basis) * scale).astype(np.float32)
    if seed % 2:  # regressors of very different size
        size = np.float32([1.0, 30.0, 0.01, 1.0, 0.1])
        S = S * size[:, None] * size
    summary = DemandSummary(S, np.ones((3, F), np.float32), np.ones(3, np.float32))
    clean = sanitize_demand(summary)
    assert dropped(clean, 1) == (least < -1e-5)
    assert not dropped(clean, 0)
    for leaf in posterior(clean.precision):
        assert np.isfinite(leaf).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_no_precision_breaks_the_posterior(seed):
    """Entries of any size and sign, wild correlations, regressors never seen."""
    rng = np.random.default_rng(seed)
    S = rng.normal(size=(3, F, F)) * 10.0 ** rng.uniform(-30, 9, (3, F, F))
    S = np.clip(S, -1e9, 1e9)
    S[1] = np.abs(rng.choice([1e9, 0.0, 1e-19, 1e-25], (F, 1))) * np.eye(F) + np.triu(
        rng.choice([0.0, 1e9, -1e9, 1e-6], (F, F)), 1
    )
    x = rng.normal(size=F) * 10.0 ** rng.uniform(-3, 4, F)
    S[2] = np.outer(x, x)  # of rank one
    clean = sanitize_demand(
        DemandSummary(S.astype(np.float32), np.ones((3, F), np.float32), np.ones(3))
    )
    for leaf in clean:
        assert np.isfinite(leaf).all()
    assert not dropped(clean, 2)
    for leaf in posterior(clean.precision):
        assert np.isfinite(leaf).all()


def test_what_was_never_seen_goes_with_nothing():
    summary = weeks()
    S = np.array(summary.precision)
    S[:, 3], S[:, :, 3] = 0.0, 0.0
    unseen = summary._replace(precision=S)
    same(sanitize_demand(unseen), unseen)
    S[1, 3, 0] = S[1, 0, 3] = 0.5
    clean = sanitize_demand(summary._replace(precision=S))
    assert dropped(clean, 1)
    assert not dropped(clean, 0)


@pytest.mark.parametrize("size", [0, 6])
def test_demand_of_other_sizes(size):
    identity = np.broadcast_to(np.eye(size, dtype=np.float32), (2, size, size))
    summary = DemandSummary(
        identity, np.ones((2, size), np.float32), np.float32([3.0, np.nan])
    )
    scale = base_prior(size).record_scale
    clean = sanitize.sanitize_demand(summary, scale, 2.0)
    np.testing.assert_array_equal(clean.count, [2.0, 0.0])
    np.testing.assert_allclose(clean.precision[0], identity[0] * 2 / 3)
    assert dropped(clean, 1)


def received(performance, trend):
    senders = len(performance)
    return Received(
        insight=honest(senders),
        demand=weeks(senders=senders),
        performance=np.float32(performance),
        trend=np.float32(trend)[:, None],
    )


def test_all_that_is_received_is_bounded():
    message = received(
        [0.5, np.nan, np.inf, -np.inf, 1e30], [0.25, 9.0, -9.0, np.nan, np.inf]
    )
    insight = message.insight
    message = message._replace(insight=insight._replace(count=1e8 * insight.count))
    got = sanitize_received(message, jnp.int32(40))
    np.testing.assert_array_equal(
        got.performance, np.float32([0.5, -1e9, -1e9, -1e9, 1e9])
    )
    np.testing.assert_array_equal(got.trend[:, 0], [0.25, 1.0, -1.0, 0.0, 0.0])
    np.testing.assert_array_equal(got.insight.count, 40.0)
    same(got.demand, message.demand)


def test_honest_messages_pass():
    message = received([0.5, -0.5], [0.0, -1.0])
    got, sent = (
        jax.tree.leaves(x) for x in (sanitize_received(message, 40.0), message)
    )
    same(got, sent)
