"""Statistics over populations: the sampling unit is the population, never the peer.

Peers of one population share a market, its noise and their messages, so a population
is one draw, and its seed is what is resampled. Intervals are 95 % percentile intervals
of ``scipy.stats.bootstrap``, as in Agarwal et al. (2021), "Deep reinforcement learning
at the edge of the statistical precipice".

For the IQM of n seeds drawn from a normal, a log-normal or a t(3) distribution (2000
samples each) they cover .68-.76 at n = 3, .89-.90 at 5, .93-.94 at 10, .94-.95 at 20;
for the mean .69-.75, .76-.85, .85-.90, .88-.93. BCa covers at most .03 more, less with
heavy tails, and is undefined where all seeds agree. So there is no interval below
``FEWEST_SEEDS``, and a result needs ten seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
FEWEST_SEEDS = 5  # that an interval is made of
_ENDS = ((1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2)

Array = np.ndarray
Statistic = Callable[..., Any]  # (values, axis) -> values without that axis


class Estimate(NamedTuple):
    """A value and its interval, which is NaN below ``FEWEST_SEEDS`` seeds."""

    value: float
    low: float
    high: float


def iqm(values: ArrayLike, axis: int = -1) -> Any:
    """Interquartile mean: without the lowest and the highest quarter.

    As in ``scipy.stats.trim_mean``, floor(n / 4) values go at either end: all of
    three or fewer count, the middle three of five, the middle six of ten.
    """
    from scipy import stats  # slow to import, and a run of one seed needs none of it

    return stats.trim_mean(values, 0.25, axis=axis)


def median(values: ArrayLike, axis: int = -1) -> Any:
    """The lower median; inf stands for a value censored at the end of the run.

    This is the Kaplan-Meier median where all censoring happens at the same end. Of an
    even number it is the lower of the middle two, as a mean with inf is undefined.
    """
    ordered = np.sort(np.asarray(values, float), axis=axis)
    return np.take(ordered, (ordered.shape[axis] - 1) // 2, axis=axis)


def estimate(values: ArrayLike, statistic: Statistic = iqm) -> Estimate:
    """A statistic of ``values`` [S], which is called with values and ``axis``."""
    known = np.asarray(values, float)
    return _estimate(lambda pick: statistic(known[pick], axis=-1), len(known))


def difference(
    values: ArrayLike, reference: ArrayLike, statistic: Statistic = iqm
) -> Estimate:
    """A statistic of the differences to ``reference``, seed by seed, [S] each.

    The IQM of differences is not the difference of IQMs: effects of a seed on both
    arms cancel before anything is trimmed.
    """
    return estimate(np.subtract(values, reference), statistic)


def ratio_of_means(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean of ``values`` [S] over that of ``reference`` [S], of the same seeds."""
    above, below = np.asarray(values, float), np.asarray(reference, float)
    return _estimate(
        lambda pick: np.mean(above[pick], axis=-1) / np.mean(below[pick], axis=-1),
        len(above),
    )


def probability_of_improvement(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 of two populations drawn at random.

    The Mann-Whitney statistic compares every seed of ``values`` X [S] with every seed
    of ``reference`` Y [S]. Seeds are resampled jointly, as both arms run at the same.
    """
    ours, theirs = np.asarray(values, float), np.asarray(reference, float)

    def wins(pick: Array) -> Any:
        x, y = ours[pick][..., :, None], theirs[pick][..., None, :]
        return np.mean((x > y) + 0.5 * (x == y), axis=(-2, -1))

    return _estimate(wins, len(ours))


def ratio_of_medians(values: ArrayLike, reference: ArrayLike, end: float) -> Estimate:
    """How many times more steps the median of ``reference`` takes.

    A censored value is known to exceed ``end`` only. The lower end of the interval
    therefore counts a censored median of the reference as ``end`` and one of ``values``
    as infinite, the upper end the other way round.

    Args:
      values: [S], inf where censored.
      reference: the same seeds, in the same order.
      end: last step that was observed, the earliest if they differ.

    Returns:
      ``high`` is inf where the ratio has no bound; ``value`` is inf where the median
      of the reference alone is censored and NaN where both are.
    """
    ours, theirs = np.asarray(values, float), np.asarray(reference, float)

    def ratio(pick: Array, censored: float, other_censored: float) -> Any:
        steps, other = median(ours[pick]), median(theirs[pick])
        steps = np.where(np.isinf(steps), censored, steps)
        return np.where(np.isinf(other), other_censored, other) / steps

    lows = _resample(lambda pick: ratio(pick, np.inf, end), len(ours))
    highs = _resample(lambda pick: ratio(pick, end, np.inf), len(ours))
    value = float(median(theirs)) / float(median(ours))
    return Estimate(value, _quantile(lows, _ENDS[0]), _quantile(highs, _ENDS[1]))


def _estimate(statistic: Callable[[Array], Any], seeds: int) -> Estimate:
    """``statistic`` of the picked positions [..., S], with its interval."""
    drawn = _resample(statistic, seeds)
    low, high = (_quantile(drawn, end) for end in _ENDS)
    return Estimate(float(statistic(np.arange(seeds))), low, high)


def _resample(statistic: Callable[[Array], Any], seeds: int) -> Array:
    """Bootstrap distribution of ``statistic``, the same at every call.

    Positions are resampled, not values, so that what belongs to one seed stays
    together.
    """
    if seeds < FEWEST_SEEDS:
        return np.array([np.nan])
    from scipy import stats

    # scipy's own interval, which fails on infinite values, is not used.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            [np.arange(seeds)],
            lambda pick, axis: statistic(pick),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    return drawn.bootstrap_distribution


def _quantile(drawn: Array, level: float) -> float:
    """Without interpolation between finite and infinite values."""
    method = "linear" if np.isfinite(drawn).all() else "inverted_cdf"
    return float(np.quantile(drawn, level, method=method))
