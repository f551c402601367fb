"""Membership inference: what messages of trained peers reveal about one week.

An attack measures the leak where no epsilon holds: it is a lower bound, another
attacker or more worlds may do better. ``leakage_bounds`` are what no attacker can beat.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmarks.leakage_game import EVERYTHING
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.pricing import make_pricing

_RESAMPLES = 1000
_MIN_WORLDS = 8
_TINY = 1e-12


class Leak(NamedTuple):
    """Chance that the attacker ranks a world with the record above one without.

    0.5 is blind, 1 is certain; ``low`` and ``high`` end a 95 % interval.
    """

    auc: float
    low: float
    high: float


def attack(sent: dict[str, np.ndarray], inside: int) -> dict[str, Leak]:
    """Attacks what a game's peer sent, channel by channel, with ``membership_auc``.

    Args:
      sent: by channel [R, M, N] the messages that the attacker has.
      inside: the first so many runs have the target, the others do not.
    """
    rows = {channel: x.reshape(len(x), -1) for channel, x in sent.items()}
    return {
        channel: membership_auc(x[:inside], x[inside:]) for channel, x in rows.items()
    }


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
    fit_in, score_in = np.array_split(inside[rng.permutation(len(inside))], 2)
    fit_out, score_out = np.array_split(outside[rng.permutation(len(outside))], 2)
    direction = _discriminant(fit_in, fit_out)
    gap = (score_in @ direction)[:, None] - score_out @ direction
    wins = 0.5 * (np.sign(gap) + 1.0)  # [n/2, m/2]: 1 above, 1/2 where it ties
    row_weight, column_weight = (
        rng.multinomial(n, np.full(n, 1.0 / n), _RESAMPLES) for n in wins.shape
    )
    resampled = ((row_weight @ wins) * column_weight).sum(axis=1) / wins.size
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Leak(float(wins.mean()), float(low), float(high))


def leakage_bounds(config: TrainConfig, releases: int) -> dict[str, float]:
    """The best that any attacker can do against the mechanisms of a mode.

    Gaussian mechanisms of multiplier z are μ-GDP with μ = 1/z, a randomised response
    of ε with μ = -2 Φ⁻¹(1/(1 + e^ε)): its trade-off curve lies above that of two
    Gaussians a distance μ apart, which it meets in its corner (Dong, Roth and Su
    2022). All of them together have the root of the sum of squares.

    Demand sums are bounded against the replacement of one record and of nothing else.
    A learner that goes on learning from the record charges other prices, so later
    records differ too; the bound then holds for the round of the record alone.

    Args:
      config: exchange.mode and privacy are read.
      releases: messages that the attacker has.

    Returns:
      By channel the largest area under the ROC curve, for the channels that have one
      below 1.
    """
    privacy, mode = config.privacy, config.exchange.mode
    if mode not in ("consortium", "public"):
        return {}

    def squared(multiplier: float) -> float:
        return multiplier**-2 if multiplier > 0 else math.inf

    plain_sums = privacy.release == "independent" or config.memory.decay == 1.0
    each = squared(privacy.value_noise)
    whole = squared(privacy.demand_noise) if plain_sums else math.inf
    costs = {"demand": whole * (releases if privacy.release == "independent" else 1)}
    if mode == "consortium":
        costs["counts"] = releases * each
        costs["values"] = 2 * releases * each  # noised counts decide what is shown
    else:
        if config.exchange.entropy_sharing:
            costs["entropy"] = releases * each
        response = -2.0 * special.ndtri(special.expit(-privacy.trend_epsilon))
        cells = make_pricing(config.environment).num_cells
        costs["trend"] = releases * cells * response**2
    if mode == "public" or not config.exchange.entropy_sharing:
        costs[EVERYTHING] = sum(costs.values())
    return {
        channel: gaussian_auc_bound(math.sqrt(cost))
        for channel, cost in costs.items()
        if math.isfinite(cost)
    }


def gaussian_auc_bound(distance: float) -> float:
    """The best area under the ROC curve against Gaussian mechanisms, Φ(μ / sqrt(2)).

    Their worst pair of worlds is a shift of μ = ``distance`` standard deviations
    (Dong, Roth and Su 2022): sqrt(releases) / multiplier, the multiplier being std
    over L2 sensitivity.
    """
    return float(special.ndtr(distance / math.sqrt(2.0)))


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
