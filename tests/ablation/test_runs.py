"""Grids computed for real: shared programs, masks, interruptions, refusals."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from p2p_sac_jax.ablation import engine
from p2p_sac_jax.ablation import results as files
from p2p_sac_jax.ablation.engine import ablate
from p2p_sac_jax.ablation.grid import make_grid
from p2p_sac_jax.ablation.plan import Throughput
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.experiment.metrics import read_rows
from p2p_sac_jax.experiment.train import train
from tests.configs import sweep as tiny
from tests.helpers.processes import PATIENCE_S, ROOT, finish

CONFIG = from_dict(tiny.get_config().to_dict())
FILE = ROOT / "tests" / "configs" / "sweep.py"


def grid(seeds=2, factors=tiny.SWEEP, arms=tiny.ARMS, **fields):
    return make_grid(dataclasses.replace(CONFIG, **fields), factors, arms, seeds)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A grid of which the smaller populations were masked, and what the call said."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        # A machine on which compiling is dear, and remembering its pace is not ours.
        patch.setattr(engine.plan, "known_pace", lambda: Throughput(1e-9, 1e9))
        patch.setattr(engine.plan, "note_pace", lambda pace: None)
        outcome = ablate(grid(), folder, name="sweep")
    return folder, outcome


def by_place(folder: Path) -> dict[tuple, Curves]:
    sweep = files.load_sweep(folder)
    return {
        (p.arm, p.values["population.peers"], seed): cell.curves
        for p in sweep.points
        for seed, cell in zip(sweep.seeds, p.cells, strict=True)
        if cell is not None
    }


def test_all_cells_come_out_of_one_program(computed):
    folder, outcome = computed
    # One peer is the same whether it is said to have a network or not.
    assert (outcome.computed, outcome.failed, outcome.compilations) == (6, 0, 1)
    found = by_place(folder)
    assert len(found) == 8
    for (_, peers, _), curves in found.items():
        assert curves.score.shape == (3, peers)
        assert curves.achieved.shape == (6, peers)
        assert curves.steps.tolist() == [2, 4, 6]
        assert np.isfinite(curves.score).all()
        assert np.isfinite(curves.achieved).all()
    same = found["memory", 1, 0], found["network", 1, 0]
    np.testing.assert_array_equal(same[0].score, same[1].score)
    assert found["network", 2, 0].bytes_received[-1].min() > 0
    assert found["memory", 2, 0].bytes_received.max() == 0


def test_masked_cells_are_those_of_a_program_of_their_own(computed, tmp_path):
    folder, _ = computed
    single = grid(seeds=1, factors={"population.peers": [1]}, arms={"memory": {}})
    outcome = ablate(single, tmp_path, name="sweep")
    assert outcome.compilations == 1
    (own,) = by_place(tmp_path).values()
    masked = by_place(folder)["memory", 1, 0]
    assert files.load_cell(tmp_path, next(iter(keys(tmp_path)))).meta["masked_to"] == 0
    np.testing.assert_allclose(own.score, masked.score, rtol=1e-4)
    np.testing.assert_allclose(own.achieved, masked.achieved, rtol=1e-4, atol=1e-5)


def keys(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cells").iterdir())


def test_a_cell_is_the_arm_of_a_training_run(computed, tmp_path):
    folder, _ = computed
    population = dataclasses.replace(CONFIG.population, peers=2)
    config = dataclasses.replace(CONFIG, population=population, arms="memory,network")
    train(config, tmp_path / "run", quiet=True)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    for arm in ("memory", "network"):
        curves = by_place(folder)[arm, 2, 0]
        mine = [row for row in rows if row["run"] == arm and "peer" in row]
        for row in mine:
            at = curves.steps.tolist().index(row["step"])
            score = curves.score[at, row["peer"]]
            np.testing.assert_allclose(score, row["score"], rtol=1e-4)


def test_nothing_is_computed_twice_and_more_seeds_add_to_it(computed, tmp_path):
    folder, _ = computed
    metas = [folder / "cells" / key / "cell.json" for key in keys(folder)]
    before = [path.stat().st_mtime_ns for path in metas]
    again = ablate(grid(), folder, name="sweep")
    assert (again.computed, again.compilations) == (0, 0)
    more = grid(seeds=3, factors={"population.peers": [2]})
    wider = ablate(more, folder, name="sweep")
    assert wider.computed == 2
    assert [path.stat().st_mtime_ns for path in metas] == before


def test_a_cell_that_fails_is_listed_and_the_others_go_on(tmp_path):
    arms = {
        "wild": {"sac.initial_alpha": 3e38, "exchange.topology": "empty"},
        "impossible": {"sac.tau": 2.0},
    }
    factors = {"population.peers": [2]}
    outcome = ablate(grid(1, factors, arms), tmp_path, name="sweep")
    sweep = files.load_sweep(tmp_path)
    assert (outcome.computed, outcome.failed) == (0, 1)
    reasons = {failed["arm"]: failed["reason"] for failed in sweep.failed}
    assert reasons.keys() == {"wild", "impossible"}
    assert reasons["impossible"].startswith("sac.tau=2.0 must")
    assert all(cell is None for point in sweep.points for cell in point.cells)


def launch(folder, *arguments):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "launch.ablate",
            f"--workdir={folder}",
            *map(str, arguments),
        ],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "sweep"
    asked = f"--config={FILE}", "--seeds=2", "--sweep=sac.batch_size=8,9"
    process = launch(folder, *asked)
    deadline = time.monotonic() + PATIENCE_S
    done = folder / "cells"
    while process.poll() is None and time.monotonic() < deadline:
        if list(done.glob("*/cell.json")):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    finish(process)
    finished = {p: p.stat().st_mtime_ns for p in done.glob("*/cell.json")}
    assert finished
    end = finish(launch(folder))  # the folder knows what was asked
    assert end.returncode == 0, end.stderr
    for path, round_info in finished.items():
        assert path.stat().st_mtime_ns == round_info
    total = len(json.loads((folder / "sweep.json").read_text())["points"])
    assert total == 8
    assert len(list(done.glob("*/cell.json"))) == 12
    assert f"{len(finished)} finished, {12 - len(finished)} to compute" in end.stderr
    assert "network" in end.stdout
    assert (folder / "report.html").is_file()
    assert (folder / "table.csv").is_file()


def test_user_errors_are_one_line(tmp_path):
    config = f"--config={FILE}"
    expected = {
        (): "--config is missing; for example --config=ablations/",
        (config, "--cell=2"): "--cell=2 must be in [0, 1), as --num_cells",
        (config, "--num_cells=0"): "--num_cells=0 must be at least 1",
        (config, "--arms=all"): "--arms='all' must be one of memory, network",
        (config, "--sweep=steps"): "--sweep=steps must be FIELD=VALUE",
        (config, "--seeds=0"): "seeds=0 must be at least 1",
        (config, "--submit=1", "--submit_minutes=0"): "--submit_minutes=0 must be",
    }
    processes = [launch(tmp_path / "x", *arguments) for arguments in expected]
    for process, message in zip(processes, expected.values(), strict=True):
        end = finish(process)
        assert (end.returncode, end.stdout) == (2, ""), end.stderr
        assert end.stderr.startswith(f"error: {message}")
        assert end.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
