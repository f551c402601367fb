"""Binned memory against a dense Gaussian process."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.demand import bins
from p2p_sac_jax.types import Experience
from tests.reference import bayes

ONE = np.float32(1.0)


def learn(memory, actions, rewards, cells, decay):
    def step(state, row):
        action, reward, cell = row
        experience = Experience(jnp.zeros(1), jnp.zeros(()), action, reward, cell)
        return memory.update(state, experience, decay, ONE), None

    rows = (actions[:, None], rewards, cells)
    return jax.jit(lambda rows: jax.lax.scan(step, memory.init(), rows)[0])(rows)


@pytest.mark.parametrize(("steps", "decay"), [(1, 1.0), (60, 0.995), (3000, 1.0)])
def test_posterior_is_the_dense_gaussian_process(steps, decay):
    rng = np.random.default_rng(steps)
    memory = bins.make_binned_memory(20)
    actions = rng.uniform(-1, 1, steps).astype(np.float32)
    rewards = (1 - actions**2 / 2 + 0.3 * rng.normal(size=steps)).astype(np.float32)
    cells = rng.integers(0, 20, steps).astype(np.int32)
    state = learn(memory, actions, rewards, cells, np.float32(decay))

    weights = np.exp(-0.5 * ((actions[:, None] - np.linspace(-1, 1, 21)) / 0.08) ** 2)
    weights /= np.sum(weights, axis=-1, keepdims=True)
    weights *= (decay ** np.arange(steps - 1, -1, -1.0))[:, None]
    context = cells * 4 // 20
    belief = jax.jit(memory.posterior)(state, memory.base_prior)
    count, total, square = (
        np.stack([(weights * r[:, None])[context == c].sum(0) for c in range(4)])
        for r in (np.ones(steps), rewards, rewards**2)
    )
    np.testing.assert_allclose(state.n.T, count, atol=2e-4)
    within = np.where(count > 1e-6, square - total**2 / np.maximum(count, 1e-6), 0)
    noise = (5 * 0.45**2 + within.sum()) / (5 + count.sum())
    np.testing.assert_allclose(belief.noise_variance, noise, rtol=2e-3)
    for c in range(4):
        mean, covariance = bayes.binned_posterior(
            count[c], total[c], float(belief.noise_variance)
        )
        np.testing.assert_allclose(belief.mean[c], mean, atol=2e-3)
        np.testing.assert_allclose(belief.covariance[c], covariance, atol=5e-5)


def test_prior_factor_reproduces_the_prior():
    factor = bins.prior_factor()
    _, covariance = bayes.binned_posterior(np.zeros(21), np.zeros(21), 1.0)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-6)


def test_age_counts_steps_since_the_last_visit():
    memory = bins.make_binned_memory(1)
    actions = np.array([-1.0, 0.0, 0.0, 1.0], np.float32)
    state = learn(memory, actions, actions, np.zeros(4, np.int32), ONE)
    assert state.age.shape == (21, 1)
    assert [float(state.age[k, 0]) for k in (0, 5, 10, 20)] == [3, 4, 1, 0]
