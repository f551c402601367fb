"""Grids computed for real: shared programs, masks, failures, interruptions."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2p_sac_jax.ablation import batch_training, engine, results
from p2p_sac_jax.ablation.engine import ablate
from p2p_sac_jax.ablation.grid import grid_points, make_grid
from p2p_sac_jax.ablation.plan import Throughput
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.config_io import from_dict, replace_fields
from p2p_sac_jax.experiment import programs
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.metrics import read_rows
from p2p_sac_jax.experiment.train import train
from p2p_sac_jax.files import load_json
from tests.configs import sweep as tiny
from tests.helpers.commands import run_each
from tests.helpers.processes import ROOT, finish, send

CONFIG = from_dict(tiny.get_config().to_dict())
FILE = ROOT / "tests" / "configs" / "sweep.py"
MEMORY = {"memory": tiny.ARMS["memory"]}
# One arm is made to diverge beside the others, one cannot be built.
BROKEN = {
    "diverging": {"sac.learning_rate": 0.5, "exchange.topology": "empty"},
    "impossible": {"sac.tau": 2.0},
}


def grid(seeds=2, factors=tiny.SWEEP, arms=tiny.ARMS):
    return make_grid(CONFIG, factors, arms, seeds)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A grid whose smaller populations were masked, and the outcome of the call."""
    folder = tmp_path_factory.mktemp("sweep")
    whole = grid(arms=tiny.ARMS | BROKEN)
    diverging = {
        run.key
        for point in grid_points(whole)
        for run in point.runs
        if run is not None and point.arm == "diverging"
    }

    def train_chunk(*arguments):
        state, rows = programs.train_chunk(*arguments)
        for row in rows:
            if row["run"] in diverging and "peer" in row:
                row["diverged"] = f"alpha at step {row['step']}"
        return state, rows

    with pytest.MonkeyPatch.context() as patch:
        # Compiling is expensive on this machine.
        patch.setattr(engine, "expected_throughput", lambda: Throughput(1e-9, 1e9))
        patch.setattr(batch_training, "train_chunk", train_chunk)
        outcome = ablate(whole, folder)
    return folder, outcome


@pytest.mark.thorough
@pytest.mark.slow
def test_inputs_are_recorded_as_they_were_read(tmp_path, monkeypatch):
    graph, content = tmp_path / "graph.csv", "0,1\n1,0\n"
    graph.write_text(content)
    fields = {"exchange.topology": "matrix", "exchange.matrix": str(graph)}
    config = replace_fields(CONFIG, fields | {"population.peers": 2})

    def train_chunk(*arguments):
        graph.write_text("0,0\n0,0\n")
        return programs.train_chunk(*arguments)

    monkeypatch.setattr(batch_training, "train_chunk", train_chunk)
    ablate(make_grid(config, {}, {"network": {}}, 1), tmp_path / "sweep")
    (path,) = (tmp_path / "sweep" / "runs").glob("*/run.json")
    meta = load_json(path)
    assert meta["adjacency"] == [[0, 1], [1, 0]]
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert meta["inputs"]["exchange.matrix"] == digest


def curves_by_point(folder: Path) -> dict[tuple, Curves]:
    sweep = results.load_sweep(folder)
    return {
        (point.arm, point.values["population.peers"], seed): run.curves
        for point in sweep.points
        for seed, run in zip(sweep.seeds, point.runs, strict=True)
        if run is not None
    }


def test_all_runs_come_out_of_one_program(computed):
    folder, outcome = computed
    # One peer is the same run with or without a network. Four runs diverge.
    counts = outcome.computed, outcome.failed, outcome.compilations
    assert counts == (6, 4, 1)
    found = curves_by_point(folder)
    assert len(found) == 8
    for (_, peers, _), curves in found.items():
        assert curves.oracle_fraction.shape == (3, peers)
        assert curves.achieved.shape == (6, peers)
        assert curves.steps.tolist() == [2, 4, 6]
        assert np.isfinite(curves.oracle_fraction).all()
        assert np.isfinite(curves.achieved).all()
    same = found["memory", 1, 0], found["network", 1, 0]
    np.testing.assert_array_equal(same[0].oracle_fraction, same[1].oracle_fraction)
    assert found["network", 2, 0].bytes_received[-1].min() > 0
    assert found["memory", 2, 0].bytes_received.max() == 0


def test_runs_that_fail_are_listed_with_their_reason(computed):
    sweep = results.load_sweep(computed[0])
    reasons = {run["arm"]: run["reason"] for run in sweep.missing}
    assert reasons.keys() == {"diverging", "impossible"}
    assert reasons["impossible"].startswith("sac.tau=2.0 must")
    assert reasons["diverging"] == (
        "peer 0 diverged: alpha at step 2 is not finite or beyond 1e+12"
    )


@pytest.mark.thorough
def test_masked_runs_equal_those_of_their_own_program(computed, tmp_path):
    folder, _ = computed
    outcome = ablate(grid(1, {"population.peers": [1]}, MEMORY), tmp_path)
    assert outcome.compilations == 1
    (own,) = curves_by_point(tmp_path).values()
    masked = curves_by_point(folder)["memory", 1, 0]
    (key,) = (path.name for path in (tmp_path / "runs").iterdir())
    assert results.load_run(tmp_path, key).meta["masked_to"] == 0
    np.testing.assert_allclose(own.oracle_fraction, masked.oracle_fraction, rtol=1e-4)
    np.testing.assert_allclose(own.achieved, masked.achieved, rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_twice(computed, tmp_path):
    folder = shutil.copytree(computed[0], tmp_path / "copy")
    metas = sorted((folder / "runs").glob("*/run.json"))
    before = [path.stat().st_mtime_ns for path in metas]
    again = ablate(grid(), folder)
    assert (again.computed, again.compilations) == (0, 0)
    assert [path.stat().st_mtime_ns for path in metas] == before


def test_a_run_that_another_process_computes_is_awaited(computed, tmp_path):
    folder = shutil.copytree(computed[0], tmp_path / "copy")
    key = sorted(path.name for path in (folder / "runs").iterdir())[0]
    finished = results.load_run(folder, key)
    (folder / "runs" / key / "run.json").unlink()
    claim = results.claim_run(folder, key)
    assert claim is not None
    assert results.claim_run(folder, key) is None

    class OtherProcess(Reporter):
        def log(self, text):
            if text == "1 runs are computed elsewhere":
                results.save_run(folder, key, finished)
                claim.release()

    outcome = ablate(grid(), folder, reporter=OtherProcess(quiet=True))
    assert (outcome.computed, outcome.failed, outcome.compilations) == (0, 0, 0)
    assert not [*folder.rglob("lock")]


@pytest.mark.thorough
def test_two_sweeps_in_one_folder_share_the_work(tmp_path):
    folder = tmp_path / "sweep"
    flags = f"--config={FILE}", "--seeds=2", "--sweep=sac.batch_size=8,9"
    ends = [finish(process) for process in [launch(folder, *flags) for _ in range(2)]]
    assert [end.returncode for end in ends] == [0, 0], ends
    assert "Traceback" not in ends[0].stderr + ends[1].stderr
    counts = [int(re.search(r"(\d+) runs computed in", end.stderr)[1]) for end in ends]
    assert sum(counts) == 12
    tables = [end.stdout for end in ends]
    assert tables[0] == tables[1]


@pytest.mark.thorough
def test_more_seeds_extend_a_sweep(computed, tmp_path):
    folder = shutil.copytree(computed[0], tmp_path / "sweep")
    wider = ablate(grid(3, {"population.peers": [1]}, MEMORY), folder)
    assert wider.computed == 1


@pytest.mark.thorough
def test_a_run_of_a_sweep_equals_the_arm_of_a_training_run(computed, tmp_path):
    folder, _ = computed
    population = dataclasses.replace(CONFIG.population, peers=2)
    config = dataclasses.replace(CONFIG, population=population, arms="memory,network")
    train(config, tmp_path / "run", quiet=True)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    for arm in ("memory", "network"):
        curves = curves_by_point(folder)[arm, 2, 0]
        peer_rows = [row for row in rows if row["run"] == arm and "peer" in row]
        for row in peer_rows:
            index = curves.steps.tolist().index(row["step"])
            share = curves.oracle_fraction[index, row["peer"]]
            np.testing.assert_allclose(share, row["oracle_fraction"], rtol=1e-4)


def launch(folder, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "p2p_sac_jax.commands.ablate"),
            *(f"--workdir={folder}", *arguments),
        ],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.thorough
def test_a_killed_sweep_resumes(tmp_path):
    folder = tmp_path / "sweep"
    process = launch(
        folder, f"--config={FILE}", "--seeds=2", "--sweep=sac.batch_size=8,9"
    )

    def finished():
        paths = (folder / "runs").glob("*/run.json")
        return {path: path.stat().st_mtime_ns for path in paths}

    send(process, signal.SIGKILL, lambda: bool(finished()))
    finish(process)
    kept = finished()
    assert kept
    end = finish(launch(folder))  # the folder holds the grid
    assert end.returncode == 0, end.stderr
    assert kept.items() <= finished().items()
    assert len(finished()) == 12
    assert len(json.loads((folder / "sweep.json").read_text())["points"]) == 8
    assert f"{len(kept)} finished, {12 - len(kept)} to compute" in end.stderr
    assert "network" in end.stdout
    assert (folder / "report.html").is_file()
    assert (folder / "table.csv").is_file()


def test_user_errors_are_one_line(tmp_path):
    folder, config = f"--workdir={tmp_path / 'x'}", f"--config={FILE}"
    expected = {
        folder: "--config is missing; for example --config=ablations/",
        f"{folder} {config} --shard=2": "--shard=2 must be in [0, 1), as --num_shards",
        f"{folder} {config} --num_shards=0": "--num_shards=0 must be a positive",
        f"{folder} {config} --arms=all": "--arms='all' must be one of memory, network",
        f"{folder} {config} --sweep=steps": "--sweep=steps must be FIELD=VALUE",
        f"{folder} {config} --seeds=0": "seeds=0 must be at least 1",
        f"{folder} {config} --submit=1 --submit_minutes=0": "--submit_minutes=0 must",
    }
    ends = run_each("p2p_sac_jax.commands.ablate", list(expected), tmp_path)
    for command, message in expected.items():
        end = ends[command]
        assert (end.returncode, end.stdout) == (2, ""), end.stderr
        assert end.stderr.startswith(f"error: {message}")
        assert end.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
