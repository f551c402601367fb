"""Robust aggregators against loops, byzfl, an optimiser, and byzantine peers."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from p2p_sac_jax.exchange.aggregators import AGGREGATORS
from p2p_sac_jax.exchange.order_statistics import (
    byzantine_counts,
    trimmed_mean,
    weighted_median,
)
from tests.reference import robust as reference

RECEIVERS, J, K, A = 3, 7, 4, 2
TOLERATED = 0.34
ROBUST = sorted(set(AGGREGATORS) - {"mean"})
BYZFL = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "byzfl.json").read_text(encoding="utf-8")
)


def all_of(byzantine_fraction, *arguments):
    return {name: AGGREGATORS[name](*arguments, byzantine_fraction) for name in ROBUST}


robust = jax.jit(all_of, static_argnums=0)


def run(*arguments, byzantine_fraction=TOLERATED):
    result = robust(byzantine_fraction, *(np.asarray(x, np.float32) for x in arguments))
    return jax.tree.map(np.asarray, result)


def inputs(seed, gaps=0.4):
    """Random weights and values with gaps on every side.

    Weights are eighths, so that half of their mass is reached exactly or not nearly.
    """
    rng = np.random.default_rng(seed)

    def sparse(*shape):
        eighths = rng.integers(1, 9, shape) / 8.0
        return eighths * (rng.uniform(size=shape) >= gaps)

    return (
        sparse(RECEIVERS, J),
        sparse(J, K),
        rng.normal(size=(J, K, A)),
        rng.normal(size=(RECEIVERS, K, A)),
        sparse(RECEIVERS, K),
    )


def full(x):
    """Equal weights for everyone, and receivers that know 0."""
    senders, cells, size = x.shape
    own = np.zeros((RECEIVERS, cells, size))
    weight = np.ones((senders, cells))
    return np.ones((RECEIVERS, senders)), weight, x, own, np.ones((RECEIVERS, cells))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), gaps=st.sampled_from([0.0, 0.3, 0.6]))
def test_matches_the_loops(seed, gaps):
    arguments = tuple(x.astype(np.float32) for x in inputs(seed, gaps))
    got = run(*arguments)
    for name in reference.METHODS:
        mean, mass = reference.aggregate(name, *arguments, TOLERATED)
        np.testing.assert_allclose(got[name][0], mean, atol=3e-5, err_msg=name)
        np.testing.assert_allclose(got[name][1], mass, rtol=1e-5, err_msg=name)
        assert (got[name][1][mass == 0] == 0).all()
        assert (got[name][0][mass == 0] == 0).all()


# Steps end a little early where few weights leave a corner at the best point.
@pytest.mark.parametrize(("gaps", "excess"), [(0.0, 1.002), (0.4, 1.05)])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_the_geometric_median_is_the_nearest_point(gaps, excess, seed):
    edge, weight, x, *own = inputs(seed, gaps)
    got, _ = run(edge, weight, x, *own)["geometric_median"]
    for i in range(RECEIVERS):
        edge_weight, clean = reference.mixing_weights(edge[i], weight, x)
        cost = partial(
            reference.geometric_cost, x=clean, edge_weight=edge_weight, edge=edge[i]
        )
        best = minimize(
            lambda z, cost=cost: cost(z.reshape(K, A)), got[i].ravel(), method="Powell"
        )
        assert cost(got[i]) <= excess * best.fun + 1e-5


@pytest.mark.parametrize("number", range(len(BYZFL["cases"])))
def test_agrees_with_byzfl(number):
    case = BYZFL["cases"][number]
    x, own = np.array(case["x"]), np.array(case["own"])
    n = len(x)
    # One cell of several actions: a sender counts on all of it.
    got = run(
        np.ones((1, n)),
        np.ones((n, 1)),
        x[:, None],
        own[None, None],
        np.ones((1, 1)),
        byzantine_fraction=case["f"] / n,
    )
    for name, expected in case["expected"].items():
        atol = 5e-3 if name == "geometric_median" else 2e-5
        mean, mass = got[name]
        np.testing.assert_allclose(mean[0, 0], expected, atol=atol, err_msg=name)
        assert mass[0, 0] == pytest.approx(n)


@pytest.mark.parametrize("name", ROBUST)
class TestContract:
    """What holds of every robust aggregator."""

    def test_byzantine_peers_do_not_move_it(self, name):
        """With f of n at ±1e9 the result stays among the honest."""
        rng = np.random.default_rng(1)
        honest = rng.normal(size=(J, K, A))
        for bad in (1e9, -1e9, 50.0):
            x = honest.copy()
            x[[1, 4]] = bad * rng.uniform(0.9, 1.0, (2, K, A))
            mean, mass = run(*full(x))[name]
            rest = np.delete(x, [1, 4], axis=0)
            assert (mean >= rest.min(axis=0) - 1.0).all()
            assert (mean <= rest.max(axis=0) + 1.0).all()
            np.testing.assert_allclose(mass, J)

    def test_large_values_gain_no_weight(self, name):
        edge, weight, x, *own = inputs(2)
        boast = weight.copy()
        boast[3] *= 1e6
        np.testing.assert_array_equal(
            run(edge, boast, x, *own)[name][0], run(edge, weight, x, *own)[name][0]
        )

    def test_what_is_not_a_number_has_no_weight(self, name):
        edge, weight, x, *own = inputs(3)
        weight[2, 1], x[2, 1] = 1.0, np.nan
        weight[5, 0], x[5, 0, 1] = 1.0, -np.inf
        weight[4, 2], x[4, 2, 0] = 1.0, 1e20
        weight[0], x[0] = 0.0, np.nan
        muted, harmless = weight.copy(), x.copy()
        for j, k in ((2, 1), (5, 0), (4, 2)):
            muted[j, k] = harmless[j, k] = 0.0
        harmless[0] = 7.0
        got = run(edge, weight, x, *own)[name]
        expected = run(edge, muted, harmless, *own)[name]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(a).all()

    def test_own_values_may_be_anything_where_nothing_is_known(self, name):
        edge, weight, x, own, own_weight = inputs(4)
        own_weight[1], poisoned = 0.0, own.copy()
        poisoned[1] = np.nan
        np.testing.assert_array_equal(
            run(edge, weight, x, poisoned, own_weight)[name][0],
            run(edge, weight, x, own, own_weight)[name][0],
        )

    def test_equal_values_come_back(self, name):
        edge, weight, x, _, own_weight = inputs(5)
        x[:] = 3.25
        mean, mass = run(edge, weight, x, x[:RECEIVERS], own_weight)[name]
        expected = np.where(mass > 0, 3.25, 0.0)[..., None]
        np.testing.assert_allclose(mean, np.repeat(expected, A, -1), rtol=1e-6)

    def test_small_weights_still_count(self, name):
        edge, *rest = inputs(7)
        mean, mass = run(edge, *rest)[name]
        small, small_mass = run(1e-20 * edge, *rest)[name]
        np.testing.assert_allclose(small, mean, atol=1e-4)
        np.testing.assert_allclose(small_mass, 1e-20 * mass, rtol=1e-5)


def test_numbers_are_vectors_of_one():
    edge, weight, x, own, own_weight = inputs(9)
    flat = run(edge, weight, x[..., 0], own[..., 0], own_weight)
    deep = run(edge, weight, x[..., :1], own[..., :1], own_weight)
    for name in ROBUST:
        assert flat[name][0].shape == (RECEIVERS, K)
        np.testing.assert_allclose(flat[name][0], deep[name][0][..., 0], atol=1e-6)
        np.testing.assert_array_equal(flat[name][1], deep[name][1])


@pytest.mark.parametrize("senders", [1, 2, 64])
def test_any_number_of_senders(senders):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(senders, 2))
    edge = np.ones((1, senders)) if senders < 3 else 1.0 - np.eye(senders)
    receivers = len(edge)
    own = np.zeros((receivers, 2))
    got = run(edge, np.ones((senders, 2)), x, own, np.zeros((receivers, 2)))
    for name in ROBUST:
        mean, mass = got[name]
        np.testing.assert_allclose(mass, edge.sum(axis=1, keepdims=True) + 0 * own)
        assert np.abs(mean).max() < 4.0
        if senders < 3:  # of two, neither can be identified as byzantine
            np.testing.assert_allclose(mean[0], x.mean(axis=0), atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), equal=st.booleans())
def test_order_statistics(seed, equal):
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (5, J)).astype(np.float32)
    edge_weight = (rng.uniform(size=(5, J)) < 0.7).astype(np.float32)
    if not equal:
        edge_weight *= rng.integers(1, 9, (5, J)).astype(np.float32)
    middle = np.asarray(jax.jit(weighted_median)(values, edge_weight))
    trimmed = jax.jit(trimmed_mean, static_argnums=2)(values, edge_weight, TOLERATED)
    for row in range(5):
        expected = reference.weighted_median(values[row], edge_weight[row])
        assert middle[row] == pytest.approx(expected)
        expected = reference.trimmed_mean(values[row], edge_weight[row], TOLERATED)
        assert trimmed[row] == pytest.approx(expected, abs=2e-5)
        positive = values[row][edge_weight[row] > 0]
        if equal and positive.size:
            assert middle[row] == np.median(positive)


def test_how_many_may_be_byzantine():
    counts = byzantine_counts(0.34, 50)
    assert counts[[0, 1, 2, 3, 6, 9, 50]].tolist() == [0, 0, 0, 1, 2, 3, 17]
    assert byzantine_counts(1 / 3, 9)[[3, 6, 9]].tolist() == [1, 2, 3]
    assert byzantine_counts(0.0, 9).tolist() == [0] * 10
    n = np.arange(1, 65)
    assert (2 * byzantine_counts(0.4999999, 64)[1:] < n).all()
