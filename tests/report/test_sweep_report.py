"""The report of a sweep: one page that shows what the runs hold, and no more."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from p2p_sac_jax.config import (
    AttackConfig,
    EnvironmentConfig,
    ExchangeConfig,
    MemoryConfig,
    ModelRolloutsConfig,
    PopulationConfig,
    TrainConfig,
    WeightsConfig,
)
from p2p_sac_jax.files import load_json, save_json
from p2p_sac_jax.report import (
    background,
    comparisons,
    headline,
    neighbours,
    peers,
    write_report,
)
from p2p_sac_jax.report import learning_curves as learning
from p2p_sac_jax.report.sweep_data import load_sweep_data
from p2p_sac_jax.report.theme import PALETTE
from tests.helpers.pages import check_page
from tests.helpers.sweeps import ALONE, ARMS, PLAIN, write_sweep

TWO_FACTORS = {
    "population.peers": [2, 4],
    "exchange.topology": ["complete", "ring"],
}
YEAR = TrainConfig(steps=52, evaluate_every=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sweep(
        tmp_path_factory.mktemp("sweeps") / "peers_and_topology",
        TWO_FACTORS,
        ARMS | {"plain": PLAIN},
        config=YEAR,
        failed=[("plain", 1)],
        missing=[("plain", 2)],
    )


@pytest.fixture(scope="module")
def page(folder):
    return check_page(write_report(folder))


@pytest.fixture(scope="module")
def data(folder):
    return load_sweep_data(folder)


def curves_of_runs(folder, arm, **values):
    """Curves of every finished run of a point, read from the files alone."""
    sweep = json.loads((folder / "sweep.json").read_text())
    (point,) = [
        point
        for point in sweep["points"]
        if point["arm"] == arm and values.items() <= point["values"].items()
    ]
    known = [folder / "runs" / key / "curves.npz" for key in point["runs"]]
    return [np.load(path) for path in known if path.exists()]


def earned(arrays, steps):
    """Share of the oracle's earned in the first steps, mean over honest peers."""
    kept = ~arrays["byzantine"]
    achieved = arrays["achieved"][:steps, kept].sum(axis=0, dtype=float)
    oracle = arrays["oracle"][:steps, kept].sum(axis=0, dtype=float)
    return np.mean(achieved / oracle)


def test_page_is_small_and_self_contained(folder, page):
    path = folder / "report.html"
    raw = path.read_text("utf-8")
    assert path.stat().st_size < 2_000_000
    assert [p.name for p in folder.glob("report*")] == ["report.html"]
    # Whatever is drawn follows the reader's light or dark.
    assert not re.search(r"#[0-9a-f]{6}\b", raw.split("</style>")[1])
    assert set(re.findall(r"var\(--([a-z-]+)\)", raw)) <= PALETTE.keys()
    for section in ("Learning curves", "What was swept", "Provenance"):
        assert section in page.words


def test_every_axis_has_its_panels(page):
    kinds = page.attributes("input", "type")
    assert kinds == ["radio"] * 3
    labels = [label or "" for label in page.attributes("svg", "aria-label")]
    for axis in ("week of training", "all peers together", "bytes"):
        panels_of_axis = [x for x in labels if x.startswith("Line") and axis in x]
        assert len(panels_of_axis) >= 3  # 2 of 4 peers, 1 of 2 peers


def test_headline_shows_what_the_runs_hold(folder, page):
    networked = curves_of_runs(
        folder, "network", **{"population.peers": 4, "exchange.topology": "complete"}
    )
    alone = curves_of_runs(folder, "memory", **{"population.peers": 4})
    ours = [earned(arrays, 50) for arrays in networked]
    theirs = [earned(arrays, 50) for arrays in alone]
    gains = np.subtract(ours, theirs)
    found = re.search(
        r"With 4 peers, topology complete, the arm network earned ([\d.]+) % .*"
        r"against ([\d.]+) %.* for own memory.* difference ([+\d.]+) points",
        page.words.partition("no claim")[0],
    )
    assert found
    # The IQM of three is their mean; one decimal is shown, and of differences two.
    expected = [100 * np.mean(values) for values in (ours, theirs, gains)]
    shown = list(map(float, found.groups()))
    np.testing.assert_allclose(shown[:2], expected[:2], atol=0.06)
    np.testing.assert_allclose(shown[2], expected[2], atol=0.006)
    assert "over 3 seeds" in page.words
    assert "Keeping the prices from before learning earns 93.0 %" in page.words


def test_failed_and_missing_runs_are_listed(folder, page):
    reason = "ConfigError: no <finite> score"  # escaped on the way in
    assert page.words.count(reason) == 2  # plain at 2 and at 4 peers
    assert page.words.count("not computed yet") == 2
    assert "4 of 24 results are missing" in page.words
    assert "4 results missing" in page.words
    assert page.words.count("1 of 3") >= 2  # seeds behind plain, in the tables
    failures = json.loads(next((folder / "failed").iterdir()).read_text())
    assert failures["reason"] == reason


def test_tables_hold_every_point(data):
    content = headline.tables(data).content
    for name in ("figures", "differences", "improvement"):
        points = [row[0] for row in content[name].rows]
        # Of two peers the ring is the complete graph: the same population.
        assert sum(point.startswith("network, ") for point in points) == 3
        for arm in ("own memory", "historical price"):
            assert {f"{arm}, 2 peers", f"{arm}, 4 peers"} <= {*points}


def test_one_seed_claims_nothing(tmp_path):
    small = write_sweep(tmp_path / "small", {}, seeds=1)
    path = write_report(small)
    first = path.read_bytes()
    assert write_report(small).read_bytes() == first  # same files, same page
    words = check_page(path).words
    assert "1 seed: indicative" in words
    assert "indicative, no claim" in words
    assert "The interval" not in words


def test_two_seeds_are_shown_one_by_one(tmp_path):
    folder = write_sweep(tmp_path / "two", {}, ARMS | {"plain": PLAIN}, 2, YEAR)
    page = check_page(write_report(folder))
    assert "2 seeds: indicative, no claim" in page.words
    assert "small marks and thin lines single seeds" in page.words
    assert "%\u00a0[" not in page.words
    assert not re.search(r"\d \[|a gain|The interval", page.words)
    data = load_sweep_data(folder)
    point = data.headline()
    ours, theirs = (
        [earned(arrays, 50) for arrays in curves_of_runs(folder, arm)]
        for arm in ("network", "memory")
    )
    found = data.of_seeds(point, "earned_50", data.control_of(point))
    np.testing.assert_allclose(found, np.subtract(ours, theirs), atol=1e-9)


def test_rates_leave_masked_runs_out(tmp_path):
    folder = write_sweep(tmp_path / "rates", {"population.peers": [2, 4]}, seeds=1)
    for path in (folder / "runs").glob("*/run.json"):
        meta = load_json(path)
        peers = meta["config"]["population"]["peers"]
        save_json(path, meta | {"masked_to": 4 if peers == 2 else 0})
    rows = dict(background.sections(load_sweep_data(folder))[1].content["runs"].rows)
    # 24 steps of 4 peers took 0.002 * 4 * 24 s in each run.
    assert rows["environment steps per second, 4 peers"] == pytest.approx(500)
    assert "environment steps per second, 2 peers" not in rows
    assert rows["runs"].startswith("2 of 4 ran masked in a program of more peers")


def test_every_peer_can_be_looked_up(folder, data):
    table = peers.worst(data).content["table"]
    assert table.columns[:4] == [
        "peer", "number", "final, network, complete", "final, own memory",
    ]  # fmt: skip
    curves = curves_of_runs(
        folder, "network", **{"population.peers": 4, "exchange.topology": "complete"}
    )
    for peer, row in enumerate(table.rows):
        assert row[:2] == [f"store {5 * peer + 2}, brand 1", str(peer)]
        final = np.mean([arrays["oracle_fraction"][-1, peer] for arrays in curves])
        assert row[2] == f"{100 * final:.1f}\u00a0%"
    assert len(table.rows) == 4


def test_stores_that_each_seed_draws_are_shown_for_one_seed(tmp_path):
    base = dataclasses.replace(YEAR, population=PopulationConfig(draw="random"))
    folder = write_sweep(tmp_path / "drawn", {}, seeds=2, config=base)
    for path in (folder / "runs").glob("*/run.json"):
        meta = load_json(path)
        names = [f"{name} of seed {meta['seed']}" for name in meta["names"]]
        save_json(path, meta | {"names": names})
    data = load_sweep_data(folder)
    table = peers.worst(data).content["table"]
    first = data.headline().runs[0].curves.oracle_fraction[-1]
    for peer, row in enumerate(table.rows):
        assert row[0] == f"store {5 * peer + 2}, brand 1 of seed 0"
        assert row[2] == f"{100 * first[peer]:.1f}\u00a0%"
    words = check_page(write_report(folder)).words
    assert "seed 0 alone: each seed has other stores" in words
    assert "stores drawn at random by each seed" in words


def test_control_task_shows_returns(tmp_path):
    config = TrainConfig(
        steps=24,
        environment=EnvironmentConfig(name="pendulum"),
        memory=MemoryConfig(kind="none"),
        model_rollouts=ModelRolloutsConfig(fraction=0.0),
    )
    folder = write_sweep(
        tmp_path / "pendulum", {}, {"plain": PLAIN, "network": {}}, 2, config,
        oracle=False,
    )  # fmt: skip
    words = check_page(write_report(folder)).words
    assert "has a mean return over training of" in words
    assert "plain SAC" in words
    assert "best attainable profit" not in words
    assert "historical" not in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairs": 1, "difference_low": None}, "One seed: indicative, no claim."),
        ({"pairs": 2, "difference_low": None}, "2 seeds: indicative, no claim."),
        ({"difference_low": -0.001}, "no difference is claimed"),
        ({}, "a gain; from fewer than 10 seeds"),
        ({"pairs": 10}, "The interval excludes 0: a gain."),
        (
            {"pairs": 10, "difference": -0.02, "difference_low": -0.03}
            | {"difference_high": -0.01},
            "The interval excludes 0: a loss.",
        ),
        ({"difference": 9e-5, "difference_low": 8e-5}, "no difference is claimed"),
    ],
)
def test_no_claim_without_an_interval_beyond_zero(changes, words):
    row = {"measure": "final", "pairs": 5, "difference": 0.02}
    row |= {"difference_low": 0.01, "difference_high": 0.03}
    assert words in headline.claim(row | changes)


def test_headline_is_not_chosen_by_its_result(tmp_path):
    swept = {"exchange.topology": ["empty", "ring", "complete"]}
    config = dataclasses.replace(YEAR, exchange=ExchangeConfig(topology="ring"))
    folder = write_sweep(tmp_path / "small", swept, seeds=2, config=config)
    assert load_sweep_data(folder).headline().values == {"exchange.topology": "ring"}


def test_panels_put_what_is_compared_first(data):
    panels = data.panels()
    assert list(panels) == ["4 peers", "2 peers"]
    names = [point.look.label for point in panels["4 peers"]]
    assert names[:3] == ["own memory", "network, complete", "network, ring"]
    colours = {point.look.colour for point in panels["4 peers"]}
    assert len(colours) == len(names)


def test_curves_of_a_population(tmp_path):
    """Against loops over peers, with byzantine peers and peers that join late."""
    config = dataclasses.replace(
        YEAR, attack=AttackConfig(kind="sign_flip", byzantine=1)
    )
    (cell,) = (
        load_sweep_data(write_sweep(tmp_path / "s", {}, seeds=1, config=config))
        .points[0]
        .runs
    )
    joins = cell.curves.joins.copy()
    joins[0] = 20
    cell = cell._replace(curves=cell.curves._replace(joins=joins))
    c = cell.curves
    for index, step in enumerate(c.steps):
        peers = [p for p in range(16) if not c.byzantine[p] and joins[p] < step]
        assert len(peers) == (15 if step > 20 else 14)
        score = np.mean([c.oracle_fraction[index, p] for p in peers])
        shares = [
            sum(c.achieved[joins[p] : step, p]) / sum(c.oracle[joins[p] : step, p])
            for p in peers
        ]
        found = learning.over_peers(c, learning.by_peer(cell))[index]
        np.testing.assert_allclose(found, score, rtol=1e-5)
        earned_so_far = learning.earned(c)[index]
        np.testing.assert_allclose(earned_so_far, np.mean(shares), rtol=1e-5)


def test_axes_count_what_they_say(data):
    cell = data.headline().runs[0]
    by_title = {axis.title: axis.of(cell) for axis in learning.cost_axes(data)}
    steps = np.arange(4, 53, 4)
    np.testing.assert_array_equal(by_title["weeks per peer"], steps)
    np.testing.assert_array_equal(by_title["total weeks"], 4 * steps)
    np.testing.assert_allclose(by_title["bytes"], 848 * 3 * steps / 4)


def test_the_same_population_is_drawn_once(folder, data, page):
    """A ring of two peers is the complete graph, a network of one peer isolated."""
    assert data.repeated == {"network, 2 peers, ring": "network, 2 peers, complete"}
    assert "once: network, 2 peers, ring is network, 2 peers, complete." in page.words
    assert not any("network, ring, number of peers 2" in tip for tip in page.tips)


def test_byzantine_peers_and_trust(tmp_path):
    config = dataclasses.replace(
        YEAR,
        weights=WeightsConfig(trust_rate=0.3),
        exchange=ExchangeConfig(aggregator="median"),
        attack=AttackConfig(kind="sign_flip", byzantine=1),
    )
    arms = ARMS | {"plain mean": {"exchange.aggregator": "mean"}}
    swept = {"attack.byzantine": [1, 3]}
    data = load_sweep_data(write_sweep(tmp_path / "attacks", swept, arms, 2, config))
    content = comparisons.factors(data).content
    titles = [figure.title for figure in content["trends"]]
    assert "Earned in the first 50 weeks by byzantine peers" in titles
    # The arm's own override.
    (forest, *_) = comparisons.effects(data).content["forests"]
    assert forest.title == "Difference: earned in the first 50 weeks"
    assert ">plain mean, 3 byzantine<" in forest.svg
    trust = neighbours.trust(data).content["figure"].svg
    assert "byzantine 0.07" in trust  # exp(-52 / 20), as they were invented
    assert "honest 1," in trust


def test_a_factor_of_privacy(tmp_path):
    swept = {"privacy.value_noise": [0.5, 1.0, 4.0]}
    config = dataclasses.replace(YEAR, exchange=ExchangeConfig(mode="consortium"))
    folder = write_sweep(tmp_path / "factor", swept, seeds=2, config=config)
    page = check_page(write_report(folder))
    assert "Final score by value noise" in page.words
    assert any("value noise 4:" in tip for tip in page.tips)
    # The isolated arm has no noise: one run, compared with at every value, drawn once.
    data = load_sweep_data(folder)
    assert [point.arm for point in data.panels()["value noise 1"]] == [
        "memory",
        "network",
    ]
    (trend, *_) = comparisons.factors(data).content["trends"]
    assert ">own memory<" in trend.svg
    assert "own memory, value noise" not in trend.svg
    table = headline.tables(data).content["differences"]
    assert [row[0].rpartition(" ")[2] for row in table.rows if "network" in row[0]] == [
        "0.5", "1", "4",
    ]  # fmt: skip


def test_without_a_control_nothing_is_compared(tmp_path):
    folder = write_sweep(tmp_path / "small", {}, {"network": {}}, 2)
    data = load_sweep_data(folder)
    assert data.control == ""
    assert comparisons.effects(data) is None
    assert "no arm to compare it with" in check_page(write_report(folder)).words


def test_runs_of_different_code_are_listed(tmp_path):
    folder = write_sweep(tmp_path / "small", {}, seeds=2)
    path = next((folder / "runs").iterdir()) / "run.json"
    save_json(path, load_json(path) | {"git_commit": "f00"})
    content = background.sections(load_sweep_data(folder))[1].content
    rows = dict(content["runs"].rows)
    assert "f00 (1 runs)" in rows["code: differs between runs"]
    assert ("own memory", "exchange.topology = empty (default complete)") in content[
        "config"
    ].rows


def test_folder_without_runs_is_one_line(tmp_path):
    folder = write_sweep(tmp_path / "empty", {}, {"memory": ALONE}, 1,
                         failed=[("memory", 0)])  # fmt: skip
    command = [sys.executable, "-m", "launch.report", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "without a finished run: ConfigError: no <finite> score" in done.stderr
    assert not (folder / "report.html").exists()
