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
# Two tasks of three seeds: all 729 resamples can be had. Shares of both arms.
OURS = [[0.95, 0.97, 0.96], [0.70, 0.90, 0.82]]
THEIRS = [[0.94, 0.95, 0.96], [0.72, 0.81, 0.79]]
# Steps to a threshold; the run ends at 60.
SOON, LATE, END = [[20, 25, 40], [30, INF, 35]], [[50, 40, INF], [45, INF, INF]], 60
# Eight seeds of two tasks that differ far more between tasks than within.
WIDE = [[0.91, 0.95, 0.97, 0.90, 0.96, 0.93, 0.99, 0.92],
        [0.31, 0.35, 0.38, 0.30, 0.36, 0.34, 0.39, 0.29]]  # fmt: skip
MONTE_CARLO = 0.006  # four standard errors of a .025 quantile's level, 9999 draws

shares = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))
seeds = st.lists(shares, min_size=1, max_size=12)
few = settings(deadline=None, max_examples=25)


def of_pool(tasks, statistic):
    return lambda picks: statistic(reference.pool(tasks, picks))


def of_differences(statistic):
    differences = [
        [x - y for x, y in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(OURS, THEIRS, strict=True)
    ]
    return of_pool(differences, statistic)


def mean_of_duels(picks):
    return reference.mean(
        [
            reference.wins([x[i] for i in pick], [y[i] for i in pick])
            for x, y, pick in zip(OURS, THEIRS, picks, strict=True)
        ]
    )


def ratio(censored, other_censored):
    """Ratio of medians, with these values where they are censored."""

    def of(picks):
        ours = reference.kaplan_meier_median(reference.pool(SOON, picks))
        theirs = reference.kaplan_meier_median(reference.pool(LATE, picks))
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
    exact = reference.every_resample(OURS, of_pool(OURS, theirs))
    everything = theirs([*OURS[0], *OURS[1]])
    check(statistics.estimate(OURS, ours), everything, exact, exact)
    of = of_differences(theirs)
    exact = reference.every_resample(OURS, of)
    value = of([range(3), range(3)])
    check(statistics.difference(OURS, THEIRS, ours), value, exact, exact)


def test_probability_of_improvement_is_that_of_all_duels_and_resamples():
    exact = reference.every_resample(OURS, mean_of_duels)
    value = mean_of_duels([range(3), range(3)])
    check(statistics.probability_of_improvement(OURS, THEIRS), value, exact, exact)


def test_ratio_of_means_keeps_seeds_together():
    ours, theirs = [[0.02, 0.05, 0.04, 0.09]], [[0.03, 0.09, 0.08, 0.11]]

    def ratio(picks):
        return reference.mean(reference.pool(ours, picks)) / reference.mean(
            reference.pool(theirs, picks)
        )

    exact = reference.every_resample(ours, ratio)
    found = statistics.ratio_of_means(ours[0], theirs[0])
    check(found, 0.20 / 0.31, exact, exact)


def test_seeds_are_resampled_within_their_task():
    drawn = reference.some_resamples(WIDE, of_pool(WIDE, reference.mean), 4000)
    found = statistics.estimate(WIDE, np.mean)
    check(found, reference.mean([*WIDE[0], *WIDE[1]]), drawn, drawn, slack=0.015)
    mixed = statistics.estimate([[*WIDE[0], *WIDE[1]]], np.mean)
    assert mixed.high - mixed.low > 5 * (found.high - found.low)


@few
@given(
    st.integers(2, 8).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)
    )
)
def test_duels_share_out_one(pair):
    x, y = pair
    won = statistics.probability_of_improvement([x], [y])
    lost = statistics.probability_of_improvement([y], [x])
    assert won.value == pytest.approx(reference.wins(x, y))
    assert won.value + lost.value == pytest.approx(1)
    assert won.low == pytest.approx(1 - lost.high, abs=0.02)
    itself = statistics.probability_of_improvement([x], [x])
    assert itself == (0.5, 0.5, 0.5)


def test_pairs_cancel_what_a_seed_does_to_both_arms():
    market = np.random.default_rng(2).normal(size=8)
    found = statistics.difference([market + 0.25], [market])
    np.testing.assert_allclose(found, 0.25)
    apart = statistics.estimate([market])
    assert apart.high - apart.low > 0.5


def test_of_one_seed_there_is_no_interval():
    for tasks in ([[0.9]], [[0.8, 0.9], [0.7]]):
        found = statistics.estimate(tasks, np.mean)
        assert found.value == pytest.approx(np.mean(np.concatenate(tasks)))
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert statistics.estimate([[0.9, 0.9, 0.9]]) == pytest.approx((0.9, 0.9, 0.9))


def test_the_same_numbers_at_every_call():
    assert statistics.estimate(WIDE) == statistics.estimate(WIDE)


def test_a_diverged_seed_is_not_passed_over():
    assert all(math.isnan(x) for x in statistics.estimate([[0.9, 0.8, math.nan]]))


def test_censored_medians():
    exact = reference.every_resample(SOON, of_pool(SOON, reference.kaplan_meier_median))
    check(statistics.median_steps(SOON), 30, exact, exact)
    assert statistics.median_steps([[20, 30, INF, INF]]).value == 30
    assert statistics.median_steps([[20, INF, INF, INF]]) == (INF, 20, INF)
    assert statistics.median_steps([[INF, INF]]) == (INF, INF, INF)


def test_ratio_bounds_censored_medians_from_both_sides():
    """A claim may count on no more than the end of the run."""
    lows = reference.every_resample(SOON, ratio(INF, END))
    highs = reference.every_resample(SOON, ratio(END, INF))
    found = statistics.ratio_of_medians(SOON, LATE, END)
    check(found, 50 / 30, lows, highs)
    assert found.high == INF


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([10, 10, 10], [40, 40, 40], (4, 4, 4)),
        ([10, 10, 10], [INF, INF, INF], (INF, 6, INF)),  # at least 60 / 10
        ([INF, INF, INF], [40, 40, 40], (0, 0, 40 / 60)),  # at most 40 / 60
        ([INF, INF, INF], [INF, INF, INF], (math.nan, 0, INF)),  # anything
    ],
)
def test_ratio_without_chance(ours, theirs, expected):
    found = statistics.ratio_of_medians([ours], [theirs], END)
    np.testing.assert_allclose(found, expected)


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("statistic", "n", "least", "most"),
    [
        *((statistics.iqm, *row) for row in ((3, 0.64, 0.79), (5, 0.86, 0.93))),
        *((statistics.iqm, *row) for row in ((10, 0.91, 0.96), (20, 0.92, 0.97))),
        *((np.mean, *row) for row in ((3, 0.64, 0.79), (5, 0.72, 0.88))),
        *((np.mean, *row) for row in ((10, 0.81, 0.93), (20, 0.84, 0.95))),
    ],
)
def test_how_often_intervals_hold_the_truth(statistic, n, least, most):
    """The figures that the module states, within their Monte-Carlo error."""
    rng = np.random.default_rng(n)
    for draw in (rng.normal, rng.lognormal, partial(rng.standard_t, 3)):
        spread = {"sigma": 0.8} if draw == rng.lognormal else {}
        truth = statistic(draw(size=(400_000, n), **spread), axis=-1).mean()
        found = [
            statistics.estimate([draw(size=n, **spread)], statistic) for _ in range(800)
        ]
        held = np.mean([low <= truth <= high for _, low, high in found])
        assert least <= held <= most
