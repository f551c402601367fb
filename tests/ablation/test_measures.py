"""Figures of one population: against plain loops, the summary of a run, by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from p2p_sac_jax.ablation.measures import MEASURES, measure
from p2p_sac_jax.ablation.run_curves import curves_of_rows
from p2p_sac_jax.config import AttackConfig, PopulationConfig, TrainConfig
from p2p_sac_jax.experiment.summary import summarise
from tests.helpers.curves import curves_of

# Peers 0 and 1 train from the start, 2 is byzantine, 3 joins after 20 steps.
CONFIG = TrainConfig(
    steps=60,
    evaluate_every=5,
    evaluation_weeks=13,
    population=PopulationConfig(peers=4, newcomers=1, join_step=20),
    attack=AttackConfig(kind="sign_flip", byzantine=1),
)
JOINS, BYZANTINE = [0, 0, 0, 20], [False, False, True, False]
HONEST = (0, 1, 3)


def rows_of(config, oracle=True, sign=1.0):
    """Rows as a run writes them, of invented numbers."""
    rng = np.random.default_rng(4)
    rows, every = [], config.evaluate_every
    for step in range(every, config.steps + 1, every):
        peers = []
        for peer in range(4):
            if JOINS[peer] >= step:
                continue
            row = {
                "peer": peer,
                "evaluation_reward": rng.normal(),
                "episode_return": rng.normal(),
                "achieved": list(rng.normal(sign, 0.2, every)),
                "bytes_received": float(rng.integers(1000)),
            }
            if oracle:
                row |= {
                    "oracle_fraction": rng.normal(0.9, 0.05),
                    "baseline_fraction": 0.8 + 0.02 * peer,
                    "oracle": list(rng.normal(1.3 * sign, 0.1, every)),
                    "baseline": list(rng.normal(0.9 * sign, 0.1, every)),
                }
            if BYZANTINE[peer]:
                row["byzantine"] = True
            peers.append(row)
        honest = [row for row in peers if "byzantine" not in row]
        mean = {
            name: np.mean([row[name] for row in honest])
            for name in ("evaluation_reward", "episode_return")
        }
        if oracle:
            shares = np.array([row["oracle_fraction"] for row in honest])
            usual = np.mean([row["baseline_fraction"] for row in honest])
            mean |= {
                "oracle_fraction": shares.mean(),
                "oracle_fraction_worst": shares.min(),
                "baseline_fraction": usual,
                "gap_closed": (shares.mean() - usual) / (1 - usual),
            }
        mean["confidence_calibration"] = rng.normal()
        peers.append({"population": True, **mean})
        rows += [{"run": "network", "seed": 0, "step": step, **row} for row in peers]
    return rows


def measured(rows, **options):
    curves = curves_of_rows(rows, np.array(JOINS), np.array(BYZANTINE))
    return measure(curves, **options)


def figures_of(rows, **options):
    return measured(rows, **options).arm


@pytest.mark.parametrize("sign", [1.0, -1.0])  # profits, and costs
def test_figures_are_those_of_the_summary(sign):
    rows = rows_of(CONFIG, sign=sign)
    ours, theirs = measured(rows), summarise(CONFIG, rows)
    same = {
        "final": "oracle_fraction",
        "worst": "oracle_fraction_worst",
        "gap_closed": "gap_closed",
        "earned": "earned_fraction",
        "earned_50": "earned_fraction_early",
        "newcomers_earned": "newcomer_earned_fraction",
        "bytes_per_peer": "bytes_shared_per_peer",
        "confidence_calibration": "confidence_calibration",
    }
    for our_name, their_name in same.items():
        expected = pytest.approx(theirs[their_name], abs=1e-6)
        assert ours.arm[our_name] == expected, our_name
    usual = {
        "final": "fraction",
        "earned": "earned_fraction",
        "earned_50": "earned_fraction_early",
        "newcomers_earned": "newcomer_earned_fraction",
    }
    for our_name, their_name in usual.items():
        expected = pytest.approx(theirs[f"historical_{their_name}"], abs=1e-6)
        assert ours.historical[our_name] == expected, our_name
    assert ours.historical["gap_closed"] == pytest.approx(0.0)


def test_curves_count_honest_peers_that_have_joined():
    rows = rows_of(CONFIG)
    found = figures_of(rows)
    means, lowest = {}, {}
    for step in range(5, 61, 5):
        level = [
            row["oracle_fraction"]
            for row in rows
            if row["step"] == step and row.get("peer") in HONEST
        ]
        assert len(level) == (2 if step <= 20 else 3)
        means[step], lowest[step] = sum(level) / len(level), min(level)
    pairs = itertools.pairwise(means)
    area = sum((b - a) * (means[a] + means[b]) / 2 for a, b in pairs) / (60 - 5)
    assert found["area"] == pytest.approx(area, abs=1e-6)
    assert found["jump_start"] == pytest.approx(means[5], abs=1e-6)
    for step in (25, 50):
        assert found[f"score_{step}"] == pytest.approx(means[step], abs=1e-6)
        assert found[f"worst_{step}"] == pytest.approx(lowest[step], abs=1e-6)


def test_earned_until_a_step_leaves_out_who_joins_later():
    early = {0: [0.0, 0.0], 1: [0.0, 0.0], 3: [0.0, 0.0]}
    rows = rows_of(CONFIG)
    for row in rows:
        if row.get("peer") in early and row["step"] <= 25:
            early[row["peer"]][0] += sum(row["achieved"])
            early[row["peer"]][1] += sum(row["oracle"])
    expected = sum(a / b for a, b in early.values()) / 3  # peer 3: its first five
    assert figures_of(rows)["earned_25"] == pytest.approx(expected, abs=1e-6)
    late = curves_of([0.9] * 10, trained=np.array([0.7, 0.1]))
    late = late._replace(joins=np.array([0, 30]))
    found = measure(late).arm
    assert found["earned_25"] == pytest.approx(0.7)
    assert found["earned_50"] == pytest.approx(0.4)


def test_periods_that_were_not_trained_have_no_figure():
    found = figures_of(rows_of(CONFIG))
    assert {"worst_25", "worst_50", "earned_25", "earned_50"} <= found.keys()
    assert not {"worst_100", "worst_200", "earned_100", "earned_200"} & found.keys()
    shorter = dataclasses.replace(CONFIG, steps=40)
    assert "newcomers_earned" not in figures_of(rows_of(shorter))  # 20 of 25 steps
    without = measure(curves_of([0.9] * 10)).arm
    assert "newcomers_earned" not in without


@pytest.mark.parametrize(
    ("every", "at"), [(4, 24), (5, 25), (8, 24), (10, 20), (50, 50), (60, None)]
)
def test_early_evaluations_are_the_nearest(every, at):
    level = np.linspace(0.1, 0.8, 12)
    found = measure(curves_of(level, every)).arm.get("worst_25")
    assert found == (None if at is None else pytest.approx(level[at // every - 1]))


@pytest.mark.parametrize(
    ("level", "step"),
    [
        ([0.96, 0.97, 0.98, 0.99], 5),
        ([0.90, 0.96, 0.97, 0.98], 10),
        ([0.96, 0.97, 0.94, 0.95], 20),  # what it loses again does not count
        ([0.99, 0.99, 0.99, 0.90], math.inf),
        ([0.50, 0.60, 0.70, 0.80], math.inf),
        ([0.96, math.nan, 0.97, 0.98], 15),
    ],
)
def test_a_threshold_is_to_be_kept(level, step):
    # A hundred-thousandth more, as .95 in float32 is a little below the threshold.
    level = np.array(level) + 1e-5
    found = measure(curves_of(level)).arm
    assert found["steps_to_0.95"] == step


def test_prices_that_never_move():
    found = measure(
        curves_of([0.5, 0.85, 0.7, 0.88]),
        uniform_fraction=[0.94, 0.98],
    )
    assert found.historical["steps_to_0.95"] == math.inf
    assert found.historical["final"] == pytest.approx(0.9)
    assert found.uniform["steps_to_0.95"] == 5
    assert found.uniform["final"] == pytest.approx(0.96)
    assert found.uniform["worst"] == pytest.approx(0.94)
    assert found.uniform["gap_closed"] == pytest.approx(0.6)
    assert "earned" not in found.uniform


def test_a_peer_that_diverged_is_not_left_out():
    curves = curves_of([0.9, 0.9, 0.9])
    curves.oracle_fraction[-1, 1] = math.nan
    found = measure(curves).arm
    assert math.isnan(found["final"])
    assert math.isnan(found["worst"])
    assert found["steps_to_0.95"] == math.inf
    assert found["jump_start"] == pytest.approx(0.9)


def test_returns_where_no_oracle_is_known():
    rows = rows_of(CONFIG, oracle=False)
    found = figures_of(rows, uniform_fraction=[1.0] * 4)
    assert found.keys() == {
        "return_final", "return_area", "return_jump_start", "return_score_25",
        "return_score_50", "return_worst", "return_worst_25", "return_worst_50",
        "bytes_per_peer", "confidence_calibration",
    }  # fmt: skip
    final = [row for row in rows if row["step"] == 60 and row.get("peer") in HONEST]
    last = [row["episode_return"] for row in final]
    assert found["return_final"] == pytest.approx(sum(last) / 3, abs=1e-5)
    assert found["return_worst"] == pytest.approx(min(last), abs=1e-5)


def test_every_quantity_has_a_record():
    oracle, score = measured(rows_of(CONFIG)), figures_of(rows_of(CONFIG, oracle=False))
    assert (
        oracle.arm.keys() | oracle.historical.keys() | score.keys() <= MEASURES.keys()
    )
    lower = {name for name, measure in MEASURES.items() if measure.better == "lower"}
    assert lower == {"bytes_per_peer", "confidence_calibration", "steps_to_0.95"}
    assert {measure.unit for measure in MEASURES.values()} == {
        "share", "return", "steps", "bytes", "correlation",
    }  # fmt: skip
