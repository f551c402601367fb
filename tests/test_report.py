"""The report: one page, self-contained, the same bytes from the same files."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from launch import report
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment.report import data, figures, write_report

ARMS = ("plain", "memory", "network")
# Time scale in weeks, final share of the oracle and dip while learning, by arm.
SHAPES = {
    "plain": (70, 0.93, 0.3),
    "memory": (16, 0.977, 0.1),
    "network": (9, 0.982, 0.05),
}


def write_run(
    path: pathlib.Path,
    peers: int = 3,
    steps: int = 24,
    seeds: int = 1,
    control: bool = False,
) -> pathlib.Path:
    """Writes the files of an invented run of a market, or of a control task."""
    rng = np.random.default_rng(7)
    path.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(
        TrainConfig(steps=steps, seeds=seeds, evaluation_weeks=52)
    )
    config["population"]["peers"] = peers
    if control:
        config["environment"]["name"] = "pendulum"
    run = {
        "config": config,
        "config_hash": "3f9a1c04be77",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "versions": {"jax": "0.10.2", "python": "3.11.2"},
        "devices": ["cpu:0", "cpu:1"],
        "platform": "Linux x86_64",
        "layout": "vmap",
        "started": "2026-11-22T14:08:00+00:00",
        "arms": list(ARMS),
        "seeds": list(range(seeds)),
        "peers": [
            {"peer": p, "name": f"store {5 * p + 2} · brand 1"} for p in range(peers)
        ],
        "adjacency": (1 - np.eye(peers, dtype=int)).tolist(),
        "channels": {
            "demand prior": "active",
            "exploration std": "active",
            "value target": "idle: sac.discount is 0",
        },
    }
    (path / "run.json").write_text(json.dumps(run))
    rows = [
        row
        for seed in range(seeds)
        for arm in ARMS
        for row in _rows(rng, arm, seed, peers, steps, control)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(lines)
    (path / "summary.json").write_text(json.dumps(_summary(control)))
    if not control:
        stores = [_store(rng, arm, peer) for arm in ARMS[1:] for peer in range(peers)]
        (path / "stores.json").write_text(json.dumps(stores))
    return path


def _rows(rng, arm, seed, peers, steps, control):
    """Metrics of one arm and seed: population and peer rows of each evaluation."""
    scale, final, dip = SHAPES[arm]
    skill = 0.02 * rng.standard_normal(peers)
    sums = np.zeros(3)
    for step in range(4, steps + 1, 4):
        weeks = np.arange(step - 4, step)
        rise = 1 - np.exp(-step / scale)
        level = 0.93 + (final - 0.93) * rise - dip * rise * np.exp(-step / scale) * 4
        fractions = np.minimum(level + skill * (1.5 - rise), 0.999)
        outcome = np.array([4 * (level - 0.02), 4.0, 4 * 0.93]) * peers
        sums += outcome
        shared = {"run": arm, "seed": seed, "step": step}
        row = shared | {"population": True, "score": float(fractions.mean())}
        if not control:
            row |= {
                "oracle_fraction": float(fractions.mean()),
                "oracle_fraction_worst": float(fractions.min()),
                "baseline_fraction": 0.929,
                "gap_closed": float((fractions.mean() - 0.929) / 0.071),
                "earned_fraction": sums[0] / sums[1],
                "baseline_earned_fraction": sums[2] / sums[1],
            }
        yield row
        for peer in range(peers):
            cost = 0.7 + 0.06 * np.sin((weeks + 9 * peer) / 7)
            oracle = cost + 0.36 + 0.03 * np.cos(2 * np.pi * weeks / 52)
            noise = (0.04 + 0.1 * np.exp(-step / scale)) * rng.standard_normal(4)
            row = shared | {
                "peer": peer,
                "score": float(fractions[peer]),
                "critic_loss": 0.2 + np.exp(-step / 20) * rng.uniform(0.5, 1.5),
                "actor_loss": -1.0,
                "alpha": 0.1 * np.exp(-step / 60),
                "entropy": -1.0,
                "td_error": 0.3 + 0.4 * np.exp(-step / 30),
                "behaviour_std": 0.05 + 0.1 * np.exp(-step / 30),
                "imagined_fraction": 0.0 if arm == "plain" else 0.9,
                "value_weight": 0.0,
                "std_weight": 0.3,
                "confidence": step / (step + 40),
            }
            if not control:
                row |= {
                    "oracle_fraction": float(fractions[peer]),
                    "baseline_fraction": 0.929,
                    "achieved": [outcome[0] / peers / 4] * 4,
                    "oracle": [outcome[1] / peers / 4] * 4,
                    "baseline": [outcome[2] / peers / 4] * 4,
                    "price": (oracle - 0.2 * np.exp(-step / scale) + noise).tolist(),
                    "oracle_price": oracle.tolist(),
                    "cost": cost.tolist(),
                    "demand_slope": 3.2 - 1.2 * np.exp(-step / scale),
                    "demand_slope_std": 0.15 + 1.5 * np.exp(-step / scale),
                }
            yield row


def _store(rng, arm, peer):
    price = np.linspace(0.667, 1.5, 41)
    slope = 3.0 + 0.2 * peer
    true = np.exp(-slope * (price - 1))
    error = rng.normal(0, 0.15 if arm == "memory" else 0.08)
    spread = (0.25 if arm == "memory" else 0.12) * (0.3 + np.abs(price - 1.05) * 2)
    believed = np.exp(-(slope + error) * (price - 1) + 0.2 * error)
    return {
        "run": arm,
        "seed": 0,
        "peer": peer,
        "name": f"store {5 * peer + 2} · brand 1",
        "price": price.tolist(),
        "believed": believed.tolist(),
        "low": (believed * np.exp(-spread)).tolist(),
        "high": (believed * np.exp(spread)).tolist(),
        "true": true.tolist(),
    }


def _summary(control):
    speed = {"compile_s": 6.31, "wall_s": 41.2, "env_steps_per_s": 242.0}
    if control:
        return speed
    return speed | {
        "updates_per_s": 3876.5,
        "bytes_shared_per_peer": 1_483_200,
        "table": {
            "columns": ["", "final", "worst peer", "earned", "gap closed"],
            "rows": [
                ["plain SAC", 0.881, 0.73, 0.744, -0.67],
                ["own memory", "97.4 %", 0.95, 0.951, 0.63],
                ["network", 0.981, 0.961, 0.958, 0.73],
                ["historical price", 0.929, None, 0.93, 0.0],
            ],
        },
    }


class Page(html.parser.HTMLParser):
    """Collects what the tests ask about; complains about unbalanced tags."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def attributes(self, tag, name):
        return [attrs.get(name) for found, attrs in self.tags if found == tag]


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def check_page(path):
    """What holds of every page, whatever the run."""
    raw = path.read_text("utf-8")
    page = Page(path)
    assert "http://" not in raw
    assert "https://" not in raw
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    roles = page.attributes("svg", "role")
    assert roles
    assert set(roles) == {"img"}
    assert all(len(label or "") > 20 for label in page.attributes("svg", "aria-label"))
    assert len(page.attributes("figure", "class")) == len(roles)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', raw)) <= set(ids)
    body = re.sub(r"(fill|stroke): none", "", raw.split("</style>")[1])
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None)\b", body)  # "none": a choice
    return page


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
    report.main(["report", *map(str, folders)])
    first, second = (folder / "report.html" for folder in folders)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(ConfigError, match="no folder"):
        report.main(["report"])


def test_exit_status_of_a_user_error(tmp_path):
    command = [sys.executable, "-m", "launch.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "holds no run" in done.stderr
