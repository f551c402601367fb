"""Membership inference: how well an attacker can tell that one record was present.

It measures the leak where no epsilon holds. It is a lower bound: an attacker with a
better statistic, or more worlds, may do better.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import special

from p2p_sac_jax.config import ConfigError

_RESAMPLES = 1000
_MIN_WORLDS = 8
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Leak:
    """Chance that the attacker ranks a world with the record above one without.

    0.5 is blind, 1 is certain; ``low`` and ``high`` end a 95 % interval.
    """

    auc: float
    low: float
    high: float


def membership_auc(inside: np.ndarray, outside: np.ndarray, *, seed: int = 0) -> Leak:
    """Attacks released vectors with a linear discriminant, fitted and held out.

    Half of the worlds give the attacker means and a covariance shrunk towards the
    identity (Ledoit and Wolf 2004), which make the likelihood ratio of two Gaussians
    of one covariance; the other half is scored. The interval is a percentile
    bootstrap over scored worlds, the attacker held fixed.

    Args:
      inside: [n, N] what left a peer in worlds with the target record, n >= 8.
      outside: [m, N] the same in worlds without it, m >= 8.
      seed: of the halves and the bootstrap.

    Returns:
      Area under the attacker's ROC curve and its 95 % interval.

    Raises:
      ConfigError: shapes that do not fit, too few worlds, entries not finite.
    """
    inside, outside = _worlds("inside", inside), _worlds("outside", outside)
    if inside.shape[1] != outside.shape[1]:
        raise ConfigError(
            f"outside={outside.shape} must have {inside.shape[1]} columns, as inside"
        )
    rng = np.random.default_rng(seed)
    fit_in, score_in = _halves(rng, inside)
    fit_out, score_out = _halves(rng, outside)
    direction = _discriminant(fit_in, fit_out)
    gap = (score_in @ direction)[:, None] - score_out @ direction
    wins = 0.5 * (np.sign(gap) + 1.0)  # [n/2, m/2]: 1 above, 1/2 where it ties
    row_weight, column_weight = (
        rng.multinomial(n, np.full(n, 1.0 / n), _RESAMPLES) for n in wins.shape
    )
    resampled = ((row_weight @ wins) * column_weight).sum(axis=1) / wins.size
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Leak(float(wins.mean()), float(low), float(high))


def gaussian_auc_bound(noise_multiplier: float, releases: int = 1) -> float:
    """The best area under the ROC curve against Gaussian mechanisms.

    Their worst pair of worlds is a shift of μ = sqrt(releases) / multiplier standard
    deviations (Dong, Roth and Su 2022), whose ratio test has area Φ(μ / sqrt(2)). The
    multiplier is std over L2 sensitivity; 0 is no noise.
    """
    if releases <= 0:
        return 0.5
    if noise_multiplier <= 0:
        return 1.0
    return float(special.ndtr(math.sqrt(releases / 2.0) / noise_multiplier))


def _worlds(name: str, released: np.ndarray) -> np.ndarray:
    released = np.asarray(released, np.float64)
    if released.ndim != 2 or released.shape[0] < _MIN_WORLDS or not released.shape[1]:
        raise ConfigError(
            f"{name}={released.shape} must be [worlds, numbers], {_MIN_WORLDS} worlds"
            " or more"
        )
    if not np.isfinite(released).all():
        raise ConfigError(f"{name}={released.shape} must be finite everywhere")
    return released


def _halves(rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x[rng.permutation(len(x))]
    return x[: len(x) // 2], x[len(x) // 2 :]


def _discriminant(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Direction [N] of the likelihood ratio: Σ⁻¹ (mean inside - mean outside)."""
    spread = np.concatenate([inside, outside]).std(axis=0)
    # A constant column has no information and no scale.
    informs = spread > _TINY * np.maximum(np.abs(inside).max(axis=0), 1.0)
    scale = np.where(informs, spread, np.inf)
    shift = (inside.mean(axis=0) - outside.mean(axis=0)) / scale
    within = [x - x.mean(axis=0) for x in (inside, outside)]
    covariance = _shrunk_covariance(np.concatenate(within) / scale)
    return np.linalg.solve(covariance, shift) / scale


def _shrunk_covariance(x: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf estimate [N, N] from centred rows [n, N]; positive definite."""
    rows, columns = x.shape
    sample = x.T @ x / rows
    level = max(float(np.trace(sample)) / columns, _TINY)
    away = float(np.square(sample - level * np.eye(columns)).sum())
    noise = (np.square(x).sum(axis=1) ** 2).sum() / rows - np.square(sample).sum()
    share = min(float(noise) / rows / away, 1.0) if away > _TINY else 1.0
    # A little of the identity always stays: duplicate columns are singular.
    share = max(share, 1e-6)
    return (1.0 - share) * sample + share * level * np.eye(columns)
