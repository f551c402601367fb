"""How far the sellers of a population differ, as a knob.

Every parameter is moved along a scale on which any number is a valid one, away from
the population's mean there or towards it: x(h) = f⁻¹(m + h (f(x) - m)), m the mean of
f over the peers. So 0 makes all sellers alike and 1 leaves them as calibrated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.environments.calibration import MarketCalibration

_POSITIVE = np.log, np.exp
_CORRELATION = np.arctanh, np.tanh
_SHARE = lambda x: np.log(x / (1.0 - x)), lambda y: 1.0 / (1.0 + np.exp(-y))
# Below -1, where alone a seller has a best price.
_ELASTICITY = lambda x: np.log(-x - 1.0), lambda y: -1.0 - np.exp(y)
_LINEAR = (lambda x: x,) * 2

_SCALES = {
    "elasticity": _ELASTICITY,
    "cross_elasticity": _POSITIVE,
    "unit_cost": _SHARE,
    "cost_vol": _POSITIVE,
    "cost_persistence": _CORRELATION,
    "rival_vol": _POSITIVE,
    "rival_persistence": _CORRELATION,
    "season_amplitude": _POSITIVE,
    "demand_noise": _POSITIVE,
    "context": _LINEAR,
}


def rescale(sellers: MarketCalibration, heterogeneity: float) -> MarketCalibration:
    """The sellers, ``heterogeneity`` times as far from their mean.

    Args:
      sellers: parameters of P sellers, leaves [P, ...].
      heterogeneity: 0 makes them alike, 1 returns them as they are, bit for bit.

    Returns:
      float32 leaves of the same shapes, each within its range. Names and the
      informational ``reference_ratio`` stay.
    """
    if heterogeneity == 1.0:
        return sellers
    moved = {
        name: inverse(_stretch(scale(_exactly(sellers, name)), heterogeneity))
        for name, (scale, inverse) in _SCALES.items()
    }
    moved["season_phase"] = _turn(_exactly(sellers, "season_phase"), heterogeneity)
    return sellers._replace(
        **{name: value.astype(np.float32) for name, value in moved.items()}
    )


def _exactly(sellers: MarketCalibration, name: str) -> NDArray[np.float64]:
    return getattr(sellers, name).astype(np.float64)


def _stretch(value: NDArray, heterogeneity: float) -> NDArray:
    """Moves each row of [P, ...] away from the mean row, or towards it."""
    mean = value.mean(axis=0)
    return mean + heterogeneity * (value - mean)


def _turn(angle: NDArray, heterogeneity: float) -> NDArray:
    """The same on a circle: [P] radians, away from the mean direction by up to π."""
    mean = np.angle(np.exp(1j * angle).mean())
    away = np.angle(np.exp(1j * (angle - mean)))
    return np.angle(np.exp(1j * (mean + heterogeneity * away)))
