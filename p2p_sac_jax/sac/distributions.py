"""The tanh-Gaussian policy: a = tanh(u), u ~ N(mean, std²), dimensions independent.

Actions and their log-probabilities only ever come as a pair: the inverse tanh of
a saturated action is infinite, so the log-probability of an action alone is not
safe to compute (Haarnoja et al. 2018, appendix C).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_HALF_LOG_TWO_PI_E = _HALF_LOG_TWO_PI + 0.5
_LOG_TWO = math.log(2.0)


def squash(mean: Array, log_std: Array, noise: Array) -> tuple[Array, Array]:
    """Actions by reparameterisation, with their log-probabilities.

    Args:
      mean: [..., A] of the Gaussian before the tanh.
      log_std: [..., A] log standard deviation before the tanh.
      noise: [..., A] standard normal.

    Returns:
      Actions [..., A] in [-1, 1] and log-densities [...] in nats.
    """
    pre_tanh = mean + jnp.exp(log_std) * noise
    # log(1 - tanh²(u)) = 2 (ln 2 - u - softplus(-2u)), finite for every u.
    log_slope = 2.0 * (_LOG_TWO - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    log_density = -0.5 * jnp.square(noise) - log_std - _HALF_LOG_TWO_PI - log_slope
    return jnp.tanh(pre_tanh), log_density.sum(axis=-1)


def entropy(log_std: Array) -> Array:
    """Entropy [...] in nats of the Gaussian *before* the tanh; log_std is [..., A].

    H = Σ_a (ln σ_a + ½ ln 2πe). Unlike the squashed policy's entropy it can be
    turned back into a standard deviation.
    """
    return (log_std + _HALF_LOG_TWO_PI_E).sum(axis=-1)
