"""Epsilons against published figures and closed forms; what each mode states."""

import builtins
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.exchange.messages import make_mode
from p2p_sac_jax.privacy.accountant import (
    UNLIMITED,
    PrivacyAccountant,
    _epsilon,
    gaussian_epsilon,
    make_accountant,
)
from p2p_sac_jax.privacy.noise import stream_factor
from tests.helpers.demand import base_prior
from tests.reference import privacy as reference

DELTA = 1e-5
SIZES = {"num_cells": 20, "cells_per_group": 4, "action_dim": 1}


def config(mode, **fields):
    """A configuration of a mode; fields by section__name."""
    root = TrainConfig()
    shared = {"value_sharing": "precision", "entropy_sharing": True}
    parts = {"exchange": {"mode": mode} | shared}
    for name, value in fields.items():
        section, _, field = name.partition("__")
        parts.setdefault(section, {})[field] = value
    return dataclasses.replace(
        root,
        **{
            section: dataclasses.replace(getattr(root, section), **changes)
            for section, changes in parts.items()
        },
    )


def accountant(mode: str, has_demand: bool = True, **fields: Any) -> PrivacyAccountant:
    built = config(mode, **fields)
    base = base_prior(5 if has_demand else 0)
    return make_accountant(built, make_mode(built, **SIZES, base_prior=base).releases())


@pytest.mark.parametrize(
    ("multiplier", "releases", "rdp", "pld"),
    [
        (1.0, 1, 4.729, 4.377),
        (1.0, 100, 96.1, 91.8),
        (10.0, 1000, 19.05, 17.86),
        (14.9, 100, 3.0, None),
        (13.9, 100, None, 3.0),
    ],
)
def test_published_figures(multiplier, releases, rdp, pld):
    for method, expected in (("rdp", rdp), ("pld", pld)):
        if expected is not None:
            found = gaussian_epsilon(multiplier, releases, DELTA, method)
            assert found == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize(
    ("method", "matrix", "tree", "independent"),
    [("rdp", 4.88, 15.7, 47.2), ("pld", 4.54, 14.6, 44.0)],
)
def test_published_noise_of_running_sums(method, matrix, tree, independent):
    """Worst std of 1000 prefix sums at epsilon 3, in units of the sensitivity."""
    rounds = 1000

    def multiplier(releases, low, high):
        """Of so many mechanisms that add up to epsilon 3."""

        def excess(z):
            return gaussian_epsilon(z, releases, DELTA, method) - 3.0

        return float(optimize.brentq(excess, low, high, xtol=1e-3))  # pyright: ignore

    once, often = multiplier(1, 1.0, 2.0), multiplier(rounds, 30.0, 60.0)
    assert once * stream_factor(rounds) ** 2 == pytest.approx(matrix, rel=5e-3)
    assert often == pytest.approx(independent, rel=3e-3)
    # A record is in 11 nodes of the tree, the worst prefix sums 10 or fewer of them.
    assert once * math.sqrt(11 * 10) == pytest.approx(tree, rel=0.01)


@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-2])
def test_gaussian_mechanisms_match_the_analytic_formula(delta):
    for multiplier, releases in ((0.3, 1), (1.0, 7), (5.0, 50), (40.0, 3)):
        mu = math.sqrt(releases) / multiplier
        exact = reference.epsilon(mu, delta)
        found = gaussian_epsilon(multiplier, releases, delta)
        assert exact - 1e-9 <= found <= exact + 1e-4 * exact
        looser = gaussian_epsilon(multiplier, releases, delta, "rdp")
        assert found <= looser + 1e-6
        assert found <= reference.zcdp_epsilon(mu**2 / 2.0, delta)


@pytest.mark.parametrize(
    ("releases", "each"), [(1, 1.0), (3, 0.37), (40, 0.1), (9, 3.0)]
)
def test_responses_beside_a_gaussian_match_their_mixture(releases, each):
    spent, responses = releases / 4.0, 20 * releases
    exact = reference.epsilon(math.sqrt(spent), DELTA, responses, each)
    found = _epsilon(spent, responses, each, DELTA)
    assert exact - 1e-9 <= found <= exact * (1.0 + 1e-3)
    rho = spent / 2.0 + responses * each**2 / 2.0
    assert found <= reference.zcdp_epsilon(rho, DELTA)


def test_huge_epsilons_stay_finite_upper_bounds():
    for spent, responses, each in ((1e4, 0, 1.0), (2.0, 180, 4.0), (9.0, 4_000, 1.0)):
        exact = reference.epsilon(math.sqrt(spent), DELTA, responses, each)
        assert exact <= _epsilon(spent, responses, each, DELTA) <= 1.3 * exact


def test_limits_of_the_formula():
    assert gaussian_epsilon(1.0, 0, DELTA) == 0.0
    assert gaussian_epsilon(0.0, 1, DELTA) == math.inf
    assert gaussian_epsilon(1e6, 1, DELTA) == pytest.approx(0.0, abs=1e-4)
    with pytest.raises(ConfigError, match="method='moments' must be one of pld, rdp"):
        gaussian_epsilon(1.0, 1, DELTA, "moments")


def test_consortium_counts_values_counts_and_demand():
    noise: Any = {"privacy__value_noise": 20.0, "privacy__demand_noise": 2.0}
    stream = accountant("consortium", **noise)
    each = accountant("consortium", privacy__release="independent", **noise)
    bare = accountant("consortium", has_demand=False, **noise)
    without_values = accountant("consortium", exchange__value_sharing="none", **noise)
    for releases in (1, 10, 52):
        values = 2.0 * releases / 20.0**2  # two mechanisms a release
        for found, squared in (
            (stream, values + 1 / 2.0**2),
            (each, values + releases / 2.0**2),
            (bare, values),
            (without_values, 1 / 2.0**2),
        ):
            exact = reference.epsilon(math.sqrt(squared), DELTA)
            assert found.epsilon(releases) == pytest.approx(exact, rel=1e-4)
        assert stream.epsilon(0) == 0.0
    noised = {"values", "counts", "demand coefficients"}
    assert marked(stream) == noised | {"time"}
    assert set(stream.channels) - marked(stream) == {"entropy"}
    assert marked(bare) == noised - {"demand coefficients"} | {"time"}
    assert marked(without_values) == {"demand coefficients", "time"}
    default = accountant("consortium", exchange__entropy_sharing=False, **noise)
    assert marked(default) == set(default.channels) == noised | {"time"}
    assert "one real step (a week) of one peer" in stream.adjacency


def marked(found):
    """Names of the channels that carry epsilon; every channel states which."""
    for text in found.channels.values():
        assert text.startswith(("epsilon: ", "no epsilon: "))
        assert "\n" not in text
    return {name for name, text in found.channels.items() if text.startswith("epsilon")}


def test_public_counts_every_response():
    noise: Any = {"privacy__value_noise": 4.0, "privacy__demand_noise": 2.0}
    found = accountant("public", privacy__trend_epsilon=0.2, **noise)
    for releases in (1, 13):
        mu = math.sqrt(releases / 16.0 + 1 / 4.0)
        exact = reference.epsilon(mu, DELTA, 20 * releases, 0.2)
        assert found.epsilon(releases) == pytest.approx(exact, rel=1e-3)
    assert marked(found) == set(found.channels)
    assert set(found.channels) == {"trend", "entropy", "demand coefficients", "time"}
    noise |= {"privacy__trend_epsilon": 0.2, "exchange__entropy_sharing": False}
    default = accountant("public", **noise)
    exact = reference.epsilon(0.5, DELTA, 20 * 13, 0.2)
    assert default.epsilon(13) == pytest.approx(exact, rel=1e-3)
    assert set(default.channels) == {"trend", "demand coefficients", "time"}


def test_private_states_no_epsilon():
    found = accountant("private")
    assert marked(found) == set()
    assert found.epsilon(0) == 0.0
    assert found.epsilon(1) == math.inf
    assert found.allowed == UNLIMITED


def test_what_is_not_noised_has_no_epsilon():
    weak = accountant("consortium", privacy__value_noise=0.0)
    assert marked(weak) == {"demand coefficients", "time"}
    exact = reference.epsilon(1.0, DELTA)
    assert weak.epsilon(99) == pytest.approx(exact, rel=1e-4)
    bare = accountant("consortium", privacy__value_noise=0.0, privacy__demand_noise=0.0)
    assert marked(bare) == {"time"}
    assert bare.epsilon(1) == math.inf
    decaying = accountant("consortium", memory__decay=0.99)
    assert "memory.decay=0.99" in decaying.channels["demand coefficients"]
    assert "demand coefficients" not in marked(decaying)
    fresh: Any = {"memory__decay": 0.99, "privacy__release": "independent"}
    assert "demand coefficients" in marked(accountant("consortium", **fresh))
    timed = accountant("public", synchronisation__threshold=0.1)
    assert not marked(timed)
    assert timed.epsilon(1) == math.inf
    with pytest.raises(ConfigError, match=r"synchronisation\.threshold=0\.1 must be 0"):
        accountant("public", synchronisation__threshold=0.1, privacy__epsilon=8.0)


@pytest.mark.parametrize(
    ("mode", "noise"),
    [
        ("consortium", {"privacy__value_noise": 20.0, "privacy__demand_noise": 4.0}),
        ("public", {"privacy__value_noise": 20.0, "privacy__trend_epsilon": 0.02}),
    ],
)
def test_the_budget_is_spent_to_the_last_release(mode, noise):
    found = accountant(mode, privacy__epsilon=8.0, **noise)
    assert 0 < found.allowed < UNLIMITED
    assert found.epsilon(found.allowed) <= 8.0 < found.epsilon(found.allowed + 1)
    first = accountant(mode, privacy__epsilon=1e-3, **noise)
    assert first.allowed == 0
    assert accountant(mode, **noise).allowed == UNLIMITED


def test_a_stream_alone_never_runs_out_or_never_starts():
    fields: Any = {"exchange__value_sharing": "none", "privacy__demand_noise": 2.0}
    assert accountant("consortium", privacy__epsilon=3.0, **fields).allowed == UNLIMITED
    assert accountant("consortium", privacy__epsilon=1.0, **fields).allowed == 0


def test_epsilon_grows_with_releases_and_falls_with_noise():
    by_noise = [
        [PrivacyAccountant({}, each=z**-2, responses=20).epsilon(t) for t in (1, 2, 5)]
        for z in (1.0, 3.0, 9.0)
    ]
    assert (np.diff(by_noise, axis=1) > 0).all()
    assert (np.diff(by_noise, axis=0) < 0).all()


def test_a_thousand_releases_are_accounted_for():
    many = PrivacyAccountant({}, each=2.0, once=1.0, responses=20, response_epsilon=1.0)
    assert math.isfinite(many.epsilon(1000))
    weak = PrivacyAccountant(
        {}, each=1e-4, responses=20, response_epsilon=0.01, budget=30.0
    )
    assert weak.allowed > 1000


@pytest.mark.parametrize(
    ("mode", "fields", "field", "reason"),
    [
        ("private", {"privacy__epsilon": 1.0}, "privacy.epsilon=1.0", "in full"),
        ("public", {"privacy__value_noise": 0.0}, "privacy.value_noise=0.0", "public"),
        (
            "public",
            {"privacy__demand_noise": 0.0},
            "privacy.demand_noise=0.0",
            "public",
        ),
        (
            "consortium",
            {"privacy__epsilon": 1.0, "privacy__value_noise": 0.0},
            "privacy.value_noise=0.0",
            "privacy.epsilon",
        ),
        (
            "consortium",
            {"privacy__epsilon": 1.0, "privacy__demand_noise": 0.0},
            "privacy.demand_noise=0.0",
            "privacy.epsilon",
        ),
        (
            "consortium",
            {"privacy__epsilon": 1.0, "memory__decay": 0.99},
            "memory.decay=0.99",
            "privacy.release='matrix'",
        ),
    ],
)
def test_settings_without_a_bound_are_refused(mode, fields, field, reason):
    with pytest.raises(ConfigError) as caught:
        accountant(mode, **fields)
    message = str(caught.value)
    assert message.startswith(field)
    assert reason in message
    assert "\n" not in message


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"privacy\.epsilon=1\.0 must be 0"):
        accountant(
            "consortium",
            has_demand=False,
            privacy__epsilon=1.0,
            exchange__value_sharing="none",
        )


def test_noise_that_nothing_needs_may_be_zero():
    fields: Any = {"privacy__epsilon": 9.0, "exchange__value_sharing": "none"}
    assert accountant("consortium", privacy__value_noise=0.0, **fields).bounded
    accountant("public", has_demand=False, privacy__demand_noise=0.0)


def test_a_missing_library_is_one_line_that_names_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "dp_accounting":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    found = accountant("consortium", privacy__value_noise=3.21)  # nobody asks yet
    assert found.allowed == UNLIMITED
    for ask in (
        lambda: found.epsilon(1),
        lambda: gaussian_epsilon(3.21, 1, DELTA, "rdp"),
        lambda: accountant("consortium", privacy__epsilon=1.0),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'p2p-sac-jax\[privacy\]'"):
            ask()
