"""Statistics of populations by plain loops: weights, enumeration, product limits."""

import itertools
import math


def iqm(values):
    """Sorted values times weights that are 0 in either outer quarter."""
    ordered, n = sorted(values), len(values)
    outside = n // 4
    weights = [0.0 if i < outside or i >= n - outside else 1.0 for i in range(n)]
    pairs = zip(weights, ordered, strict=True)
    return math.fsum(w * v for w, v in pairs if w) / sum(weights)


def mean(values):
    return math.fsum(values) / len(values)


def is_quantile(value, drawn, level, slack):
    """Whether a share ``level`` of what was drawn, give or take, is below."""
    below = sum(d < value - 1e-9 for d in drawn) / len(drawn)
    up_to = sum(d <= value + 1e-9 for d in drawn) / len(drawn)
    return below <= level + slack and up_to >= level - slack


def every_resample(size, statistic):
    """``statistic`` of all equally likely resamples of ``size`` positions."""
    return [statistic(pick) for pick in itertools.product(range(size), repeat=size)]


def wins(ours, theirs):
    """Share of all duels won, ties half."""
    duels = [(x > y) + 0.5 * (x == y) for x in ours for y in theirs]
    return mean(duels)


def kaplan_meier_median(times):
    """First time at which the product-limit estimate of survival is 1/2 or less."""
    survival, at_risk = 1.0, len(times)
    for time in sorted({t for t in times if t < math.inf}):
        happened = sum(t == time for t in times)
        survival *= 1.0 - happened / at_risk
        at_risk -= happened
        if survival <= 0.5 + 1e-12:
            return time
    return math.inf
