"""Factorised weighted means against loops; gossip on the tabular theory."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.exchange.aggregators import AGGREGATORS, weighted_mean
from tests.reference import exchange as reference

RECEIVERS, J, K, A = 3, 5, 4, 2
mean_of = jax.jit(weighted_mean)


def sparse(rng, *shape):
    return (rng.uniform(size=shape) * (rng.uniform(size=shape) < 0.5)).astype(
        np.float32
    )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_matches_the_full_tensor(seed):
    rng = np.random.default_rng(seed)
    edge, sender = sparse(rng, RECEIVERS, J), sparse(rng, J, K)
    x = rng.normal(size=(J, K, A)).astype(np.float32)
    w = np.einsum("ij,jk->ijk", edge.astype(np.float64), sender)
    mean, mass = mean_of(edge, sender, x)
    for a in range(A):
        expected, expected_mass = reference.aggregate(w, x[..., a])
        np.testing.assert_allclose(mean[..., a], expected, atol=1e-5)
        np.testing.assert_allclose(mass, expected_mass, atol=1e-6)
        np.testing.assert_allclose(
            mean_of(edge, sender, x[..., a])[0], mean[..., a], atol=1e-6
        )
    empty = expected_mass == 0
    assert (np.asarray(mass)[empty] == 0).all()
    assert (np.asarray(mean)[empty] == 0).all()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), level=st.floats(-1e3, 1e3))
def test_rows_sum_to_one_or_nothing(seed, level):
    rng = np.random.default_rng(seed)
    x = np.full((J, K, A), level, np.float32)
    mean, mass = mean_of(sparse(rng, RECEIVERS, J), sparse(rng, J, K), x)
    expected = np.where(mass > 0, np.float32(level), 0)[..., None]
    np.testing.assert_allclose(mean, np.repeat(expected, A, -1), rtol=1e-6, atol=1e-30)


def test_small_weights_do_not_break_the_mean():
    small = np.full((J, K), 1e-28, np.float32)
    x = np.full((J, K, A), 3.0, np.float32)
    edge = np.ones((RECEIVERS, J), np.float32)
    np.testing.assert_allclose(mean_of(edge, small, x)[0], 3.0, rtol=1e-5)
    mean, mass = mean_of(edge, 1e-8 * small, x)
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_array_equal(mass, 0.0)


def test_what_weighs_nothing_may_be_anything():
    sender = np.ones((J, K), np.float32)
    x = np.ones((J, K, A), np.float32)
    sender[2], x[2] = 0.0, np.nan
    mean, _ = mean_of(np.ones((RECEIVERS, J), np.float32), sender, x)
    np.testing.assert_allclose(mean, 1.0, rtol=1e-6)


def test_the_aggregator_mean_is_the_weighted_mean():
    rng = np.random.default_rng(0)
    edge, sender = sparse(rng, RECEIVERS, J), sparse(rng, J, K)
    x = rng.normal(size=(J, K, A)).astype(np.float32)
    ignored = np.full((RECEIVERS, K, A), np.nan, np.float32)
    mean = jax.jit(AGGREGATORS["mean"], static_argnums=5)
    got = mean(edge, sender, x, ignored, ignored[..., 0], 0.34)
    for a, b in zip(got, mean_of(edge, sender, x), strict=True):
        np.testing.assert_array_equal(a, b)
