"""Demand memory against brute force, and what its numbers promise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax import linalg
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.demand import posterior as demand
from p2p_sac_jax.privacy.clipping import RECORD_BOUND, SUM_SENSITIVITY
from p2p_sac_jax.types import Candidates, Experience
from tests.helpers.demand import base_prior, demand_memory
from tests.reference import bayes, modes

THETA = np.array([0.1, 2.7, 0.3, 0.4, 0.1, -0.05])
ONE = np.float32(1.0)


def within_bound(x, z):
    """The rows that no memory clips."""
    norms = [
        np.linalg.norm(modes.bounded_record(*row)) for row in zip(x, z, strict=True)
    ]
    kept = np.asarray(norms) < 0.999 * modes.BOUND
    return x[kept], z[kept]


def theta(size):
    return THETA if size == 6 else np.delete(THETA, 2)


@jax.jit
def learn(features, log_sales, decay):
    """State after the rows, one by one."""
    size = features.shape[-1]
    memory = demand_memory(size)

    def step(state, row):
        blank = jnp.zeros(())
        experience = Experience(*row, jnp.zeros(1), blank, jnp.int32(0))
        return memory.update(state, experience, decay, ONE), None

    return jax.lax.scan(step, memory.init(), (features, log_sales))[0]


posterior = jax.jit(demand.posterior)
posteriors = jax.jit(jax.vmap(demand.posterior, (0, None)))
predict_errors = jax.jit(jax.vmap(demand.prediction_error, (None, 0)))


@jax.jit
def summary(state):
    return demand_memory(state.h.shape[0]).summary(state)


@pytest.mark.parametrize("size", [1, 5, 6, 8, 9])
def test_linear_algebra_matches_numpy(size):
    rng = np.random.default_rng(size)
    root = rng.normal(size=(4, 3, size, size + 2))
    matrix = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(size)
    single = jnp.asarray(matrix, jnp.float32)
    inverse = linalg.spd_inverse(single)
    np.testing.assert_allclose(
        linalg.cholesky(single), np.linalg.cholesky(matrix), atol=1e-5
    )
    exact = np.linalg.inv(matrix)
    assert np.max(np.abs(inverse - exact)) < 2e-5 * np.max(np.abs(exact))
    if size <= linalg.UNROLLED_MAX:
        np.testing.assert_array_equal(inverse, np.swapaxes(inverse, -1, -2))


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize("decay", [1.0, 0.97])
def test_posterior_is_weighted_least_squares(size, decay):
    rng = np.random.default_rng(1)
    x = bayes.market_features(rng, 90, size)
    x, z = within_bound(x, bayes.log_sales(rng, x, theta(size), 0.4))
    x, z = x[:60], z[:60]
    prior = base_prior(size)
    state = learn(x, z, np.float32(decay))
    belief = posterior(state, prior)
    weights = decay ** np.arange(59, -1, -1)
    mean, covariance, variance = bayes.demand_posterior(x, z, weights, *prior.prior)
    np.testing.assert_allclose(belief.mean, mean, atol=2e-4)
    np.testing.assert_allclose(belief.covariance, covariance, atol=2e-5, rtol=1e-3)
    np.testing.assert_allclose(belief.noise_variance, variance, rtol=1e-4)
    np.testing.assert_allclose(
        belief.factor @ belief.factor.T, belief.covariance, atol=1e-6
    )
    np.testing.assert_allclose(state.n, np.sum(weights), rtol=1e-5)
    # The summary is the same information without the prior.
    shared = summary(state)
    inverse = np.linalg.inv(prior.covariance)
    total = np.linalg.inv(inverse + shared.precision)
    np.testing.assert_allclose(
        total @ (inverse @ prior.mean + shared.shift), mean, atol=1e-3
    )


def test_without_data_the_prior_is_the_posterior():
    memory = demand_memory(5)
    belief = posterior(memory.init(), memory.base_prior)
    np.testing.assert_allclose(belief.mean, memory.base_prior.mean, atol=1e-6)
    np.testing.assert_allclose(
        belief.covariance, memory.base_prior.covariance, rtol=1e-6
    )
    np.testing.assert_allclose(belief.noise_variance, demand.NOISE_STD**2, rtol=1e-6)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in summary(memory.init()))


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.2, 0.211), (0.45, 0.450), (0.8, 0.794)]
)
def test_noise_estimate_converges(sigma, expected):
    rng = np.random.default_rng(2)
    x = np.stack([bayes.market_features(rng, 200) for _ in range(64)])
    z = np.stack([bayes.log_sales(rng, row, theta(5), sigma) for row in x])
    states = jax.vmap(learn, (0, 0, None))(x, z, ONE)
    prior = base_prior(5)
    beliefs = posteriors(states, prior)
    estimate = np.mean(np.sqrt(beliefs.noise_variance))
    assert abs(estimate - expected) < 0.02 * expected
    # Calibrated: the true coefficients are as far off as the posterior states.
    gap = np.asarray(beliefs.mean) - theta(5)
    z2 = np.einsum("rf,rfg,rg->r", gap, np.linalg.inv(beliefs.covariance), gap) / 5
    assert 0.75 < np.mean(z2) < 1.25


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_steps_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    x = bayes.market_features(rng, 60)
    z = bayes.log_sales(rng, x, theta(5), 0.4)
    order = rng.permutation(60)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5),
        learn(x, z, ONE),
        learn(x[order], z[order], ONE),
    )


def test_sampled_demand_has_the_mean_of_its_exponential():
    rng = np.random.default_rng(3)
    x = bayes.market_features(rng, 60)
    belief = posterior(
        learn(x, bayes.log_sales(rng, x, theta(5), 0.4), ONE), base_prior(5)
    )
    features = np.repeat(x[:3, None], 20_000, axis=1)
    noise = rng.normal(size=features.shape[:-1]).astype(np.float32)
    draws = demand.sample_log_demand(belief, features, noise)
    mean = demand.mean_log_demand(belief, x[:3])
    np.testing.assert_allclose(np.mean(np.exp(draws), axis=-1), np.exp(mean), rtol=0.01)


def test_prediction_error_is_one_where_the_memory_is_right():
    rng = np.random.default_rng(4)
    x = bayes.market_features(rng, 2060)
    z = bayes.log_sales(rng, x, theta(5), 0.6)
    belief = posterior(learn(x[:60], z[:60], ONE), base_prior(5))
    blank = np.zeros(2000, np.float32)
    rows = Experience(x[60:], z[60:], blank[:, None], blank, blank)
    assert abs(np.mean(predict_errors(belief, rows)) - 1) < 0.2
    assert np.mean(predict_errors(belief, rows._replace(log_sales=z[60:] + 3))) > 10


@pytest.mark.parametrize("size", [5, 6])
def test_no_week_weighs_more_than_its_bound(size):
    assert RECORD_BOUND == modes.BOUND
    np.testing.assert_array_equal(base_prior(6).record_scale, modes.SCALE)
    rng = np.random.default_rng(size)
    x = (rng.normal(size=(200, size)) * 3 ** rng.normal(size=(200, 1))).astype(
        np.float32
    )
    z = (2 * rng.normal(size=200)).astype(np.float32)
    x[:50] *= 0.1
    scale = np.append(base_prior(size).record_scale, 0.7)
    sums = []
    for row in zip(x, z, strict=True):
        state = learn(row[0][None], row[1][None], ONE)
        edge = np.append(state.h, state.yy)
        full = np.block([[np.asarray(state.G), edge[:-1, None]], [edge[None]]])
        sums.append(np.outer(scale, scale) * full)
        record = modes.bounded_record(*row)
        np.testing.assert_allclose(sums[-1], np.outer(record, record), atol=1e-4)
    weight = np.trace(sums, axis1=1, axis2=2)
    assert np.max(weight) < RECORD_BOUND**2 * (1 + 1e-5)
    assert 20 < np.sum(weight > 0.999 * RECORD_BOUND**2) < 180  # both kinds occur
    replaced = [np.linalg.norm(a - b) for a in sums[:40] for b in sums[100:]]
    assert np.max(replaced) < SUM_SENSITIVITY * (1 + 1e-5)
    # All but the count is bounded; a clipped week is still a week.
    assert learn(x, z, ONE).n == 200


def test_clipped_weeks_are_on_the_same_curve():
    rng = np.random.default_rng(8)
    x = bayes.market_features(rng, 400)
    z = bayes.log_sales(rng, x, theta(5), 0.2)
    x[:, 1] *= 3
    z += ((2 / 3) * theta(5)[1] * x[:, 1]).astype(np.float32)
    clipped = sum(
        np.linalg.norm(a) > modes.BOUND for a in x * np.float32([1, 4, 1, 1, 1])
    )
    assert clipped > 150
    belief = posterior(learn(x, z, ONE), base_prior(5))
    np.testing.assert_allclose(belief.mean, theta(5), atol=0.05)


def grid(cost, count=201):
    """Candidates of an exponential demand at unit cost ``cost``."""
    actions = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
    price = 1.5 ** actions[:, 0]
    zero = np.zeros_like(price)
    features = np.stack([zero + 1, 1 - price, zero, zero, zero], axis=-1)
    return Candidates(actions, features, price - cost, np.int32(0))


exploration_std = jax.jit(demand_memory(5).optimal_exploration_std)


@settings(max_examples=20, deadline=None)
@given(slope=st.floats(2.0, 5.0), cost=st.floats(0.6, 0.8))
def test_certain_memory_finds_the_closed_form_price(slope, cost):
    candidates = grid(np.float32(cost))
    tiny = np.float32(1e-4) * np.eye(5, dtype=np.float32)
    mean = np.array([0, slope, 0, 0, 0], np.float32)
    belief = demand.Posterior(mean, tiny**2, ONE, tiny)
    best = np.clip(np.log(cost + 1 / slope) / np.log(1.5), -1, 1)
    action = np.asarray([best], np.float32)
    std = exploration_std(belief, candidates, action, jax.random.key(0))
    assert std <= 0.011  # one step of the grid


def test_spread_of_the_best_price_follows_its_first_order_error():
    slope, sd = 3.0, 0.15
    factor = np.diag(np.array([0.5, sd, 1e-3, 1e-3, 1e-3], np.float32))
    mean = np.array([0.3, slope, 0, 0, 0], np.float32)
    belief = demand.Posterior(mean, factor**2, ONE, factor)
    price = 0.7 + 1 / slope
    action = np.asarray([np.log(price) / np.log(1.5)], np.float32)
    keys = jax.random.split(jax.random.key(1), 50)
    std = jax.vmap(exploration_std, (None, None, None, 0))(
        belief, grid(np.float32(0.7)), action, keys
    )
    expected = sd / slope**2 / price / np.log(1.5)
    assert abs(np.mean(std) / expected - 1) < 0.1


def test_a_market_without_coefficients_is_refused():
    with pytest.raises(ConfigError, match="'demand' must be"):
        demand.make_demand_memory(())
