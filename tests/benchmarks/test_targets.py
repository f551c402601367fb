"""Claims as numbers: verdicts, pairs of seeds, and what reaches the file."""

import csv
import math

import pytest

from benchmarks import targets
from benchmarks.targets import Figures, Target
from p2p_sac_jax.ablation.results import load_sweep
from p2p_sac_jax.experiment.statistics import Estimate
from tests.helpers.sweeps import write_sweep


@pytest.mark.parametrize(
    ("low", "high", "at_least", "verdict"),
    [
        (0.2, 0.3, True, "met"),
        (0.1, 0.3, True, "met"),
        (0.0, 0.3, True, "open"),
        (-0.2, 0.05, True, "missed"),
        (0.2, 0.3, False, "missed"),
        (0.0, 0.05, False, "met"),
        (0.0, 0.3, False, "open"),
        (0.2, math.inf, True, "met"),
        (math.nan, math.nan, True, "open"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, at_least, verdict):
    figure = Estimate((low + high) / 2, low, high)
    assert Target("claim", "here", 10, figure, 0.1, at_least).verdict == verdict


def test_differences_are_of_the_seeds_that_both_arms_have():
    rows = {
        ("network", None): [{"final": 0.9}, {}, {"final": 0.8}, {"final": 0.7}],
        ("bandit network", None): [{"final": 0.5}, {"final": 0.1}, {}, {"final": 0.5}],
    }
    final, earned = targets.reference_price(Figures(rows, 208.0))
    assert final.seeds == 2
    assert final.figure.value == pytest.approx(0.3)
    assert earned.seeds == 0
    assert earned.verdict == "open"


def test_held_out_gaps_are_compared_seed_by_seed():
    rows = [
        {"population": "chain", "seed": str(seed), "memory_own": "0.95"}
        | {"memory_held_out": "0.85", "network_own": "0.95", "historical_held_out": "0"}
        | {"network_held_out": str(0.95 - gap)}
        for seed, gap in enumerate([0.02, 0.04, 0.03, 0.03, 0.03])
    ]
    (target,) = targets.held_out(rows)
    assert target.figure.value == pytest.approx(0.3)
    assert (target.seeds, target.verdict) == (5, "met")


def test_a_headline_is_read_from_a_sweep(tmp_path):
    arms = {
        name: {"exchange.topology": "empty"} if name in ("plain", "memory") else {}
        for name in ("plain", "memory", "memory wide", "network", "bandit network")
    }
    write_sweep(tmp_path, {"population.name": ["chain", "brands"]}, arms)
    found = list(targets.headline(targets.read_figures(load_sweep(tmp_path))))
    assert {target.where for target in found} == {"chain", "brands"}
    worst = [t for t in found if t.claim.startswith("worst peer at week 25")]
    assert all(0 < t.figure.value <= 1 and t.seeds == 3 for t in worst)
    assert len(worst) == 2
    assert len({(t.claim, t.where) for t in found}) == len(found)


def test_the_tables_of_the_documentation_can_be_read():
    from tests.helpers.processes import ROOT

    for path in sorted((ROOT / "docs" / "evidence").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows, path
        assert all(None not in row and None not in row.values() for row in rows), path
