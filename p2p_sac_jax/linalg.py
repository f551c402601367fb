"""Cholesky and inverse of the small symmetric matrices of Gaussian posteriors.

A memory's matrices are 5 x 5 or 6 x 6, and there is one for each peer, run and
pair of peers. Handing each to LAPACK costs more than the arithmetic does, so up to
``UNROLLED_MAX`` rows the elimination is unrolled into one rank-one update of the whole
batch per row. On a CPU the inverses of a population take about a tenth of the time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.types import Array

UNROLLED_MAX = 8  # rows


def cholesky(matrix: Array) -> Array:
    """Lower triangular ``L`` with ``L Lᵀ = matrix``.

    Args:
      matrix: ``[..., F, F]`` symmetric positive definite.

    Returns:
      ``[..., F, F]``.
    """
    size = matrix.shape[-1]
    if size > UNROLLED_MAX:
        return jnp.linalg.cholesky(matrix)
    rest, columns = matrix, []
    for k in range(size):
        column = rest[..., :, k] * jax.lax.rsqrt(rest[..., k, k, None])
        columns.append(column)
        rest = rest - _outer(column, column)
    # Above the diagonal nothing but rounding is left.
    lower = np.broadcast_to(np.tri(size, dtype=bool), matrix.shape)
    return jnp.where(lower, jnp.stack(columns, axis=-1), 0.0)


def spd_inverse(matrix: Array) -> Array:
    """Inverse of symmetric positive definite matrices, exactly symmetric.

    Gauss-Jordan elimination, which needs no pivoting here (Higham 2002, chapter 14),
    of the matrix scaled to a unit diagonal: pivots then never exceed 1, and the
    update that serves pivot row, pivot column and the rest alike cancels no digits.

    Args:
      matrix: ``[..., F, F]``.

    Returns:
      ``[..., F, F]``.
    """
    size = matrix.shape[-1]
    scale = jax.lax.rsqrt(jnp.diagonal(matrix, axis1=-2, axis2=-1))
    scales = _outer(scale, scale)
    rest = matrix * scales
    if size > UNROLLED_MAX:
        rest = jnp.linalg.inv(rest)
    else:
        for k in range(size):
            unit = jnp.broadcast_to(np.eye(size, dtype=np.float32)[k], scale.shape)
            row = (rest[..., k, :] - unit) / rest[..., k, k, None]
            rest = rest - _outer(rest[..., :, k] + unit, row)
    return 0.5 * (rest + jnp.swapaxes(rest, -1, -2)) * scales


def _outer(column: Array, row: Array) -> Array:
    """``[..., F]`` and ``[..., F]`` to ``[..., F, F]``."""
    return jnp.expand_dims(column, -1) * jnp.expand_dims(row, -2)
