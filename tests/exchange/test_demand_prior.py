"""Pooled statistics and the neighbours' prior against plain NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.exchange import demand_prior as pooling
from p2p_sac_jax.types import DemandSummary
from tests.helpers.demand import base_prior, base_with
from tests.reference import bayes, modes

PRIORS = {
    5: ([0, 2, 0, 0, 0], [1, 2, 1, 0.3, 0.3]),
    6: ([0, 2, 0, 0, 0, 0], [1, 2, 0.5, 1, 0.3, 0.3]),
}
CENTRE = np.array([0.2, 2.7, 0.3, 0.4, 0.1, -0.05])
SIGMA = 0.4

neighbour_prior = jax.jit(pooling.neighbour_prior)
pooled_prior = jax.jit(pooling.pooled_prior)
mean_prior = jax.jit(functools.partial(pooling.mean_prior, min_peers=3))


def base(size):
    mean, std = PRIORS[size]
    return base_with(mean, np.diag(np.float32(std) ** 2))


def kept(values, size):
    return values if size == 6 else np.delete(values, 2)


def summarise(x, z, sigma=SIGMA):
    """Summary of one peer's rows at a known noise, float64 for the references."""
    precision = x.T.astype(np.float64) @ x / sigma**2
    shift = x.T.astype(np.float64) @ (z + sigma**2 / 2) / sigma**2
    return precision, shift, float(len(z))


def peers(rng, count, size=5, steps=40, spread=bayes.SPREAD):
    """Curves ``[J, F]`` of different peers and summaries of ``steps`` weeks each."""
    theta = kept(CENTRE, size) + rng.normal(size=(count, size)) * np.sqrt(
        kept(spread, size)
    )
    steps = np.broadcast_to(steps, count)
    rows = []
    for j in range(count):
        x = bayes.market_features(rng, steps[j], size)
        rows.append(summarise(x, bayes.log_sales(rng, x, theta[j], SIGMA)))
    return theta, DemandSummary(*(np.stack(leaf) for leaf in zip(*rows, strict=True)))


def single(summaries):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), summaries)


def test_pooled_prior_is_the_posterior_of_all_the_data():
    rng = np.random.default_rng(0)
    _, summaries = peers(rng, 4)
    neighbours = 1 - np.eye(4, dtype=np.float32)
    prior, has_prior = pooled_prior(neighbours, single(summaries), base(5))
    inverse = np.linalg.inv(base(5).covariance)
    covariance = np.linalg.inv(inverse + summaries.precision[1:].sum(0))
    mean = covariance @ (inverse @ base(5).mean + summaries.shift[1:].sum(0))
    np.testing.assert_allclose(prior.covariance[0], covariance, atol=1e-5)
    np.testing.assert_allclose(prior.mean[0], mean, atol=1e-4)
    np.testing.assert_array_equal(has_prior, 1)


@pytest.mark.parametrize("size", [5, 6])
def test_neighbour_prior_is_the_reference(size):
    rng = np.random.default_rng(1)
    _, summaries = peers(rng, 4, size, steps=[3, 20, 60, 200])
    weights = rng.uniform(size=(4, 4)).astype(np.float32)
    weights[0] = [1, 1, 1, 1]
    prior, has_prior = neighbour_prior(weights, single(summaries), base(size))
    np.testing.assert_array_equal(has_prior, 1)
    for i in range(4):
        mean, covariance, spread = bayes.neighbour_prior(
            weights[i], summaries.precision, summaries.shift, *base(size).prior
        )
        np.testing.assert_allclose(prior.mean[i], mean, atol=2e-4)
        np.testing.assert_allclose(
            prior.covariance[i], covariance, atol=2e-5, rtol=1e-4
        )
        if i == 0:  # equal weights: exact inference in the joint Gaussian
            exact, uncertainty = bayes.joint_centre(
                summaries.precision, summaries.shift, *base(size).prior, spread
            )
            np.testing.assert_allclose(prior.mean[0], exact, atol=2e-4)
            np.testing.assert_allclose(
                prior.covariance[0], np.diag(spread) + uncertainty, atol=2e-5, rtol=1e-4
            )


@pytest.mark.parametrize("learn", [neighbour_prior, pooled_prior, mean_prior])
def test_no_messages_leave_the_base_prior(learn):
    _, summaries = peers(np.random.default_rng(2), 4)
    empty = jax.tree.map(np.zeros_like, single(summaries))
    edges = 1 - np.eye(4, dtype=np.float32)
    for weights, data in ((0 * edges, single(summaries)), (edges, empty)):
        prior, has_prior = learn(weights, data, base(5))
        np.testing.assert_array_equal(has_prior, 0)
        for i in range(4):
            np.testing.assert_array_equal(prior.mean[i], base(5).mean)
            np.testing.assert_array_equal(prior.covariance[i], base(5).covariance)


@pytest.mark.parametrize("learn", [neighbour_prior, pooled_prior])
def test_a_neighbour_without_data_weighs_nothing(learn):
    _, summaries = peers(np.random.default_rng(2), 4, steps=[40, 40, 0, 40])
    row = np.array([[1, 1, 1, 0], [1, 1, 0, 0], *np.zeros((2, 4))], np.float32)
    prior, _ = learn(row, single(summaries), base(5))
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf[0], leaf[1]), prior)


def test_a_newcomers_prior_is_calibrated_and_pooling_is_not():
    rng = np.random.default_rng(3)
    weights = 1 - np.eye(12, dtype=np.float32)
    squares = {"prior": [], "pooled": []}
    gain = []
    for _ in range(40):
        theta, summaries = peers(rng, 12, steps=50)
        for name, learn in (("prior", neighbour_prior), ("pooled", pooled_prior)):
            prior, _ = learn(weights, single(summaries), base(5))
            variance = np.diagonal(prior.covariance, axis1=-2, axis2=-1)
            squares[name].append(np.mean((theta - prior.mean) ** 2 / variance, axis=0))
            if name == "prior":
                slope_error = (theta[:, 1] - prior.mean[:, 1]) ** 2
                gain.append(slope_error / (theta[:, 1] - 2.0) ** 2)
    by_coefficient = np.mean(squares["prior"], axis=0)
    assert np.all((by_coefficient > 0.6) & (by_coefficient < 1.3))
    assert np.mean(squares["pooled"]) > 3
    assert np.median(gain) < 0.7  # closer to the truth than the base prior


def means_of(means, variance, count):
    """Messages of mean coefficients ``[J, F]`` with one public variance ``[F]``."""
    J, size = means.shape
    precision = np.broadcast_to(np.diag(1 / variance), (J, size, size))
    return single(DemandSummary(precision, means / variance, count))


@pytest.mark.parametrize("size", [5, 6])
def test_mean_prior_is_the_reference_and_nothing_below_enough_peers(size):
    rng = np.random.default_rng(5)
    means = kept(CENTRE, size) + rng.normal(size=(6, size))
    variance = np.diag(base(size).covariance)
    count = np.array([8, 8, 8, 0, 8, 8])
    weights = np.zeros((6, 6), np.float32)
    weights[0, 1:] = [1, 0.2, 1, 0.7, 1]  # peer 3 has no data: four remain
    weights[1, [0, 2, 3]] = 1  # two senders
    weights[2, [0, 1, 4]] = 1
    prior, has_prior = mean_prior(weights, means_of(means, variance, count), base(size))
    np.testing.assert_array_equal(has_prior, [1, 0, 1, 0, 0, 0])
    for i, senders in ((0, [1, 2, 4, 5]), (2, [0, 1, 4])):
        mean, expected = modes.mean_prior(
            means[senders],
            variance,
            base(size).mean,
            variance,
            kept(bayes.SPREAD, size),
        )
        np.testing.assert_allclose(prior.mean[i], mean, atol=1e-5)
        np.testing.assert_allclose(prior.covariance[i], np.diag(expected), atol=1e-5)
    np.testing.assert_array_equal(prior.mean[1], base(size).mean)
    np.testing.assert_array_equal(prior.covariance[1], base(size).covariance)


def test_mean_prior_reads_the_mean_alone():
    rng = np.random.default_rng(6)
    means, variance = rng.normal(size=(5, 5)), np.diag(base(5).covariance)
    weights = np.ones((1, 5), np.float32)
    one, _ = mean_prior(weights, means_of(means, variance, np.full(5, 8.0)), base(5))
    same = np.broadcast_to(means.mean(0), means.shape)  # the sender of each is lost
    other, _ = mean_prior(weights, means_of(same, variance, np.full(5, 30.0)), base(5))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
    np.testing.assert_array_equal(one.covariance, other.covariance)


def test_memories_without_coefficients_keep_their_trivial_prior():
    trivial = base_prior(0)
    nothing = DemandSummary(jnp.zeros((2, 0, 0)), jnp.zeros((2, 0)), jnp.zeros(2))
    for learn in (neighbour_prior, pooled_prior, mean_prior):
        prior, has_prior = learn(jnp.ones((2, 2)), nothing, trivial)
        assert prior.covariance.shape == (2, 0, 0)
        np.testing.assert_array_equal(has_prior, 0)


@pytest.mark.parametrize("pool", [neighbour_prior, pooled_prior, mean_prior])
def test_no_message_moves_the_mean_beyond_the_reach(pool):
    """All precision for a slope beyond any; others are where honest messages are."""
    prior, stated = base(5), np.float32([0, 1e5, 0, 0, 0])
    precision = np.broadcast_to(1e4 * np.eye(5, dtype=np.float32), (3, 5, 5))
    sent = DemandSummary(precision, precision @ stated, np.full(3, 40, np.float32))
    learned, _ = pool(np.ones((1, 3), np.float32), sent, prior)
    furthest = prior.mean[1] + pooling.PRIOR_REACH * PRIORS[5][1][1]
    np.testing.assert_allclose(learned.mean[0], [0, furthest, 0, 0, 0], atol=1e-4)
