"""The report: one page, self-contained, the same bytes from the same files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from p2p_sac_jax.commands import report
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.report import data, figures, write_report
from tests.helpers.pages import check_page
from tests.helpers.runs import write_run


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def test_full_run_gives_a_small_self_contained_page(tmp_path):
    path = write_report(write_run(tmp_path, peers=16, steps=208))
    page = check_page(path)
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.glob("report*")] == ["report.html"]
    for words in (
        "1 seed: indicative",
        "calibrated simulator",
        "without instruments",
        "includes exploration noise",
        "value target idle: sac.discount is 0",
        "1.48 MB",
        "evaluation_weeks 52 104",
        "everybody hears everybody",
    ):
        assert words in page.words


def test_control_task_shows_scores(tmp_path):
    page = check_page(write_report(write_run(tmp_path, seeds=2, control=True)))
    assert "score per step" in page.words
    assert "2 seeds" in page.words
    assert "indicative" not in page.words
    assert "oracle" not in page.words


def test_unfinished_run_with_broken_values(tmp_path):
    write_run(tmp_path)
    (tmp_path / "stores.json").unlink()
    (tmp_path / "summary.json").unlink()
    edit(tmp_path / "run.json", adjacency=None, peers=[{"peer": 0, "name": "<b>&"}])
    metrics = tmp_path / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    for row in rows:
        row["critic_loss"] = float("nan")
        if row.get("peer") == 1:
            row["price"] = [float("nan"), None, 1.0, float("inf")]
    metrics.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"run": "pl')
    page = check_page(write_report(tmp_path))
    assert "unfinished run" in page.words
    assert "<b>&" in page.words  # escaped on the way in
    assert "Critic loss" not in page.words


def test_derived_figures_match_the_rows(tmp_path):
    run = data.load_run(write_run(tmp_path, seeds=2))
    curves = data.population_curves(run, "network", "oracle_fraction")
    rows = [run.population["network", seed] for seed in (0, 1)]
    expected = [[row["oracle_fraction"] for row in of_seed] for of_seed in rows]
    np.testing.assert_allclose(curves.values, expected)
    np.testing.assert_array_equal(curves.steps, range(4, 25, 4))
    final = data.last(run, "network", "oracle_fraction")
    np.testing.assert_allclose(final, np.mean(expected, axis=0)[-1])
    path = data.price_path(run, "memory", 2)
    np.testing.assert_array_equal(path.weeks, range(1, 25))
    assert path.price[5] == run.peers["memory", 0, 2][1]["price"][1]
    scores = data.final_by_peer(run, "network", 0)
    places = dict(data.chosen_peers(run))
    assert scores[places["best"]] >= scores[places["median"]] >= scores[places["worst"]]


def test_shares_earned_are_made_up_from_the_peers(tmp_path):
    metrics = write_run(tmp_path) / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if "earned" not in k} for row in rows]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in kept))
    run = data.load_run(tmp_path)
    mine = [row for row in rows if row["run"] == "memory" and "peer" in row]
    for field, outcome in (("", "achieved"), ("baseline_", "baseline")):
        shares = [
            sum(sum(row[outcome]) for row in mine if row["peer"] == peer)
            / sum(sum(row["oracle"]) for row in mine if row["peer"] == peer)
            for peer in range(3)
        ]
        made_up = data.last(run, "memory", f"{field}earned_fraction")
        np.testing.assert_allclose(made_up, np.mean(shares))


@pytest.mark.parametrize(
    ("values", "step"),
    [([0.96, 0.9, 0.95, 0.97], 12), ([0.96] * 4, 4), ([0.96, 0.97, 0.98, 0.9], None)],
)
def test_sustained_step(values, step):
    curves = data.Curves(np.arange(4, 20, 4), np.array([values]))
    assert data.sustained_step(curves, 0.95) == step


def test_network_in_words():
    ring = np.roll(np.eye(4, dtype=int), 1, axis=1)
    assert "at most 3 hops" in figures.describe_network(ring)
    assert "nobody" in figures.describe_network(np.eye(4))
    chain = np.eye(3, k=1)
    assert "3 groups" in figures.describe_network(chain)
    np.testing.assert_allclose(figures.circle(ring)[0], [0.0, 1.0], atol=1e-6)
    assert "aria-label" in figures.network(chain, "chain", "a chain of three peers")


def test_folder_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path / "nowhere")
    write_run(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match="no results yet"):
        write_report(tmp_path)


def test_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    write_run(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="extra `report`"):
        write_report(tmp_path)


def test_command_line_writes_the_same_bytes_from_the_same_files(tmp_path, capsys):
    folders = [write_run(tmp_path / name) for name in "ab"]
    with pytest.raises(SystemExit):
        report.main(["report", *map(str, folders)])
    first, second = (folder / "report.html" for folder in folders)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(SystemExit):
        report.main(["report"])
    assert "no folder" in capsys.readouterr().err


def test_exit_status_of_a_user_error(tmp_path):
    command = [sys.executable, "-m", "launch.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "holds no run" in done.stderr
