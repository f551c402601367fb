"""Divergence: who, what and when; figures that are not finite stay out of sight."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.divergence import divergence_lines, first_divergences
from p2p_sac_jax.experiment.metrics import MetricsFile, oracle_fraction, read_rows
from p2p_sac_jax.experiment.summary import closing_table, figure, summarise
from p2p_sac_jax.experiment.train import _latest_scores
from p2p_sac_jax.files import load_json, save_json, strict_json
from p2p_sac_jax.report import write_report
from p2p_sac_jax.sac.sac import SacMetrics
from tests.helpers.processes import TINY, finish, launch, read, saved_steps
from tests.helpers.runs import write_run

ROUNDS, PEERS, RUNS, STEPS = 2, 3, 2, 4  # one chunk, which ends at step 16


def chunk(**changes):
    """Metrics and evaluation; ``changes``: ((round, peer, run, step), value)."""
    shape = ROUNDS, PEERS, RUNS, STEPS
    learner = {name: np.ones(shape, np.float32) for name in SacMetrics._fields}
    achieved, evaluated = np.ones(shape), np.ones((PEERS, RUNS))
    belief = np.ones((*shape, 5))
    places = learner | {"achieved": achieved, "evaluated": evaluated, "belief": belief}
    for name, (place, value) in changes.items():
        places[name][place] = value
    metrics = SimpleNamespace(
        learner=SacMetrics(**learner),
        score=SimpleNamespace(achieved=achieved),
        belief=SimpleNamespace(mean=belief),
    )
    return metrics, SimpleNamespace(score=SimpleNamespace(achieved=evaluated)), 16


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"alpha": ((0, 2, 1, 3), np.inf)}, {(2, 1): "alpha at step 12"}),
        ({"critic_loss": ((1, 0, 0, 0), np.nan)}, {(0, 0): "critic_loss at step 13"}),
        ({"q_mean": ((1, 0, 0, 3), -2e12)}, {(0, 0): "q_mean at step 16"}),
        ({"evaluated": ((1, 0), np.nan)}, {(1, 0): "evaluation_reward at step 16"}),
        ({"belief": ((0, 1, 0, 0, 4), np.nan)}, {(1, 0): "demand posterior at step 9"}),
        # The first step wins, and at one step the cause before its consequence.
        (
            {
                "actor_loss": ((0, 0, 0, 1), np.nan),
                "critic_loss": ((1, 0, 0, 1), np.nan),
            },
            {(0, 0): "actor_loss at step 10"},
        ),
        (
            {"td_error": ((0, 0, 0, 1), np.inf), "alpha": ((0, 0, 0, 1), np.inf)},
            {(0, 0): "alpha at step 10"},
        ),
    ],
)
def test_the_first_value_beyond_all_measure_is_named(changes, found):
    assert first_divergences(*chunk(**changes)) == found


def test_an_average_that_is_not_finite_is_a_dash():
    row = {"run": "memory", "population": True, "evaluation_reward": 1.0}
    rows = [row | {"oracle_fraction": np.nan}, row | {"run": "plain"}]
    assert _latest_scores(rows) == "memory –  plain 1.000"
    assert [figure(value, ".2f") for value in (None, np.inf, 2)] == ["–", "–", "2.00"]


def test_every_peer_is_reported_once():
    row = {"run": "memory", "seed": 0, "peer": 1, "diverged": "alpha at step 5"}
    line = "memory, seed 0: peer 1 diverged: alpha at step 5 is not finite or beyond"
    (found,) = divergence_lines([row, row, {"run": "memory", "seed": 0, "peer": 0}])
    assert found == f"{line} 1e+12"
    assert [*divergence_lines([row], known=[row])] == []


def test_files_stay_json_that_every_reader_takes(tmp_path):
    odd = {"run": "memory", "step": 4, "alpha": np.inf, "price": [1.0, np.nan]}
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).append([odd, {"run": "memory", "step": 4, "epsilon": None}])
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == odd | {"alpha": None, "price": [1.0, None]}
    again, budget = read_rows(path)
    np.testing.assert_equal(again, odd | {"alpha": np.nan})
    assert budget["epsilon"] is None
    save_json(tmp_path / "a.json", {"low": (np.nan, 1)})
    assert load_json(tmp_path / "a.json") == {"low": [None, 1]}
    assert strict_json({"a": 1.5}) == '{"a": 1.5}'


def test_a_share_of_nothing_is_unknown():
    assert np.isnan(oracle_fraction(-0.2, 0.0))
    assert oracle_fraction(0.5, 1.0) == 0.5
    assert oracle_fraction(-2.0, -1.0) == 0.0


def test_figures_that_are_not_finite_are_dashes_in_table_and_report(tmp_path):
    folder = write_run(tmp_path, seeds=2)
    rows = read_rows(folder / "metrics.jsonl")
    for row in rows:
        if row["run"] == "plain" and row["step"] > 12:
            for name in ("oracle_fraction", "gap_closed", "alpha", "critic_loss"):
                row[name] = np.nan
            row["oracle"] = [0.0] * 4
    (folder / "metrics.jsonl").unlink()
    MetricsFile(folder / "metrics.jsonl").append(rows)
    config = TrainConfig(steps=24, seeds=2)
    save_json(folder / "summary.json", summarise(config, rows))
    table = closing_table(config, read(folder, "summary.json"))
    cells = {row[0]: row[1:] for row in table["rows"]}
    assert cells["alone, plain SAC"][0] == "–"
    assert float(cells["networked"][0]) > 0.5
    assert not any("nan" in cell for row in table["rows"] for cell in row)
    page = write_report(folder).read_text("utf-8")
    assert not {"nan", "inf"} & {*page.replace("<", " ").replace(">", " ").split()}


@pytest.mark.thorough
def test_a_run_that_diverges_stops_and_goes_on_when_told(tmp_path):
    wild = (TINY, f"--workdir={tmp_path}", "--config.sac.initial_alpha=1e38")
    stopped = finish(launch(*wild, "--config.steps=8", "--config.checkpoint_every=4"))
    assert stopped.returncode == 3, stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert "peer 0 diverged: alpha at step" in last
    assert "are kept; --config.on_divergence=warn goes on" in last
    assert saved_steps(tmp_path) == []
    assert not (tmp_path / "summary.json").exists()
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    goes_on = finish(launch(f"--workdir={tmp_path}", *wild[:1], *wild[2:],
        "--config.steps=8", "--config.checkpoint_every=4",
        "--config.on_divergence=warn"))  # fmt: skip
    assert goes_on.returncode == 0, goes_on.stderr
    assert "nan" not in goes_on.stdout
    assert "peer 3 diverged" in goes_on.stdout
    assert any(
        "peer 0 diverged" in line for line in read(tmp_path, "summary.json")["diverged"]
    )
