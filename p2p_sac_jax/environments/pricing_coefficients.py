"""Coefficients of log demand in the pricing market.

Prices move by a few tenths, so the weight ``scale`` of the price regressor is the
largest. Of the weeks that memory and network arms see in the shipped market, .06 %
(population chain), .5 % (brands) and .5 % (with a reference price) are beyond
``privacy.clipping.RECORD_BOUND`` with these weights.
"""

from __future__ import annotations

from p2p_sac_jax.coefficients import CoefficientSpec

# Columns: prior mean and std; spread between peers and its floor; public box; scale;
# usual square.
LEVEL = CoefficientSpec("level", 0.0, 1.0, 0.05, 0.04, -2.0, 2.0, 1.0, 1.0)
PRICE = CoefficientSpec(
    "price", 2.0, 2.0, 0.3, 0.15, 0.0, 6.0, 4.0, 0.04, own_price=True
)
REFERENCE_PRICE = CoefficientSpec(
    "reference_price", 0.0, 0.5, 0.1, 0.05, -2.0, 2.0, 2.0, 0.01, own_price=True
)
RIVAL_PRICE = CoefficientSpec("rival_price", 0.0, 1.0, 0.1, 0.05, -2.0, 2.0, 1.0, 0.01)
SEASON_COS = CoefficientSpec("season_cos", 0.0, 0.3, 0.02, 0.01, -2.0, 2.0, 0.5, 0.5)
SEASON_SIN = CoefficientSpec("season_sin", 0.0, 0.3, 0.02, 0.01, -2.0, 2.0, 0.5, 0.5)


def pricing_coefficients(reference_price: bool) -> tuple[CoefficientSpec, ...]:
    """The regressors 1, -(p-1), [-(p-r)], y, cos, sin; the third on request."""
    reference = (REFERENCE_PRICE,) if reference_price else ()
    return (LEVEL, PRICE, *reference, RIVAL_PRICE, SEASON_COS, SEASON_SIN)
