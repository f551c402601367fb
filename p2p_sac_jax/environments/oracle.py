"""The closed-form optimal price of a logit seller.

Prices and costs share one currency unit; sensitivities are its inverse.

Source: Corless et al. (1996), "On the Lambert W function".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array

_HALLEY_STEPS = 12
_MAX_EXPONENT = 80.0  # exp of it still is a finite float32


def lambert_w(z: Array) -> Array:
    """Principal branch of W(z) exp(W(z)) = z for z >= 0; shape kept.

    Twelve Halley steps from log1p(z), in the form divided by exp(w) so that
    large z does not overflow; exact to float32 (Corless et al. 1996, eq. 5.9).
    """

    def halley(_: int, w: Array) -> Array:
        gap = w - z * jnp.exp(-w)
        return w - gap / (w + 1.0 - (w + 2.0) * gap / (2.0 * w + 2.0))

    return jax.lax.fori_loop(0, _HALLEY_STEPS, halley, jnp.log1p(z))


def logit_price(
    sensitivity: Array, cost: Array, appeal: Array, rival_odds: Array
) -> Array:
    """Optimal price of a logit seller beside an outside option and a fixed rival.

    Share is e^u / (1 + e^u + rival_odds) with u = appeal - sensitivity p. The
    first-order condition p = c + 1/(sensitivity (1 - share)) solves to
    c + (1 + W) / sensitivity; the share at the optimum is W / (1 + W).

    Args:
      sensitivity: [] utility lost per unit of price, > 0.
      cost: [] unit cost.
      appeal: [] all utility terms without the price.
      rival_odds: [] exp of the rival's utility, 0 without a rival.
    """
    exponent = appeal - sensitivity * cost - 1.0 - jnp.log1p(rival_odds)
    markup = 1.0 + lambert_w(jnp.exp(jnp.minimum(exponent, _MAX_EXPONENT)))
    return cost + markup / sensitivity
