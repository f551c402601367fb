"""Noise of releases: closed forms, covariances over many keys, true frequencies."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from p2p_sac_jax.privacy.noise import (
    expected_sign,
    gaussian,
    randomised_response,
    stream_coefficients,
    stream_factor,
    stream_noise,
    stream_std,
)

HORIZON, SHAPE = 6, (2, 3)
STD = 1.7


@jax.jit
def stream(key, round_index):
    return stream_noise(key, round_index, HORIZON, SHAPE, STD)


def left_factor(horizon):
    """B of A = B B, from binomial coefficients."""
    f = special.binom(2 * np.arange(horizon), np.arange(horizon))
    f = f / 4.0 ** np.arange(horizon)
    B = np.zeros((horizon, horizon))
    for t in range(horizon):
        for s in range(t + 1):
            B[t, s] = f[t - s]
    return B


@pytest.mark.parametrize("horizon", [1, 2, 9])
def test_the_factor_is_a_root_of_the_prefix_sums(horizon):
    B = left_factor(horizon)
    np.testing.assert_allclose(stream_coefficients(horizon), B[:, 0], rtol=1e-12)
    np.testing.assert_allclose(B @ B, np.tri(horizon), atol=1e-12)
    norms = np.linalg.norm(B, axis=0)
    np.testing.assert_allclose(stream_factor(horizon), norms.max(), rtol=1e-12)


def test_the_factor_grows_like_the_root_of_a_logarithm():
    """1 + ln(T) / π <= Σ f_k² <= 1 + (1 + ln T) / π."""
    for horizon in (1, 10, 1_000, 100_000):
        square = stream_factor(horizon) ** 2
        assert 1.0 + math.log(horizon) / math.pi <= square + 1e-12
        assert square <= 1.0 + (1.0 + math.log(horizon)) / math.pi


def test_a_stream_has_the_covariance_of_the_factorisation():
    keys = jax.random.split(jax.random.key(0), 4_000)
    rounds = jnp.arange(HORIZON)
    draw = jax.jit(jax.vmap(jax.vmap(stream, (None, 0)), (0, None)))
    noise = np.asarray(draw(keys, rounds), np.float64)  # [keys, T, 2, 3]
    assert noise.shape == (4_000, HORIZON, *SHAPE)
    samples = np.moveaxis(noise, 1, -1).reshape(-1, HORIZON)
    B = left_factor(HORIZON)
    expected = STD**2 * B @ B.T
    # Standard errors of covariances are at most their scale · sqrt(2 / samples).
    error = 5.0 * np.sqrt(2.0 / len(samples)) * expected.max()
    np.testing.assert_allclose(np.cov(samples.T), expected, atol=error)
    np.testing.assert_allclose(samples.mean(axis=0), 0.0, atol=0.06)
    std = [stream_std(HORIZON, t, STD) for t in range(HORIZON)]
    np.testing.assert_allclose(std, np.sqrt(np.diag(expected)), rtol=1e-6)
    # Entries of one release are independent.
    flat = noise[:, -1].reshape(len(keys), -1)
    off = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(off).max() < 5.0 / np.sqrt(len(keys))


def test_rounds_share_the_draws_of_the_past():
    """The noise of a round is recomputed, the draws behind it are the same."""
    key = jax.random.key(3)
    noise = np.stack([np.asarray(stream(key, t)) for t in range(HORIZON)])
    B = left_factor(HORIZON)
    draws = [
        STD * np.asarray(jax.random.normal(jax.random.fold_in(key, s), SHAPE))
        for s in range(HORIZON)
    ]
    np.testing.assert_allclose(noise, np.tensordot(B, draws, axes=1), atol=1e-5)
    np.testing.assert_array_equal(stream(key, 2), noise[2])


def test_a_stream_goes_on_and_a_number_in_it_costs_what_it_did():
    """Noise beyond the horizon is B g of a factorisation with the same sensitivity."""
    key, length = jax.random.key(3), 3 * HORIZON + 2
    noise = np.stack([np.asarray(stream(key, t)) for t in range(length)])
    blocks = np.kron(np.eye(4), left_factor(HORIZON))[:length, :length]
    B = np.tri(length) @ np.linalg.inv(blocks)  # of A = B C, C of blocks
    draws = [
        STD * np.asarray(jax.random.normal(jax.random.fold_in(key, s), SHAPE))
        for s in range(length)
    ]
    np.testing.assert_allclose(noise, np.tensordot(B, draws, axes=1), atol=1e-4)
    norms = np.linalg.norm(blocks, axis=0)
    np.testing.assert_allclose(norms.max(), stream_factor(HORIZON), rtol=1e-12)
    std = [stream_std(HORIZON, t, STD) for t in range(length)]
    np.testing.assert_allclose(std, STD * np.linalg.norm(B, axis=1), rtol=1e-5)
    # No combination of two releases is without noise.
    assert np.linalg.matrix_rank(B) == length


def test_one_compilation_serves_every_round_and_noise_can_be_off():
    traces = []

    @jax.jit
    def run(key):
        def step(t, _):
            traces.append(1)
            return t + 1, stream_noise(key, t, HORIZON, (), 0.0)

        return jax.lax.scan(step, jnp.int32(0), length=HORIZON)[1]

    np.testing.assert_array_equal(run(jax.random.key(0)), np.zeros(HORIZON))
    assert len(traces) == 1
    np.testing.assert_array_equal(gaussian(jax.random.key(0), (3,), 0.0), np.zeros(3))


def test_gaussian_has_its_std():
    std = np.asarray([0.5, 3.0], np.float32)
    x = np.asarray(
        jax.vmap(lambda key: gaussian(key, (2,), std))(
            jax.random.split(jax.random.key(1), 20_000)
        )
    )
    np.testing.assert_allclose(x.std(axis=0), std, rtol=0.03)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.1)
    assert x.dtype == np.float32


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_signs_are_kept_as_often_as_epsilon_allows(epsilon):
    draws = 100_000
    sign = np.repeat(np.asarray([[-2.0, 0.0, 0.5]], np.float32), draws, axis=0)
    response = jax.jit(randomised_response)(jax.random.key(2), sign, epsilon)
    response = np.asarray(response)
    assert set(np.unique(response)) == {-1.0, 1.0}
    truth = math.exp(epsilon) / (1.0 + math.exp(epsilon))
    often = (response > 0).mean(axis=0)
    error = 5.0 * 0.5 / math.sqrt(draws)
    np.testing.assert_allclose(often, [1.0 - truth, 0.5, truth], atol=error)
    keep = 2.0 * truth - 1.0
    unbiased = np.asarray(expected_sign(response, epsilon)).mean(axis=0) / keep**2
    scale = 2.0 * error / keep
    np.testing.assert_allclose(unbiased, [-1.0, 0.0, 1.0], atol=scale)


def test_every_answer_stays_possible_at_any_epsilon():
    """The chance of a flip is never below the one the guarantee needs."""
    sign = np.ones(2**22, np.float32)
    flips = np.asarray(jax.jit(randomised_response)(jax.random.key(4), sign, 12.0)) < 0
    asked = 2**22 / (1.0 + math.exp(12.0))  # 26 of them
    assert flips.sum() > asked - 5.0 * math.sqrt(asked)


def test_a_response_is_read_as_its_posterior_mean():
    """Of signs that are up or down alike, given what was answered."""
    epsilon, draws = 1.0, 200_000
    sign = np.where(np.arange(draws) % 2, 1.0, -1.0).astype(np.float32)
    response = np.asarray(randomised_response(jax.random.key(3), sign, epsilon))
    read = np.asarray(expected_sign(response, epsilon))
    for answer in (-1.0, 1.0):
        behind = sign[response == answer].mean()
        np.testing.assert_allclose(read[response == answer], behind, atol=0.01)
