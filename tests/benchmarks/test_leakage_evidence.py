"""What messages of trained peers reveal about one week; minutes for each mode.

``python -m pytest tests/benchmarks/test_leakage_evidence.py -m evidence -s`` prints
the tables.
"""

import sys

import numpy as np
import pytest

from benchmarks.leakage import attack, leakage_bounds
from benchmarks.leakage_game import EVERYTHING, make_game
from p2p_sac_jax.config import (
    ExchangeConfig,
    PopulationConfig,
    PrivacyConfig,
    SacConfig,
    TrainConfig,
)

pytestmark = pytest.mark.evidence
WORLDS = 200  # of each kind; half of them are scored
TOLERANCE = 0.03  # of an interval's end beyond a bound


def config_of(mode, **privacy):
    """Four stores for twenty weeks; a week enters the first one's records at eight."""
    return TrainConfig(
        steps=20,
        population=PopulationConfig(peers=4),
        sac=SacConfig(hidden=16, batch_size=16),
        exchange=ExchangeConfig(mode=mode),
        privacy=PrivacyConfig(**privacy),
    )


def measured(config, title):
    """Leaks of the first message with the week, of the last, and of all of them."""
    sent = make_game(config, 2 * WORLDS, planted=8)(np.arange(2 * WORLDS) < WORLDS)
    count = sent[EVERYTHING].shape[1]
    views = {
        "first": ({name: x[:, :1] for name, x in sent.items()}, 1),
        "last": ({name: x[:, -1:] for name, x in sent.items()}, 1),
        "all": (sent, count),
    }
    found = {
        view: (attack(x, WORLDS), leakage_bounds(config, n))
        for view, (x, n) in views.items()
    }
    heads = [f"{view} | bound" for view in views]
    rows = [f"\n| {title} | {' | '.join(heads)} |", f"|---|{'---:|' * 2 * len(views)}"]
    for name in sent:
        cells = [
            cell
            for leaks, bounds in found.values()
            for cell in (figure(leaks[name]), bound_of(bounds, name))
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(rows) + "\n")
    return found


def figure(leak):
    return f"{leak.auc:.2f} [{leak.low:.2f}, {leak.high:.2f}]"


def bound_of(bounds, name):
    return f"{bounds[name]:.3f}" if name in bounds else "none"


def assert_bounded(found):
    for leaks, bounds in found.values():
        for name, bound in bounds.items():
            assert leaks[name].high <= bound + TOLERANCE, name


def test_private_messages_give_the_week_away():
    found = measured(config_of("private"), "private")
    for leaks, bounds in found.values():
        assert not bounds
        for name in ("counts", "actions", "demand", "earnings", EVERYTHING):
            assert leaks[name].low > 0.5, name
        assert leaks["demand"].low > 0.95
    # What the critics learned tells as well, once they have learned it.
    assert found["last"][0]["values"].low > 0.5


def test_noise_of_the_consortium_holds_and_what_has_none_leaks():
    found = measured(config_of("consortium"), "consortium")
    assert_bounded(found)
    for leaks, _ in found.values():
        assert leaks["demand"].high < 0.75
        assert leaks["entropy"].low > 0.5  # no bound is claimed, and none would hold


def test_the_consortium_without_noise_gives_the_week_away():
    config = config_of("consortium", value_noise=0.0, demand_noise=0.0)
    found = measured(config, "consortium, no noise")
    for leaks, bounds in found.values():
        assert not bounds
        assert leaks["demand"].low > 0.75
        assert leaks[EVERYTHING].low > 0.75


def test_public_messages_reveal_little():
    found = measured(config_of("public"), "public")
    assert_bounded(found)
    for leaks, _ in found.values():
        for leak in leaks.values():
            assert leak.high < 0.75


def test_worlds_of_one_kind_are_distinguished_as_often_as_by_chance():
    """Whichever worlds are called inside: no bias, and intervals that hold."""
    game = make_game(config_of("private"), 2 * WORLDS, planted=8)
    sent = game(np.zeros(2 * WORLDS))
    shuffles = [np.random.default_rng(i).permutation(2 * WORLDS) for i in range(40)]
    found = [
        attack({name: x[shuffle] for name, x in sent.items()}, WORLDS)
        for shuffle in shuffles
    ]
    for name in sent:
        leaks = [one[name] for one in found]
        assert abs(np.mean([leak.auc for leak in leaks]) - 0.5) < 0.025
        assert np.mean([leak.low <= 0.5 <= leak.high for leak in leaks]) >= 0.85
