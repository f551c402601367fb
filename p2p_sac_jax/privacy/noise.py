"""Noise of what leaves a peer: Gaussian, correlated for streams, and random signs.

A release is noised with ``std = multiplier · sensitivity``; what guarantee that
makes is computed in ``accountant``. The draws are those of float32 and of a
counter-based generator: right in distribution, not hardened against an attacker
who reads the last bits of a release (Mironov 2012).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.types import Array


def gaussian(key: Array, shape: tuple[int, ...], std: Array | float) -> Array:
    """Independent Gaussian noise.

    Args:
      key: typed key, used once.
      shape: of the result.
      std: [], or of ``shape``.

    Returns:
      ``shape``, float32, exactly 0 where ``std`` is 0.
    """
    return jnp.asarray(std, jnp.float32) * jax.random.normal(key, shape, jnp.float32)


def stream_coefficients(horizon: int) -> np.ndarray:
    """First column of the square root of the prefix-sum matrix.

    Prefix sums of T numbers are A x, A lower triangular and all ones. A = B C with
    B = C, Toeplitz, of coefficients f_k = binom(2k, k) / 4^k (Fichtenberger,
    Henzinger and Upadhyay 2023; Henzinger, Upadhyay and Upadhyay 2023). Noise g
    added to C x leaves as B g on every prefix sum: far less than noise for each
    release, as later rounds share what earlier ones drew.

    Args:
      horizon: T, number of rounds, at least 1.

    Returns:
      [T] float64, from 1 downwards.
    """
    k = np.arange(1, horizon, dtype=np.float64)
    return np.concatenate([np.ones(1), np.cumprod((2.0 * k - 1.0) / (2.0 * k))])


def stream_factor(horizon: int) -> float:
    """Sensitivity of C x to a number that enters the sums once: ‖C‖ of columns.

    The noise of a stream needs ``std = multiplier · sensitivity · stream_factor``,
    whatever the number of its rounds that are released.

    Args:
      horizon: number of rounds of a block, at least 1.

    Returns:
      sqrt(Σ_k f_k²), 1 for one round, growing like the root of a logarithm.
    """
    return float(np.linalg.norm(stream_coefficients(horizon)))


def stream_noise(
    key: Array,
    round_index: Array,
    horizon: int,
    shape: tuple[int, ...],
    std: Array | float,
) -> Array:
    """Noise of the running sums in round t, B g in row t; streams do not end.

    C repeats the block of ``stream_coefficients`` along its diagonal every T rounds,
    so a number that enters once meets one block and its sensitivity stays
    ``stream_factor``, however long the stream. B = A C⁻¹ adds to the noise of the
    running block, Σ_s f_{t-s} g_s over its rounds s ≤ t, the last noise of every
    block before it. The draws g_s come from ``fold_in(key, s)``, so nothing is carried
    from round to round and one key gives one stream. Costs T draws of ``shape`` a
    block.

    Args:
      key: typed key of the stream, the same in every round and used for this alone.
      round_index: [] int32, t, not negative.
      horizon: T, static number of rounds of a block.
      shape: of the sums.
      std: [], of each g_s.

    Returns:
      ``shape``, float32, of standard deviation ``stream_std``.
    """
    rounds = np.arange(horizon, dtype=np.int32)
    coefficients = jnp.asarray(stream_coefficients(horizon), jnp.float32)

    def draw(index: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)

    def block(first: Array, t: Array) -> Array:
        back = t - first - rounds  # [T], t - s
        weight = jnp.where(back >= 0, coefficients[jnp.maximum(back, 0)], 0.0)
        draws = jax.vmap(draw)(first + rounds)  # [T, *shape]
        return jnp.tensordot(weight, draws, axes=1, precision="highest")

    def add(number: Array, total: Array) -> Array:
        first = number * horizon
        return total + block(first, first + horizon - 1)

    blocks = round_index // horizon
    running = block(blocks * horizon, round_index)
    total = jax.lax.fori_loop(0, blocks, add, running)
    return jnp.asarray(std, jnp.float32) * total


def stream_std(horizon: int, round_index: Array, std: Array | float) -> Array:
    """Standard deviation of ``stream_noise``.

    Its square is that of ``std`` times Σ_{k ≤ t} f_k² in the first block, and grows by
    ``stream_factor`` squared with every block.

    Args:
      horizon: T, static number of rounds of a block.
      round_index: [] int32, t, not negative.
      std: [], of each draw.

    Returns:
      [] float32.
    """
    growth = np.sqrt(np.cumsum(stream_coefficients(horizon) ** 2)).astype(np.float32)
    blocks, within = jnp.divmod(jnp.asarray(round_index), horizon)
    running = jnp.asarray(growth)[within]
    before = jnp.sqrt(jnp.asarray(blocks, jnp.float32)) * growth[-1]
    total = jnp.where(blocks > 0, jnp.hypot(running, before), running)
    return jnp.asarray(std, jnp.float32) * total


def randomised_response(key: Array, sign: Array, epsilon: Array | float) -> Array:
    """Releases a sign unchanged with chance e^ε / (1 + e^ε) (Warner 1965).

    Where there is no sign a fair coin is released, which shows no more than a
    sign does. Each entry is ε-differentially private.

    Args:
      key: typed key, used once.
      sign: [...] positive, negative or 0.
      epsilon: [], positive. Above 16 the grid of float32 uniforms flips a
        little more often than asked, never less.

    Returns:
      [...] float32, -1 or 1.
    """
    flip = jax.nn.sigmoid(-jnp.asarray(epsilon, jnp.float32))
    truth = jnp.where(sign < 0, -1.0, 1.0)
    chance = jnp.where(sign == 0, 0.5, flip)
    uniform = jax.random.uniform(key, jnp.shape(sign), jnp.float32)
    return jnp.where(uniform < chance, -truth, truth)


def expected_sign(response: Array, epsilon: Array | float) -> Array:
    """Posterior mean of the sign behind a response: tanh(ε/2) · response.

    Of a sign that was as likely up as down. A mean of n such readings, divided by
    tanh²(ε/2), is unbiased.

    Args:
      response: [...] -1 or 1.
      epsilon: [], positive, that of the response.

    Returns:
      [...] float32 in (-1, 1).
    """
    return jnp.tanh(0.5 * jnp.asarray(epsilon, jnp.float32)) * response
