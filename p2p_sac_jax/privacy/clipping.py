"""How much one real week may weigh in what a peer remembers of its demand.

A week's record is its regressors ``x`` and log sales ``z``. Its weighted norm
``‖(D x, c z)‖`` is bounded by ``RECORD_BOUND``, so that replacing one week moves the
sums of ``u uᵀ``, ``u = (D x, c z)``, by at most ``SUM_SENSITIVITY`` in Frobenius
norm: ``‖u uᵀ - v vᵀ‖² = ‖u‖⁴ + ‖v‖⁴ - 2 (u·v)² <= 2 B⁴``. All numbers here are public.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.types import Array

# Weights D by coefficient: level, slope, (reference price), rival, cos, sin; then c
# of log sales. Prices move by a few tenths, so the slope's regressor is weighed up:
# noise of one size for all sums then costs level and slope about the same.
RECORD_SCALE = (1.0, 4.0, 2.0, 1.0, 0.5, 0.5)
LOG_SALES_SCALE = 0.7
# Of the weeks that memory and network arms live through in the shipped market, .06 %
# (population chain), .5 % (brands) and .5 % (with a reference price) lie beyond it.
RECORD_BOUND = 2.75
LEAST_NOISE_VARIANCE = 0.02  # of log sales: no market is quieter than this
SUM_SENSITIVITY = math.sqrt(2.0) * RECORD_BOUND**2

_REFERENCE = 2  # the coefficient left out where there is no reference effect


def record_scale(num_features: int) -> np.ndarray:
    """``D`` for 5 features, or 6 with a reference price: ``[F]`` float32."""
    keep = [i for i in range(6) if num_features == 6 or i != _REFERENCE]
    return np.asarray(RECORD_SCALE, np.float32)[keep]


def clip_record(features: Array, log_sales: Array) -> tuple[Array, Array]:
    """Scales a record down to the bound, regressors and outcome alike.

    A record scaled by ``c`` is the same observation at weight ``c²``: it still lies on
    the same demand curve, so clipping biases no coefficient.

    Args:
      features: ``[F]``, ``F`` is 5 or 6.
      log_sales: ``[]``.

    Returns:
      Both, unchanged where the norm is within the bound.
    """
    weighted = record_scale(features.shape[-1]) * features
    norm = jnp.sqrt(jnp.sum(weighted**2) + (LOG_SALES_SCALE * log_sales) ** 2)
    shrink = jnp.minimum(1.0, RECORD_BOUND / jnp.maximum(norm, RECORD_BOUND))
    return shrink * features, shrink * log_sales
