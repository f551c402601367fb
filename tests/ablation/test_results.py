"""The folder of a sweep: damaged files are computed again, and changed inputs too."""

import dataclasses
import shutil

import numpy as np
import pytest

from p2p_sac_jax.ablation import results
from p2p_sac_jax.ablation.grid import grid_points, make_grid
from p2p_sac_jax.ablation.runs import make_run
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.files import load_json, save_json
from tests.helpers.sweeps import invent, write_sweep

CONFIG = TrainConfig(steps=24, evaluate_every=4)


@pytest.fixture
def stored(tmp_path):
    """A folder with one finished run."""
    run = make_run(CONFIG, {"population.peers": 3}, 0)
    results.save_run(tmp_path, run.key, invent(run))
    assert results.is_done(tmp_path, run)
    return tmp_path, run


def test_damage_of_a_run_is_one_line_and_computed_again(stored, caplog):
    folder, run = stored
    for name in ("run.json", "curves.npz"):
        path = folder / "runs" / run.key / name
        whole = path.read_bytes()
        flips = [bytearray(whole) for _ in range(40)]
        for place, flipped in zip(
            np.linspace(0, len(whole) - 2, 40).astype(int), flips, strict=True
        ):
            flipped[place] ^= 4
        for content in (whole[: len(whole) // 2], b"", b"\0" * 99, *flips):
            path.write_bytes(content)
            caplog.clear()
            if results.is_done(folder, run):  # harmless: white space
                assert results.load_run(folder, run.key).meta["seed"] == 0
                continue
            (record,) = caplog.records
            assert record.getMessage().startswith(f"{path} is damaged: ")
            assert record.getMessage().endswith("; the run is computed again")
        path.unlink()
        assert not results.is_done(folder, run)
        path.write_bytes(whole)
    assert results.is_done(folder, run)


def test_damage_is_a_missing_run_with_its_reason(tmp_path):
    folder = write_sweep(tmp_path / "s", {}, seeds=2, failed=[("memory", 1)])
    whole = results.load_sweep(folder)
    assert len(whole.missing) == 1
    next((folder / "runs").glob("*/curves.npz")).write_bytes(b"")
    failure = next((folder / "failed").iterdir())
    failure.write_bytes(b"\0" * 20)
    reasons = [one["reason"] for one in results.load_sweep(folder).missing]
    assert len(reasons) == 2
    assert all(" is damaged: " in reason for reason in reasons)


def test_a_damaged_grid_is_written_anew(tmp_path, caplog):
    folder = write_sweep(tmp_path / "s", {}, seeds=1)
    (folder / "sweep.json").write_bytes(b"\0" * 20)
    write_sweep(folder, {}, seeds=1)
    assert "sweep.json is damaged" in caplog.text
    assert len(results.load_sweep(folder).points) == 2


def test_a_changed_matrix_is_another_run(tmp_path):
    graph = tmp_path / "graph.csv"
    graph.write_text("0,1\n1,0\n")
    fields = {"population.peers": 2, "exchange.topology": "matrix"}
    fields["exchange.matrix"] = str(graph)
    first = make_run(CONFIG, fields, 0)
    assert make_run(CONFIG, fields, 0) == first
    graph.write_text("0,1\n0,0\n")
    assert make_run(CONFIG, fields, 0).key != first.key
    alone = fields | {"exchange.topology": "empty"}
    assert make_run(CONFIG, alone, 0).key == make_run(CONFIG, alone, 0).key
    graph.unlink()
    arms = {"network": {"exchange.topology": "matrix"}}
    config = dataclasses.replace(
        CONFIG, exchange=dataclasses.replace(CONFIG.exchange, matrix=str(graph))
    )
    (point,) = grid_points(make_grid(config, {}, arms, 1))
    assert "exchange.matrix=" in point.reason
    assert "No such file" in point.reason


def test_a_run_of_another_table_is_computed_again(stored):
    folder, run = stored
    path = folder / "runs" / run.key / "run.json"
    meta = load_json(path)
    assert from_dict(meta["config"]) == run.config
    save_json(path, meta | {"inputs": {"environments/data/orange_juice.csv": "0"}})
    assert not results.is_done(folder, run)
    shutil.rmtree(path.parent)
    assert not results.is_done(folder, run)
