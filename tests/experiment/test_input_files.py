"""The files of a run are kept with it; a change is refused by name."""

import dataclasses

import pytest

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment.build import adjacency_of
from p2p_sac_jax.experiment.input_files import (
    MATRIX,
    digests,
    keep_inputs,
    read_inputs,
    run_identity,
)
from tests.helpers.configs import changed

RING, NOBODY = "0,1\n1,0\n", "0,0\n0,0\n"


def config_of(path):
    fields = {"exchange.topology": "matrix", MATRIX: str(path), "population.peers": 2}
    return changed(fields)


def test_a_change_is_refused_and_a_copy_stands_in(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    graph = tmp_path / "graph.csv"
    graph.write_text(RING)
    monkeypatch.chdir(tmp_path)
    config, run = config_of("graph.csv"), tmp_path / "run"
    inputs = read_inputs(config, run, {})
    recorded = digests(inputs)
    keep_inputs(config, run, inputs)
    assert {path.name for path in (run / "inputs").iterdir()} == {
        "exchange.matrix.csv",
        "orange_juice.csv",
    }
    assert read_inputs(config, run, recorded) == inputs
    graph.write_text(NOBODY)
    with pytest.raises(
        ConfigError, match=r"^exchange\.matrix='graph\.csv' has changed"
    ):
        read_inputs(config, run, recorded)
    graph.unlink()
    kept = read_inputs(config, run, recorded)
    assert adjacency_of(config, kept).tolist() == [[0, 1], [1, 0]]
    (run / "inputs" / "exchange.matrix.csv").write_text(NOBODY)
    with pytest.raises(ConfigError, match=r"exchange\.matrix=.*inputs.* has changed"):
        read_inputs(config, run, recorded)
    with pytest.raises(ConfigError, match=r"exchange\.matrix='graph\.csv' .* No such"):
        read_inputs(config, tmp_path / "new", {})


def test_a_path_with_a_tilde_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "graph.csv").write_text(RING)
    assert adjacency_of(config_of("~/graph.csv")).sum() == 2


def test_a_run_is_what_it_computes_wherever_it_does(tmp_path):
    config, inputs = TrainConfig(), {"a": "1"}
    same = run_identity(config, inputs)
    assert run_identity(dataclasses.replace(config, layout="map"), inputs) == same
    assert run_identity(dataclasses.replace(config, seed=1), inputs) != same
    assert run_identity(config, {"a": "2"}) != same


def test_the_module_of_an_own_environment_is_an_input(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "shop.py").write_text("FIRST = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = changed({"environment.name": "shop:make", "memory.kind": "none"})
    inputs = read_inputs(config)
    assert inputs == {"environment.name": b"FIRST = 1\n"}
    keep_inputs(config, tmp_path / "run", inputs)
    (tmp_path / "shop.py").write_text("SECOND = 2\n")
    with pytest.raises(
        ConfigError,
        match=r"^the module of environment\.name \(.*shop\.py\) has changed",
    ):
        read_inputs(config, tmp_path / "run", digests(inputs))
    assert read_inputs(changed({"environment.name": "nowhere_at_all:make"})) == {}
