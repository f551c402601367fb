"""Membership attacks against mechanisms whose leak is known exactly."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.leakage import gaussian_auc_bound, membership_auc
from p2p_sac_jax.config import ConfigError

WORLDS, NUMBERS = 400, 6


def worlds(seed, shift: Any = 0.0, count=WORLDS):
    rng = np.random.default_rng(seed)
    mixing = np.eye(NUMBERS) + 0.5 * np.tri(NUMBERS)
    return rng.normal(size=(count, NUMBERS)) @ mixing.T + shift


def test_no_difference_is_not_found():
    covered = 0
    for seed in range(20):
        leak = membership_auc(worlds(2 * seed), worlds(2 * seed + 1), seed=seed)
        assert leak.low <= leak.auc <= leak.high
        covered += leak.low <= 0.5 <= leak.high
    assert covered >= 17  # 19 expected


def test_the_best_linear_attack_is_reached():
    """Two Gaussians a distance μ apart (Mahalanobis) have area Φ(μ / √2)."""
    covariance = np.cov(worlds(0, count=200_000).T)
    shift = np.asarray([0.0, 0.7, 0.0, 0.0, -0.4, 0.0])
    distance = math.sqrt(shift @ np.linalg.solve(covariance, shift))
    leak = membership_auc(worlds(1, shift, 4_000), worlds(2, count=4_000))
    assert leak.auc == pytest.approx(stats.norm.cdf(distance / math.sqrt(2)), abs=0.03)


@pytest.mark.parametrize(("multiplier", "releases"), [(0.5, 1), (1.0, 1), (4.0, 9)])
def test_gaussian_noise_keeps_its_bound_and_the_worst_pair_meets_it(
    multiplier, releases
):
    rng = np.random.default_rng(7)
    noise = multiplier * rng.normal(size=(2, 3_000, releases))
    record = np.asarray([1.0, 0.0])[:, None, None]  # moves a release by its bound
    released = (noise + record).reshape(2, 3_000, releases)
    leak = membership_auc(released[0], released[1])
    bound = gaussian_auc_bound(math.sqrt(releases) / multiplier)
    assert abs(leak.auc - bound) < 0.03
    assert leak.low <= bound + 0.01
    weak = membership_auc((noise + 0.2 * record)[0], noise[1])
    assert weak.high < bound


def test_the_bound_is_the_area_under_the_gaussian_trade_off():
    """Integral of the ROC curve 1 - Φ(Φ⁻¹(1 - α) - μ) over α."""
    mu = math.sqrt(5) / 2.0
    alpha = (np.arange(200_000) + 0.5) / 200_000
    power = stats.norm.sf(stats.norm.isf(alpha) - mu)
    assert gaussian_auc_bound(mu) == pytest.approx(power.mean(), abs=1e-6)


def test_columns_that_say_nothing_or_repeat_do_no_harm():
    inside, outside = worlds(0, shift=1.0), worlds(1)
    plain = membership_auc(inside, outside)

    def padded(x):
        return np.concatenate([x, x, np.full((len(x), 2), 1e9)], axis=1)

    leak = membership_auc(padded(inside), padded(outside))
    assert leak.auc == pytest.approx(plain.auc, abs=0.02)
    constant = np.full((WORLDS, 3), 7.0)
    blind = membership_auc(constant, constant)
    assert (blind.auc, blind.low, blind.high) == (0.5, 0.5, 0.5)
    # One number that is constant within each kind of world gives it all away.
    assert membership_auc(constant, constant + 1.0).low == 1.0


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (np.zeros((7, 2)), np.zeros((8, 2)), "inside"),
        (np.zeros((8, 2)), np.zeros(8), "outside"),
        (np.zeros((8, 2)), np.zeros((8, 3)), "2 columns"),
        (np.zeros((8, 2)), np.full((8, 2), np.nan), "finite"),
    ],
)
def test_worlds_that_do_not_fit_are_refused(inside, outside, message):
    with pytest.raises(ConfigError, match=message) as caught:
        membership_auc(inside, outside)
    assert "\n" not in str(caught.value)
