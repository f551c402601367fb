"""Weights: recency, hostile claims, the mix of local and network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange import weights
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import DemandSummary, Insight

HYPER = make_hyper(TrainConfig()).exchange
DAY = 86_400.0
WEIGHTS = st.just(0.0) | st.floats(1e-6, 10.0)
accept = jax.jit(weights.accept)
sender_weight = jax.jit(weights.sender_weight)


def honest(senders=1, cells=1):
    ones = np.ones((senders, cells), np.float32)
    actions = np.zeros((senders, cells, 1), np.float32)
    return Insight(
        state_value=ones,
        action_value=ones,
        entropy=ones,
        confidence=0.5 * ones,
        timestamp=0.0 * ones,
        action_mean=actions,
        action_std=actions,
        count=ones,
        valid=ones,
    )


def test_temporal_decays_and_ends():
    ages = np.array([0.0, DAY, 10 * DAY, 11 * DAY, -1.0], np.float32)
    got = weights.temporal(20 * DAY, 20 * DAY - ages, DAY, 10 * DAY)
    np.testing.assert_allclose(got, [1, np.exp(-1), np.exp(-10), 0, 0], rtol=1e-5)
    assert float(got[3]) == float(got[4]) == 0.0


@pytest.mark.parametrize(
    ("field", "claim", "weight"),
    [
        ("confidence", 7.0, 1.0),
        ("confidence", -7.0, 0.0),
        ("confidence", np.nan, 0.0),
        ("confidence", np.inf, 0.0),
        ("timestamp", 1.0, 0.0),
        ("timestamp", np.nan, 0.0),
        ("timestamp", -np.inf, 0.0),
        ("state_value", np.nan, 0.0),
        ("state_value", 1e30, 0.0),
        ("entropy", np.inf, 0.0),
        ("count", -1.0, 0.0),
        ("action_mean", np.nan, 0.0),
        ("valid", 0.0, 0.0),
        ("valid", 50.0, 0.5),
        ("valid", np.nan, 0.0),
    ],
)
def test_claims_are_bounded(field, claim, weight):
    insight = honest()
    lie = np.full_like(getattr(insight, field), claim)
    insight = insight._replace(**{field: lie})
    got = sender_weight(insight, jnp.float32(0.0), HYPER)
    assert float(got[0, 0]) == weight
    for leaf in jax.tree.leaves(accept(insight)):
        assert np.isfinite(leaf).all()


def test_accept_leaves_honest_insights_alone():
    insight = honest(2, 3)
    for got, sent in zip(accept(insight), insight, strict=True):
        np.testing.assert_array_equal(got, sent)


def test_demand_that_is_not_finite_is_dropped():
    ones = np.ones(3, np.float32)
    shift = np.ones((3, 2), np.float32)
    shift[1, 0] = np.nan
    summary = DemandSummary(np.ones((3, 2, 2), np.float32), shift, ones)
    clean = jax.jit(weights.accept_demand)(summary)
    for leaf in clean:
        flat = np.asarray(leaf).reshape(3, -1)
        np.testing.assert_array_equal(flat[1], 0.0)
        np.testing.assert_array_equal(flat[[0, 2]], 1.0)


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
