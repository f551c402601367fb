"""Rows for other programs: a tidy table, TensorBoard events, a callback."""

import builtins
import json
import struct

import numpy as np
import pandas as pd
import pytest
from tensorboardX.proto.event_pb2 import Event

from p2p_sac_jax import read_metrics, train
from p2p_sac_jax.experiment.metrics import read_rows
from p2p_sac_jax.experiment.tensorboard import TensorBoardSink
from tests.environments.test_own_environment import GOOD, NO_DEMAND
from tests.helpers.configs import changed, refusal
from tests.helpers.processes import rows
from tests.helpers.runs import write_run


def test_read_metrics_is_tidy(tmp_path):
    frame = read_metrics(write_run(tmp_path, seeds=2))
    columns = ["run", "seed", "step", "peer", "byzantine", "metric", "value"]
    assert [*frame.columns] == columns
    assert frame["value"].dtype == float
    assert not frame.duplicated(columns[:-1]).any()
    found = read_rows(tmp_path / "metrics.jsonl")
    for row in found[-4:]:  # the last evaluation of an arm
        mine = frame[(frame["run"] == row["run"]) & (frame["seed"] == row["seed"])]
        who = mine["peer"] == row["peer"] if "peer" in row else mine["peer"].isna()
        one = mine[who & (mine["metric"] == "oracle_fraction")].set_index("step")
        assert one.loc[row["step"], "value"] == row["oracle_fraction"]
        if "peer" in row:
            prices = mine[who & (mine["metric"] == "price")].sort_values("step")
            assert prices["step"].tolist() == [*range(1, 25)]
            assert prices["value"].tolist()[-4:] == row["price"]


def test_read_metrics_names_senders_and_leaves_out_texts(tmp_path):
    row = {"run": "network", "seed": 0, "step": 4, "peer": 1, "byzantine": True}
    row |= {"trust": [1.0, 0.5], "diverged": "alpha at step 3", "alpha": None}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    frame = read_metrics(tmp_path).set_index("metric")
    assert frame["value"].to_dict() == pytest.approx(
        {"trust[0]": 1.0, "trust[1]": 0.5, "alpha": np.nan}, nan_ok=True
    )
    assert frame["byzantine"].all()
    assert isinstance(frame, pd.DataFrame)


def test_what_is_missing_is_one_line(tmp_path, monkeypatch):
    assert "has no rows" in refusal(read_metrics, tmp_path)
    real = builtins.__import__

    def without(name, *arguments):
        if name.partition(".")[0] in ("pandas", "tensorboardX"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'p2p-sac-jax[data]'" in refusal(read_metrics, tmp_path)
    message = refusal(TensorBoardSink, tmp_path)
    assert "pip install 'p2p-sac-jax[tensorboard]'" in message


def events(folder):
    """(tag, step) -> value of every event file below a folder."""
    found = {}
    for path in folder.glob("events*"):
        content = path.read_bytes()
        while content:  # length, checksum, record, checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_shows_populations_and_the_mean_of_peers(tmp_path):
    found = read_rows(write_run(tmp_path / "run", peers=2) / "metrics.jsonl")
    with TensorBoardSink(tmp_path) as sink:
        for step in (4, 8):
            sink([row for row in found if row["step"] == step])
    shown = events(tmp_path / "tensorboard" / "network_seed0")
    mine = [r for r in found if r["run"] == "network" and r["step"] == 8]
    assert shown["population/oracle_fraction", 8] == pytest.approx(
        mine[0]["oracle_fraction"]
    )
    for name in ("alpha", "price"):
        mean = np.mean([row[name] for row in mine[1:]])
        assert shown[f"peers/{name}", 8] == pytest.approx(mean)
    assert ("peers/peer", 8) not in shown


@pytest.mark.thorough
def test_an_environment_of_ones_own_trains_with_sinks_and_is_recorded(tmp_path):
    """Episodes of three steps with rewards 1, 2, 3 return 6, however long one looks."""
    small = {"hidden": 8, "batch_size": 8, "updates_per_step": 1}
    config = changed(
        NO_DEMAND
        | {"arms": "network", "population.peers": 2, "exchange.interval": 2}
        | {"steps": 8, "checkpoint_every": 4, "evaluation_weeks": 10}
        | {f"sac.{name}": value for name, value in small.items()}
    )
    seen = []
    summary = train(
        config,
        tmp_path,
        environment=GOOD,
        callback=seen.extend,
        tensorboard=True,
        quiet=True,
    )
    assert summary["episode_return"] == 6.0
    assert seen == rows(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    name = run["config"]["environment"]["name"]
    assert name == "tests.environments.test_own_environment:GOOD"
    shown = events(tmp_path / "tensorboard" / "network_seed0")
    assert shown["population/episode_return", 8] == 6.0
    assert train(config, tmp_path, environment=GOOD, quiet=True) == summary
