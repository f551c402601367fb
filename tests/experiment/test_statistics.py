"""Statistics of populations against loops, enumeration and known limits."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.experiment import statistics
from tests.reference import statistics as reference

INF = math.inf
# Five seeds of two arms: all 3125 resamples can be had.
OURS, THEIRS = [0.95, 0.97, 0.96, 0.70, 0.90], [0.94, 0.95, 0.96, 0.72, 0.81]
# Steps to a threshold; the run ends at 60.
SOON, LATE, END = [20, 25, 40, 30, INF], [50, 40, INF, 45, INF], 60
MONTE_CARLO = 0.006  # four standard errors of a .025 quantile's level, 9999 draws

shares = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))
seeds = st.lists(shares, min_size=1, max_size=12)
few = settings(deadline=None, max_examples=25)


def picked(values, statistic):
    return lambda pick: statistic([values[i] for i in pick])


def ratio(censored, other_censored):
    """Ratio of medians, with these values where they are censored."""

    def of(pick):
        ours, theirs = (
            reference.kaplan_meier_median([arm[i] for i in pick])
            for arm in (SOON, LATE)
        )
        ours = censored if ours == INF else ours
        return (other_censored if theirs == INF else theirs) / ours

    return of


def check(found, value, lows, highs, slack=MONTE_CARLO):
    assert found.value == pytest.approx(value)
    assert reference.is_quantile(found.low, lows, 0.025, slack)
    assert reference.is_quantile(found.high, highs, 0.975, slack)


@few
@given(seeds)
def test_iqm_and_median_are_those_of_sorted_values(values):
    assert statistics.iqm(values) == pytest.approx(reference.iqm(values))
    assert statistics.median(values) == reference.kaplan_meier_median(values)


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([3, 1, 8], 4),  # all of three count
        ([9, 0, 1, 2], 1.5),
        ([5, 1, 2, 3, 90], 10 / 3),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 99], 5.5),  # two of ten at either end
        ([1, 2, 3, 4, 5, 6, INF, INF], 4.5),
        ([1, 2, 3, 4, 5, INF, INF, INF], INF),
    ],
)
def test_iqm_of_small_numbers(values, middle):
    assert statistics.iqm(values) == pytest.approx(middle)
    assert reference.iqm(values) == pytest.approx(middle)


@few
@given(seeds, st.floats(0.1, 5), shares)
def test_iqm_keeps_its_place(values, scale, shift):
    moved = scale * np.array(values[::-1]) + shift
    expected = scale * statistics.iqm(values) + shift
    assert statistics.iqm(moved) == pytest.approx(expected, abs=1e-9)
    assert min(values) - 1e-9 <= statistics.iqm(values) <= max(values) + 1e-9


def test_axes():
    values = np.random.default_rng(0).normal(size=(5, 3))
    for name in ("iqm", "median"):
        ours, theirs = getattr(statistics, name), getattr(reference, name, None)
        theirs = theirs or reference.kaplan_meier_median
        expected = [theirs(list(column)) for column in values.T]
        np.testing.assert_allclose(ours(values, axis=0), expected)
        np.testing.assert_allclose(ours(values.T), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (np.mean, reference.mean),
        (statistics.iqm, reference.iqm),
        (statistics.median, reference.kaplan_meier_median),
    ],
)
def test_intervals_are_those_of_all_resamples(ours, theirs):
    apart = [x - y for x, y in zip(OURS, THEIRS, strict=True)]
    for values, found in (
        (OURS, statistics.estimate(OURS, ours)),
        (apart, statistics.difference(OURS, THEIRS, ours)),
    ):
        exact = reference.every_resample(5, picked(values, theirs))
        check(found, theirs(values), exact, exact)


def test_pairs_of_seeds_stay_together():
    """In the probability of improvement and in the ratio of means."""

    def duels(pick):
        return reference.wins([OURS[i] for i in pick], [THEIRS[i] for i in pick])

    def ratio_of_means(pick):
        return picked(OURS, reference.mean)(pick) / picked(THEIRS, reference.mean)(pick)

    for expected, found in (
        (duels, statistics.probability_of_improvement(OURS, THEIRS)),
        (ratio_of_means, statistics.ratio_of_means(OURS, THEIRS)),
    ):
        exact = reference.every_resample(5, expected)
        check(found, expected(range(5)), exact, exact)


@few
@given(
    st.integers(2, 8).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)
    )
)
def test_duels_share_out_one(pair):
    x, y = pair
    won = statistics.probability_of_improvement(x, y)
    lost = statistics.probability_of_improvement(y, x)
    assert won.value == pytest.approx(reference.wins(x, y))
    assert won.value + lost.value == pytest.approx(1)
    if len(x) >= statistics.FEWEST_SEEDS:
        assert won.low == pytest.approx(1 - lost.high, abs=0.02)
    assert statistics.probability_of_improvement(x, x).value == 0.5


def test_pairs_cancel_what_a_seed_does_to_both_arms():
    market = np.random.default_rng(2).normal(size=8)
    found = statistics.difference(market + 0.25, market)
    np.testing.assert_allclose(found, 0.25)
    apart = statistics.estimate(market)
    assert apart.high - apart.low > 0.5


def test_below_five_seeds_there_is_no_interval():
    values = [0.9, 0.8, 0.95, 0.7]
    for found in (
        statistics.estimate(values),
        statistics.difference(values, values[::-1]),
        statistics.ratio_of_means(values, values[::-1]),
        statistics.probability_of_improvement(values, values[::-1]),
        statistics.ratio_of_medians(values, values, END),
    ):
        assert math.isfinite(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert statistics.estimate([0.9] * 5) == pytest.approx((0.9, 0.9, 0.9))


def test_the_same_numbers_at_every_call():
    assert statistics.estimate(OURS) == statistics.estimate(OURS)


def test_a_diverged_seed_is_not_passed_over():
    found = statistics.estimate([0.9, 0.8, 0.7, 0.6, math.nan])
    assert all(math.isnan(x) for x in found)


def test_censored_medians():
    exact = reference.every_resample(5, picked(SOON, reference.kaplan_meier_median))
    check(statistics.estimate(SOON, statistics.median), 30, exact, exact)
    for values, expected in (
        ([20, 30, 40, INF, INF], (40, 20, INF)),
        ([20, INF, INF, INF, INF], (INF, 20, INF)),
        ([INF] * 5, (INF, INF, INF)),
    ):
        assert statistics.estimate(values, statistics.median) == expected


def test_ratio_bounds_censored_medians_from_both_sides():
    """A claim may count on no more than the end of the run."""
    lows = reference.every_resample(5, ratio(INF, END))
    highs = reference.every_resample(5, ratio(END, INF))
    found = statistics.ratio_of_medians(SOON, LATE, END)
    check(found, 50 / 30, lows, highs)
    assert found.high == INF


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([10] * 5, [40] * 5, (4, 4, 4)),
        ([10] * 5, [INF] * 5, (INF, 6, INF)),  # at least 60 / 10
        ([INF] * 5, [40] * 5, (0, 0, 40 / 60)),  # at most 40 / 60
        ([INF] * 5, [INF] * 5, (math.nan, 0, INF)),  # anything
    ],
)
def test_ratio_without_chance(ours, theirs, expected):
    found = statistics.ratio_of_medians(ours, theirs, END)
    np.testing.assert_allclose(found, expected)


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("of", "n", "least", "most"),
    [
        *((statistics.iqm, *row) for row in ((3, 0.64, 0.79), (5, 0.86, 0.93))),
        *((statistics.iqm, *row) for row in ((10, 0.91, 0.96), (20, 0.92, 0.97))),
        *((np.mean, *row) for row in ((3, 0.64, 0.79), (5, 0.72, 0.88))),
        *((np.mean, *row) for row in ((10, 0.81, 0.93), (20, 0.84, 0.95))),
    ],
)
def test_how_often_intervals_hold_the_truth(monkeypatch, of, n, least, most):
    """The figures that the module states, within their Monte-Carlo error."""
    monkeypatch.setattr(statistics, "FEWEST_SEEDS", 3)
    rng = np.random.default_rng(n)
    for draw in (rng.normal, rng.lognormal, partial(rng.standard_t, 3)):
        spread = {"sigma": 0.8} if draw == rng.lognormal else {}
        truth = of(draw(size=(400_000, n), **spread), axis=-1).mean()
        found = [statistics.estimate(draw(size=n, **spread), of) for _ in range(800)]
        held = np.mean([low <= truth <= high for _, low, high in found])
        assert least <= held <= most
