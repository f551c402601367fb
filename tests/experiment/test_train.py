"""Training: its files, its numbers, and a kill at any moment that loses nothing."""

import os
import re
import shutil
import signal

import numpy as np
import pytest

from p2p_sac_jax import ConfigError, load_policy, observation, train, write_report
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.experiment.metrics_columns import KEY, PEER, POPULATION, columns_table
from p2p_sac_jax.experiment.signals import StopRequest
from p2p_sac_jax.files import save_json
from p2p_sac_jax.folder_lock import FolderInUse, FolderLock
from tests.configs import tiny
from tests.helpers.commands import run_each
from tests.helpers.processes import (
    CLUSTER,
    ROOT,
    STEPS,
    TINY,
    arrays,
    assert_same_run,
    finish,
    has_step,
    interrupt,
    launch,
    occupied_port,
    read,
    rows,
    saved_steps,
)

pytestmark = pytest.mark.slow
ARMS = {"plain": "plain_", "memory": "isolated_", "network": ""}
TWO = "--config.devices=2"  # as these tests have


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    config = tiny.get_config()
    config.devices = 2
    train(from_dict(config.to_dict()), workdir, quiet=True)
    write_report(workdir)
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished folder that a test may change."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture(scope="module")
def commands(finished, tmp_path_factory):
    """``train`` on the command line, ended before it compiles anything."""
    folder = tmp_path_factory.mktemp("commands")
    new = f"{TINY} --workdir={folder / 'new'}"
    with occupied_port() as port:
        cluster = " ".join(CLUSTER).format(port=port, count=2, index=0)
        asked = {
            "finished": f"--workdir={finished}",
            "other": f"{TINY} {TWO} --workdir={finished} --config.seed=1"
            " --config.sac.tau=0.02",
            "typo": f"{new} --config.sac.tua=0.1",
            "steps": f"{new} --config.steps=25",
            "workdir": TINY,
            "gpu": f"{new} --device=gpu",
            "port": f"{new} {cluster}",
        }
        done = run_each("p2p_sac_jax.commands.train", list(asked.values()), folder)
    assert not (folder / "new").exists()
    return {name: done[command] for name, command in asked.items()}


def test_a_run_leaves_every_file_it_promises(finished):
    run = read(finished, "run.json")
    assert run["config"]["sac"]["hidden"] == 8
    assert re.fullmatch(r"[0-9a-f]{12}", run["config_hash"])
    assert {"git_commit", "git_dirty", "devices", "layout"} <= run.keys()
    assert {"python", "jax", "flax", "optax", "numpy"} <= run["versions"].keys()
    assert len(run["peers"]) == len({peer["name"] for peer in run["peers"]}) == 4
    assert saved_steps(finished) == [*STEPS]
    assert len(read(finished, "stores.json")) == 4 * len(ARMS)
    assert (finished / "report.html").stat().st_size > 10_000


def test_rows_are_keyed_by_run_seed_step_and_peer(finished):
    keys = [
        (row["run"], row["seed"], row["step"], row.get("peer", row.get("population")))
        for row in rows(finished)
    ]
    expected = {
        (arm, 0, step, who)
        for arm in ARMS
        for step in range(4, 25, 4)
        for who in (0, 1, 2, 3, True)
    }
    assert len(keys) == 6 * len(ARMS) * 5
    assert set(keys) == expected
    # 0 == False and 1 == True: the key tells the rows of a population.
    assert sum("population" in row for row in rows(finished)) == 6 * len(ARMS)


def test_columns_are_those_that_are_declared(finished):
    declared = {"peer": PEER, "population": POPULATION}
    # Columns that this configuration does not have.
    absent = {"byzantine", "diverged", "episode_return", "epsilon", "trust"}
    for row in rows(finished):
        kind = "peer" if "peer" in row else "population"
        names = {column.name for column in (*KEY, *declared[kind])}
        assert row.keys() == names - absent


def test_the_documentation_shows_the_declared_columns():
    assert columns_table() in (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")


def test_the_summary_follows_from_the_rows(finished):
    summary = read(finished, "summary.json")
    peers = [row for row in rows(finished) if "peer" in row]
    for arm, prefix in ARMS.items():
        own = [row for row in peers if row["run"] == arm]
        final = [row for row in own if row["step"] == 24]
        fractions = np.array([row["oracle_fraction"] for row in final])
        usual = np.mean([row["baseline_fraction"] for row in final])
        expected = {
            "oracle_fraction": fractions.mean(),
            "oracle_fraction_worst": fractions.min(),
            "gap_closed": (fractions.mean() - usual) / (1.0 - usual),
            "earned_fraction": earned(own, "achieved"),
        }
        for name, value in expected.items():
            assert summary[prefix + name] == pytest.approx(value, rel=1e-6), name
        historical = earned(own, "baseline")
        assert summary["historical_earned_fraction"] == pytest.approx(historical)
        assert summary["historical_fraction"] == pytest.approx(usual)


def earned(own, name):
    """Mean over peers of the profit earned over the profit of the oracle."""
    shares = []
    for peer in range(4):
        peer_rows = [row for row in own if row["peer"] == peer]
        total = sum(sum(row[name]) for row in peer_rows)
        shares.append(total / sum(sum(row["oracle"]) for row in peer_rows))
    return np.mean(shares)


def test_time_and_bytes_are_counted(finished):
    summary = read(finished, "summary.json")
    assert 0 < summary["compile_s"] < summary["wall_s"]
    # The first three of 24 steps come before learning starts.
    steps, updates = 24 * 4 * len(ARMS), 21 * 2 * 4 * len(ARMS)
    assert summary["env_steps_per_s"] == pytest.approx(steps / summary["run_s"])
    assert summary["updates_per_s"] == pytest.approx(updates / summary["run_s"])
    # Nine numbers a cell in 20 cells, demand statistics of five coefficients and the
    # peer's performance, to three receivers in each round but the first, without data.
    floats = 9 * 20 + (5 * 5 + 5 + 1) + 1
    assert summary["bytes_shared_per_peer"] == 4 * floats * 3 * (24 // 4 - 1)


def test_a_killed_run_resumes_bit_for_bit(finished, tmp_path):
    killed = interrupt(tmp_path, signal.SIGKILL, has_step(tmp_path, 12), TWO)
    assert killed.returncode == -signal.SIGKILL
    assert saved_steps(tmp_path)[0] == STEPS[0]
    assert not (tmp_path / "summary.json").exists()
    # As if the machine had failed in the middle of a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"run": "network", "se')
    train(from_dict(read(tmp_path, "run.json")["config"]), tmp_path, quiet=True)
    assert_same_run(tmp_path, finished)


def test_signals_are_recorded_and_handlers_restored():
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        with StopRequest() as stop:
            assert stop.signal == 0
            os.kill(os.getpid(), number)
            assert stop.signal == number
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.thorough
def test_a_run_stopped_twice_ends_as_if_uninterrupted(finished, tmp_path):
    first = interrupt(tmp_path, signal.SIGINT, has_step(tmp_path, 4), TWO)
    assert first.returncode == 130, first.stderr
    last_line = first.stderr.splitlines()[-1]
    assert re.fullmatch(r"SIGINT: saved at step \d+; run again to resume", last_line)
    assert f"saved at step {saved_steps(tmp_path)[-1]};" in last_line

    later = saved_steps(tmp_path)[-1] + 4
    second = interrupt(tmp_path, signal.SIGTERM, has_step(tmp_path, later), TWO)
    assert second.returncode == 143, second.stderr
    assert "Traceback" not in first.stderr + second.stderr

    done = finish(launch(f"--workdir={tmp_path}"))
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stderr
    assert "networked" in done.stdout
    assert (tmp_path / "report.html").exists()
    assert_same_run(tmp_path, finished)


def test_a_finished_run_prints_its_table_and_trains_no_more(finished, commands):
    done = commands["finished"]
    assert done.returncode == 0, done.stderr
    assert "networked" in done.stdout
    assert "indicative" in done.stdout
    assert "is finished; --overwrite starts it anew" in done.stderr
    assert "compiled" not in done.stderr
    assert f"report: {finished / 'report.html'}" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", r"workdir=.* differs in (seed, sac\.tau|sac\.tau, seed); .*--overwr"),
        ("typo", r".*did you mean --config\.sac\.tau\?"),
        ("steps", r"steps=25 must be a multiple of "),
        ("workdir", r"--workdir is missing; for example --workdir=runs/001"),
        ("gpu", r"device='gpu' is not available here; allowed: auto, or a device"),
        ("port", r".*port \d+ of this host cannot be used: Address already in use"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(commands, name, message):
    done = commands[name]
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.match(f"error: {message}", done.stderr)
    assert done.stderr.count("\n") == 1


def test_a_folder_in_use_is_refused_and_left_alone(copy):
    config = from_dict(read(copy, "run.json")["config"])
    (copy / "summary.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with FolderLock(copy):
        for overwrite in (False, True):
            with pytest.raises(FolderInUse, match=f"process {os.getpid()} of"):
                train(config, copy, overwrite=overwrite, quiet=True)
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_an_input_that_has_changed_is_refused_by_name(copy):
    run = read(copy, "run.json")
    (name,) = run["inputs"]
    assert (copy / "inputs" / "orange_juice.csv").stat().st_size > 200_000
    run["inputs"][name] = "0" * 64
    save_json(copy / "run.json", run)
    (copy / "summary.json").unlink()
    message = f"{name}=.* has changed since the run in workdir=.*; .* --overwrite"
    with pytest.raises(ConfigError, match=message):
        train(from_dict(run["config"]), copy, quiet=True)
    with pytest.raises(ConfigError, match=message):
        load_policy(copy)


@pytest.mark.thorough
def test_damage_costs_work_and_nothing_else(finished, copy):
    """Of the newest checkpoint, of rows before the one before, of four JSON files."""
    rows_file, newest = copy / "metrics.jsonl", copy / "checkpoints" / "24"
    lines = rows_file.read_bytes().splitlines(keepends=True)
    rows_file.write_bytes(b"".join([*lines[:-40], b"\0" * 99, *lines[-7:]]))
    for path in (newest / "manifest.ocdbt", copy / "run.json", copy / "summary.json"):
        path.write_bytes(path.read_bytes()[:90])
    (copy / "times.json").write_bytes(b"")
    done = finish(launch(TINY, TWO, f"--workdir={copy}"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "run.json is damaged" in done.stderr
    assert f"checkpoint 24 in {str(newest.parent)!r} is damaged\n" in done.stderr
    assert "metrics.jsonl is damaged before its rows of step 16" in done.stderr
    assert "resuming at step 8" in done.stderr
    assert_same_run(copy, finished)


@pytest.mark.thorough
def test_overwrite_replaces_a_run(copy):
    config = read(copy, "run.json")["config"]
    config["seed"] = 1
    train(from_dict(config), copy, overwrite=True, quiet=True)
    assert {row["seed"] for row in rows(copy)} == {1}
    assert saved_steps(copy) == [*STEPS]


@pytest.mark.thorough
def test_another_layout_resumes_and_logs_the_difference(finished, copy):
    (copy / "summary.json").unlink()
    for step in STEPS[1:]:
        shutil.rmtree(copy / "checkpoints" / str(step))
    moved = finish(launch(TINY, TWO, f"--workdir={copy}", "--config.layout=vmap"))
    assert moved.returncode == 0, moved.stderr
    assert "not bit-identical to the start: layout" in moved.stderr
    assert "resuming at step 8" in moved.stderr
    one, other = arrays(finished, STEPS[-1]), arrays(copy, STEPS[-1])
    for name, array in one.items():
        np.testing.assert_allclose(
            array.astype(float), other[name], 1e-4, 1e-4, err_msg=name
        )


def test_a_trained_policy_advises_a_price(finished):
    obs = observation(week=20, cost=0.65)
    policy = load_policy(finished)
    advice = policy.price(obs)
    assert 0.66 < advice.low <= advice.high < 1.51
    assert 0.66 < advice.price < 1.51
    assert policy.price(obs) == advice
    assert load_policy(finished, peer=3, arm="memory").price(obs) != advice
    with pytest.raises(ConfigError, match=r"cost=-1\.0 must be a finite number"):
        observation(week=20, cost=-1.0)
    for wrong in (np.zeros(3), [None] * 11, ["0.6"] * 10 + ["x"], [1e39] * 11, "text"):
        with pytest.raises(ConfigError, match="must be 11 finite numbers"):
            policy.price(wrong)


def test_loading_a_policy_leaves_a_save_in_progress_alone(copy):
    unfinished = copy / "checkpoints" / "32.orbax-checkpoint-tmp"
    unfinished.mkdir()
    load_policy(copy)
    assert unfinished.exists()


def test_a_checkpoint_of_another_shape_is_refused_in_one_line(copy):
    description = read(copy, "run.json")
    description["config"]["sac"]["hidden"] = 16
    save_json(copy / "run.json", description)
    with pytest.raises(ConfigError, match=r"checkpoint 24 in .* does not hold"):
        load_policy(copy)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"peer": 4}, r"peer=4 must be in \[0, 4\)"),
        ({"arm": "netwrk"}, "arm='netwrk', seed=0 must be one of: plain at seed 0, "),
        ({"seed": 9}, "seed=9 must be one of"),
        ({"workdir": "nowhere"}, r"nowhere/run\.json cannot be read: No such"),
    ],
)
def test_a_policy_that_is_not_there_is_named_in_one_line(finished, wrong, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_policy(**{"workdir": finished, **wrong})
    assert "\n" not in str(error.value)
