"""Statistics over populations: the sampling unit is the population, never the peer.

Peers of one population share a market, its noise and their messages, so a population
is one draw. Values come as *tasks*, each an array over seeds (most often there is one
task), and seeds are resampled within their task: the stratified bootstrap of Agarwal
et al. (2021), "Deep reinforcement learning at the edge of the statistical precipice".

Intervals are 95 % percentile intervals of ``scipy.stats.bootstrap``. For the IQM of n
seeds drawn from a normal, a log-normal or a t(3) distribution (2000 samples each) they
cover .68-.76 at n = 3, .89-.90 at 5, .93-.94 at 10, .94-.95 at 20; for the mean
.69-.75, .76-.85, .85-.90, .88-.93. BCa covers at most .03 more, less with heavy
tails, and is undefined where all seeds agree. A result therefore needs ten seeds.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
_ENDS = ((1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2)

Array = np.ndarray
Tasks = Sequence[ArrayLike]  # an array [seeds] for each task
Statistic = Callable[..., Any]  # (values, axis) -> values without that axis
Picks = Sequence[Any]  # positions [..., seeds] for each task


class Estimate(NamedTuple):
    """A value and its confidence interval, NaN where a task has a single seed."""

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


def estimate(tasks: Tasks, statistic: Statistic = iqm) -> Estimate:
    """A statistic of all values of all tasks.

    Args:
      tasks: [seeds] each.
      statistic: called with values and ``axis``.
    """
    arrays = [np.asarray(task, float) for task in tasks]
    return _estimate(lambda picks: statistic(_pool(arrays, picks), axis=-1), arrays)


def difference(tasks: Tasks, reference: Tasks, statistic: Statistic = iqm) -> Estimate:
    """A statistic of the differences to ``reference``, seed by seed.

    The IQM of differences is not the difference of IQMs: effects of a seed on both
    arms cancel before anything is trimmed.

    Args:
      tasks: [seeds] each.
      reference: the same tasks and seeds, in the same order.
      statistic: called with values and ``axis``.
    """
    pairs = zip(tasks, reference, strict=True)
    return estimate([np.subtract(x, y) for x, y in pairs], statistic)


def ratio_of_means(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean of ``values`` [S] over that of ``reference`` [S], of the same seeds."""
    arrays = np.asarray(values, float), np.asarray(reference, float)

    def ratio(picks: Picks) -> Any:
        (pick,) = picks
        above, below = (np.mean(array[pick], axis=-1) for array in arrays)
        return above / below

    return _estimate(ratio, arrays[:1])


def probability_of_improvement(tasks: Tasks, reference: Tasks) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 of two populations drawn at random; mean over tasks.

    The Mann-Whitney statistic compares every seed of one arm with every seed of the
    other. Seeds are resampled jointly, as both arms run at the same seeds.

    Args:
      tasks: [seeds] each, X.
      reference: the same tasks and seeds, in the same order, Y.
    """
    arms = [np.asarray(task, float) for task in tasks]
    others = [np.asarray(task, float) for task in reference]

    def wins(picks: Picks) -> Any:
        by_task = zip(arms, others, picks, strict=True)
        return np.mean([_wins(x[pick], y[pick]) for x, y, pick in by_task], axis=0)

    return _estimate(wins, arms)


def _wins(x: Array, y: Array) -> Any:
    x, y = x[..., :, None], y[..., None, :]
    return np.mean(x > y, axis=(-2, -1)) + 0.5 * np.mean(x == y, axis=(-2, -1))


def median(values: ArrayLike, axis: int = -1) -> Any:
    """The lower median; inf stands for a value censored at the end of the run.

    This is the Kaplan-Meier median where all censoring happens at the same end. Of an
    even number it is the lower of the middle two, as a mean with inf is undefined.
    """
    ordered = np.sort(np.asarray(values, float), axis=axis)
    return np.take(ordered, (ordered.shape[axis] - 1) // 2, axis=axis)


def median_steps(tasks: Tasks) -> Estimate:
    """Median of steps of which some are censored.

    Args:
      tasks: [seeds] each, inf where censored.

    Returns:
      Each of the three is inf where it is beyond the end.
    """
    return estimate(tasks, median)


def ratio_of_medians(tasks: Tasks, reference: Tasks, end: float) -> Estimate:
    """How many times more steps the median of ``reference`` takes.

    A censored value is known to exceed ``end`` only. The lower end of the interval
    therefore counts a censored median of the reference as ``end`` and one of ``tasks``
    as infinite, the upper end the other way round.

    Args:
      tasks: [seeds] each, inf where censored.
      reference: the same tasks and seeds, in the same order.
      end: last step that was observed, the earliest if they differ.

    Returns:
      ``high`` is inf where the ratio has no bound; ``value`` is inf where the median
      of the reference alone is censored and NaN where both are.
    """
    arms = [np.asarray(task, float) for task in tasks]
    others = [np.asarray(task, float) for task in reference]

    def ratio(censored: float, other_censored: float, picks: Picks) -> Any:
        steps, other = _median_of(arms, picks), _median_of(others, picks)
        steps = np.where(np.isinf(steps), censored, steps)
        return np.where(np.isinf(other), other_censored, other) / steps

    lows = _resample(functools.partial(ratio, np.inf, end), arms)
    highs = _resample(functools.partial(ratio, end, np.inf), arms)
    everyone = _all_seeds(arms)
    value = float(_median_of(others, everyone)) / float(_median_of(arms, everyone))
    return Estimate(value, _quantile(lows, _ENDS[0]), _quantile(highs, _ENDS[1]))


def _median_of(arrays: Sequence[Array], picks: Picks) -> Any:
    return median(_pool(arrays, picks))


def _pool(arrays: Sequence[Array], picks: Picks) -> Array:
    """The picked seeds of all tasks, on the last axis."""
    drawn = [task[pick] for task, pick in zip(arrays, picks, strict=True)]
    return np.concatenate(drawn, axis=-1)


def _all_seeds(arrays: Sequence[Array]) -> Picks:
    return [np.arange(len(task)) for task in arrays]


def _estimate(statistic: Callable[[Picks], Any], arrays: Sequence[Array]) -> Estimate:
    """``statistic`` of the picked seeds, with its interval."""
    drawn = _resample(statistic, arrays)
    low, high = (_quantile(drawn, end) for end in _ENDS)
    return Estimate(float(statistic(_all_seeds(arrays))), low, high)


def _resample(statistic: Callable[[Picks], Any], arrays: Sequence[Array]) -> Array:
    """Bootstrap distribution of ``statistic``, the same at every call.

    Positions are resampled, not values, so that what belongs to one seed stays
    together.
    """
    if min(map(len, arrays)) < 2:
        return np.array([np.nan])
    from scipy import stats

    # scipy's own interval, which fails on infinite values, is not used.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            _all_seeds(arrays),
            lambda *picks, axis: statistic(picks),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    return drawn.bootstrap_distribution


def _quantile(drawn: Array, level: float) -> float:
    """Without interpolation between finite and infinite values."""
    method = "linear" if np.isfinite(drawn).all() else "inverted_cdf"
    return float(np.quantile(drawn, level, method=method))
