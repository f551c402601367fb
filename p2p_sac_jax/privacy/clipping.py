"""How much one real week may weigh in what a peer remembers of its demand.

A week's record is its regressors ``x`` and log sales ``z``. Its weighted norm
``‖(D x, c z)‖`` is bounded by ``RECORD_BOUND``, so that replacing one week moves the
sums of ``u uᵀ``, ``u = (D x, c z)``, by at most ``SUM_SENSITIVITY`` in Frobenius
norm: ``‖u uᵀ - v vᵀ‖² = ‖u‖⁴ + ‖v‖⁴ - 2 (u·v)² <= 2 B⁴``. All numbers here are public.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from p2p_sac_jax.types import Array

LOG_SALES_SCALE = 0.7  # c
RECORD_BOUND = 2.75  # B; each environment states how many weeks exceed it
LEAST_NOISE_VARIANCE = 0.02  # of log sales: no market is quieter than this
SUM_SENSITIVITY = math.sqrt(2.0) * RECORD_BOUND**2


def clip_record(features: Array, log_sales: Array, scale: Array) -> tuple[Array, Array]:
    """Scales a record down to the bound, regressors and outcome alike.

    A record scaled by ``c`` is the same observation at weight ``c²``: it is still on
    the same demand curve, so clipping biases no coefficient.

    Args:
      features: ``[F]``.
      log_sales: ``[]``.
      scale: ``[F]`` weights ``D`` of the features, ``BasePrior.record_scale``.

    Returns:
      Both, unchanged where the norm is within the bound.
    """
    weighted = scale * features
    norm = jnp.sqrt(jnp.sum(weighted**2) + (LOG_SALES_SCALE * log_sales) ** 2)
    shrink = jnp.minimum(1.0, RECORD_BOUND / jnp.maximum(norm, RECORD_BOUND))
    return shrink * features, shrink * log_sales
