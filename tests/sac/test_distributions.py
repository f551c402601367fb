"""The tanh-Gaussian against scipy, and its stability far out in the tails."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from p2p_sac_jax.sac.distributions import entropy, squash

_squash = jax.jit(squash)
_floats = st.lists(st.floats(-2.0, 1.0, width=32), min_size=6, max_size=6)


@settings(deadline=None, max_examples=20)
@given(mean=_floats, log_std=_floats, seed=st.integers(0, 2**31 - 1))
def test_log_prob_matches_change_of_variables(mean, log_std, seed):
    mean = np.asarray(mean, np.float32).reshape(3, 2)
    log_std = np.asarray(log_std, np.float32).reshape(3, 2)
    noise = np.random.default_rng(seed).standard_normal((3, 2), np.float32)
    action, log_prob = _squash(mean, log_std, noise)
    u = mean + np.exp(log_std.astype(np.float64)) * noise
    gaussian = stats.norm.logpdf(u, mean, np.exp(log_std.astype(np.float64)))
    expected = (gaussian - 2.0 * np.log(1.0 / np.cosh(u))).sum(-1)
    np.testing.assert_allclose(action, np.tanh(u), atol=1e-5)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)


def test_mean_log_prob_of_the_draws_equals_quadrature():
    mean, std = 0.4, 0.7

    def density(action):
        u = np.arctanh(action)
        return stats.norm.pdf(u, mean, std) / (1.0 - action**2)

    exact = integrate.quad(
        lambda a: density(a) * np.log(density(a)), -0.9999999, 0.9999999
    )[0]
    shape = (200_000, 1)
    noise = jax.random.normal(jax.random.key(0), shape)
    _, log_prob = _squash(jnp.full(shape, mean), jnp.full(shape, np.log(std)), noise)
    np.testing.assert_allclose(log_prob.mean(), exact, atol=0.01)


def test_saturated_samples_have_finite_log_prob_and_gradient():
    def total(mean):
        noise = jax.random.normal(jax.random.key(1), mean.shape)
        action, log_prob = squash(mean, jnp.zeros_like(mean), noise)
        return log_prob.sum() + action.sum()

    mean = jnp.asarray([-200.0, -20.0, 20.0, 200.0])[:, None]
    value, grad = jax.value_and_grad(total)(mean)
    assert np.isfinite(value)
    # Far out, log(1 - tanh²(u)) -> -2 |u|, so the log-density grows by 2 |u|.
    np.testing.assert_allclose(grad[:, 0], [-2.0, -2.0, 2.0, 2.0], atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(log_std=_floats)
def test_entropy_matches_scipy(log_std):
    log_std = np.asarray(log_std, np.float32).reshape(3, 2)
    std = np.exp(log_std.astype(np.float64))
    np.testing.assert_allclose(
        entropy(jnp.asarray(log_std)), stats.norm.entropy(scale=std).sum(-1), atol=1e-5
    )
