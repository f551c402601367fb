"""The report of a run: one page, self-contained, the same bytes from the same files."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

from launch import report
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.environments.worlds import WORLDS
from p2p_sac_jax.experiment.metrics import read_rows
from p2p_sac_jax.experiment.summary import summarise
from p2p_sac_jax.report import background, labels, peers, write_report
from p2p_sac_jax.report.learning_curves import by_peer, earned
from p2p_sac_jax.report.peers import chosen_peers
from p2p_sac_jax.report.row_figures import describe_network, network
from p2p_sac_jax.report.run_data import load_run_data
from tests.helpers.pages import check_page
from tests.helpers.runs import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), peers=4, steps=52, seeds=2)


@pytest.fixture(scope="module")
def run(folder):
    return load_run_data(folder)


@pytest.fixture(scope="module")
def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def shares(rows, arm, seed, outcome, until=np.inf):
    """Share of the oracle's earned by each peer, summed over its rows."""
    mine = [row for row in rows if (row["run"], row["seed"]) == (arm, seed)]
    totals = {}
    for row in mine:
        if "peer" in row and row["step"] <= until:
            earned, best = totals.get(row["peer"], (0.0, 0.0))
            earned, best = earned + sum(row[outcome]), best + sum(row["oracle"])
            totals[row["peer"]] = earned, best
    return [earned / best for earned, best in totals.values()]


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
        "193 kB",  # 927 bytes a step, 208 steps
        "evaluation_weeks = 52 (default 104)",
        "every peer receives from every other",
        "receives from 15 others a round",
        "pays for 52 messages a peer",
    ):
        assert words in page.words
    # The same files, the same bytes.
    first = path.read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_control_task_shows_returns(tmp_path):
    page = check_page(write_report(write_run(tmp_path, seeds=2, control=True)))
    assert "return of an episode" in page.words
    assert "2 seeds" in page.words
    assert "1 seed" not in page.words
    assert "oracle" not in page.words


def test_unfinished_run_with_broken_values(tmp_path):
    write_run(tmp_path)
    (tmp_path / "stores.json").unlink()
    (tmp_path / "summary.json").unlink()
    path = tmp_path / "run.json"
    changes = {"adjacency": None, "peers": [{"peer": 0, "name": "<b>&"}]}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
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
    assert any("<b>&" in tip for tip in page.tips)
    assert "Critic loss" not in page.words


def test_stores_that_each_seed_draws_are_shown_for_one_seed(tmp_path):
    folder = write_run(tmp_path, peers=4, seeds=2, world="threshold", drawn=True)
    run = load_run_data(folder)
    (network,) = run.data.of_arm("network")
    for seed, one in enumerate(network.runs):
        assert one.meta["names"][1] == f"store {7 + seed} · brand 1"
    shown = peers.worst(run.data).content
    assert shown["peers"].title == "Every peer at the end, seed 0"
    final = by_peer(network.runs[0])[-1]
    column = shown["table"].columns.index("final, network")
    for peer, row in enumerate(shown["table"].rows):
        assert row[0] == f"store {5 * peer + 2} · brand 1"
        assert row[column] == labels.quantity("share", float(final[peer]))
    words = check_page(write_report(folder)).words
    for part in (
        "demand world threshold",
        "stores drawn at random by each seed",
        "In the demand world threshold, demand follows a logit model and falls",
        "by number, seed 0 alone: each seed has other stores. Earned",
        "seed 0 (each seed has other stores)",
        "store 2 · brand 1",
        "intervals over populations",
    ):
        assert part in words
    assert "arm, mean over seeds" not in words
    assert "peer 1" not in words
    assert "The same stores at every seed" not in words


def test_stores_of_every_seed_and_the_usual_world(folder):
    words = check_page(write_report(folder)).words
    assert "Demand follows a logit model." in words
    assert "intervals over market noise" in words
    assert "by number, mean over seeds. Earned" in words
    assert "demand world" not in words
    assert "at random by each seed" not in words


def test_every_demand_world_has_its_words():
    assert {*background.DEMAND_TEXTS} == {*WORLDS}


def test_no_ratio_of_two_arms_that_never_arrive(tmp_path):
    words = check_page(write_report(write_run(tmp_path, steps=8))).words
    assert "own memory never" in words
    assert "which is" not in words.split("own memory never")[1][:30]


def test_statistics_are_those_of_the_closing_table(tmp_path):
    """Five seeds, of which the mean and the interquartile mean differ."""
    folder = write_run(tmp_path, peers=2, steps=52, seeds=5)
    config = from_dict(json.loads((folder / "run.json").read_text())["config"])
    summary = summarise(config, read_rows(folder / "metrics.jsonl"))
    data = load_run_data(folder).data
    names = {
        "final": "oracle_fraction",
        "worst": "oracle_fraction_worst",
        "gap_closed": "gap_closed",
        "earned": "earned_fraction",
        "earned_50": "earned_fraction_early",
        "bytes_per_peer": "bytes_shared_per_peer",
    }
    for arm, prefix in (("network", ""), ("memory", "isolated_"), ("plain", "plain_")):
        (point,) = data.of_arm(arm)
        for measure, name in names.items():
            expected = summary[prefix + name], *summary["intervals"][prefix + name]
            found = labels.centre(data.row(point, measure))
            assert found == pytest.approx(expected, rel=3e-5), (arm, measure)
    usual = data.historical(data.headline(), "earned")
    assert usual == pytest.approx(summary["historical_earned_fraction"], abs=1e-6)
    words = check_page(write_report(folder)).words
    final = f"{100 * summary['oracle_fraction']:.1f}"
    assert f"ends at a policy that earns {final} % [" in words
    assert (
        "Means over seeds [95 % bootstrap interval], as in the closing table" in words
    )


def test_curves_match_the_rows(run, rows):
    (network,) = run.data.of_arm("network")
    for seed, one in enumerate(network.runs):
        np.testing.assert_array_equal(one.curves.steps, range(4, 53, 4))
        evaluated, so_far = by_peer(one), earned(one.curves)
        for row in rows:
            if (row["run"], row["seed"]) == ("network", seed) and "peer" in row:
                found = evaluated[row["step"] // 4 - 1, row["peer"]]
                assert found == pytest.approx(row["oracle_fraction"])
        for step in (4, 28, 52):
            expected = np.mean(shares(rows, "network", seed, "achieved", until=step))
            assert so_far[step // 4 - 1] == pytest.approx(expected, abs=1e-6)
    path = run.prices("memory", 2)
    np.testing.assert_array_equal(path["step"], range(1, 53))
    assert path["price"][5] == run.rows["memory", 0, 2][1]["price"][1]
    places = chosen_peers(run)
    final = by_peer(network.runs[0])[-1]
    assert final[places["best"]] >= final[places["median"]] >= final[places["worst"]]


def test_the_page_shows_what_the_rows_hold(folder, rows):
    page = check_page(write_report(folder))
    last = [r for r in rows if r.get("population") and r["step"] == 52]
    final = 100 * np.mean([r["oracle_fraction"] for r in last if r["run"] == "network"])
    found = re.search(r"ends at a policy that earns ([\d.]+) %", page.words)
    assert float(found[1]) == pytest.approx(final, abs=0.06)
    # The last place of a line in the tooltips of its figure.
    shown = [re.match(r"network, week 52: ([\d.]+)\s%", tip) for tip in page.tips]
    assert float(next(filter(None, shown))[1]) == pytest.approx(final, abs=0.06)


def test_network_as_text():
    ring = np.roll(np.eye(4, dtype=int), 1, axis=1)
    assert "at most 3 hops" in describe_network(ring)
    assert "no links" in describe_network(np.eye(4))
    chain = np.eye(3, k=1)
    assert "3 groups" in describe_network(chain)
    assert "peer 2: receives from 0 peers" in network("A chain", chain).svg


@pytest.mark.parametrize("arms", [["network"], ["plain", "network"], ["plain"]])
def test_runs_of_other_arms(tmp_path, arms):
    write_run(tmp_path)
    path, metrics = tmp_path / "run.json", tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"arms": arms}))
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(x for x in lines if json.loads(x)["run"] in arms))
    words = check_page(write_report(tmp_path)).words
    assert ("which learns without exchange" in words) == (len(arms) == 2)


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("share", 0.98123, "98.1\u00a0%"),
        ("share", -0.5, "−50.0\u00a0%"),
        ("steps", np.inf, "never"),
        ("bytes", 648720, "649 kB"),
        ("points", 0.0042, "+0.42 points"),
        ("return", -123.456, "−123.5"),
        ("return", None, "–"),
    ],
)
def test_quantities(unit, value, shown):
    assert labels.quantity(unit, value) == shown


def test_folder_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path / "nowhere")
    write_run(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match="no results yet"):
        write_report(tmp_path)


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_without_an_optional_library_says_what_to_install(
    tmp_path, monkeypatch, module
):
    write_run(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module}: install the extra `report`"):
        write_report(tmp_path)


def test_command_line(tmp_path, capsys):
    folders = [write_run(tmp_path / name) for name in "ab"]
    with pytest.raises(SystemExit):
        report.main(["report", *map(str, folders)])
    first, second = (folder / "report.html" for folder in folders)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(SystemExit):
        report.main(["report"])
    assert "no folder" in capsys.readouterr().err
