"""Training as a process: its files, its figures, and what no moment of death loses."""

import json
import re
import shutil
import signal

import numpy as np
import pytest

from p2p_sac_jax import ConfigError, load_policy, observation
from tests.helpers.processes import (
    STEPS,
    TINY,
    arrays,
    assert_same_run,
    finish,
    has_step,
    interrupt,
    launch,
    read,
    rows,
    saved_steps,
    train,
)

pytestmark = pytest.mark.slow
ARMS = {"plain": "plain_", "memory": "isolated_", "network": ""}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run: what it said, and its folder."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    done = train(workdir)
    assert done.returncode == 0, done.stderr
    return done, workdir


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished folder that a test may spoil."""
    return shutil.copytree(finished[1], tmp_path / "copy")


def test_a_run_leaves_every_file_it_promises(finished):
    done, workdir = finished
    run = read(workdir, "run.json")
    assert run["config"]["sac"]["hidden"] == 8
    assert re.fullmatch(r"[0-9a-f]{12}", run["config_hash"])
    assert {"git_commit", "git_dirty", "devices", "layout"} <= run.keys()
    assert {"python", "jax", "flax", "optax", "numpy"} <= run["versions"].keys()
    assert len(run["peers"]) == len({peer["name"] for peer in run["peers"]}) == 4
    assert saved_steps(workdir) == [*STEPS]
    assert len(read(workdir, "stores.json")) == 4 * len(ARMS)
    assert (workdir / "report.html").stat().st_size > 10_000
    assert "networked" in done.stdout
    assert "indicative" in done.stdout


def test_rows_are_keyed_by_run_seed_step_and_peer(finished):
    keys = [
        (row["run"], row["seed"], row["step"], row.get("peer", row.get("population")))
        for row in rows(finished[1])
    ]
    expected = {
        (arm, 0, step, who)
        for arm in ARMS
        for step in range(4, 25, 4)
        for who in (0, 1, 2, 3, True)
    }
    assert len(keys) == 6 * len(ARMS) * 5
    assert set(keys) == expected
    # 0 == False and 1 == True: whether a row is the population's is told by its key.
    assert sum("population" in row for row in rows(finished[1])) == 6 * len(ARMS)


def test_the_summary_follows_from_the_rows(finished):
    summary = read(finished[1], "summary.json")
    peers = [row for row in rows(finished[1]) if "peer" in row]
    for arm, prefix in ARMS.items():
        mine = [row for row in peers if row["run"] == arm]
        final = [row for row in mine if row["step"] == 24]
        fractions = np.array([row["oracle_fraction"] for row in final])
        usual = np.mean([row["baseline_fraction"] for row in final])
        expected = {
            "oracle_fraction": fractions.mean(),
            "oracle_fraction_worst": fractions.min(),
            "gap_closed": (fractions.mean() - usual) / (1.0 - usual),
            "earned_fraction": _earned(mine, "achieved"),
        }
        for name, value in expected.items():
            assert summary[prefix + name] == pytest.approx(value, rel=1e-6), name
        historical = _earned(mine, "baseline")
        assert summary["historical_earned_fraction"] == pytest.approx(historical)
        assert summary["historical_fraction"] == pytest.approx(usual)


def _earned(mine, name):
    """Mean over peers of the profit earned over the profit there was."""
    shares = []
    for peer in range(4):
        own = [row for row in mine if row["peer"] == peer]
        total = sum(sum(row[name]) for row in own)
        shares.append(total / sum(sum(row["oracle"]) for row in own))
    return np.mean(shares)


def test_time_and_bytes_are_counted(finished):
    summary = read(finished[1], "summary.json")
    assert 0 < summary["compile_s"] < summary["wall_s"]
    # The first three of 24 steps come before learning starts.
    steps, updates = 24 * 4 * len(ARMS), 21 * 2 * 4 * len(ARMS)
    assert summary["env_steps_per_s"] == pytest.approx(steps / summary["run_s"])
    assert summary["updates_per_s"] == pytest.approx(updates / summary["run_s"])
    # Nine numbers a cell in 20 cells, demand statistics of five coefficients and how
    # the peer does, to three receivers in each round but the first: nobody has data.
    floats = 9 * 20 + (5 * 5 + 5 + 1) + 1
    assert summary["bytes_shared_per_peer"] == 4 * floats * 3 * (24 // 4 - 1)


def test_a_run_stopped_twice_and_killed_ends_as_if_it_never_was(finished, tmp_path):
    first = interrupt(tmp_path, signal.SIGINT, has_step(tmp_path, 4))
    assert first.returncode == 130, first.stderr
    last_line = first.stderr.splitlines()[-1]
    assert re.fullmatch(r"SIGINT: saved at step \d+; run again to go on", last_line)
    assert f"saved at step {saved_steps(tmp_path)[-1]};" in last_line

    later = saved_steps(tmp_path)[-1] + 4
    second = interrupt(tmp_path, signal.SIGTERM, has_step(tmp_path, later))
    assert second.returncode == 143, second.stderr
    assert "Traceback" not in first.stderr + second.stderr

    later = saved_steps(tmp_path)[-1] + 4
    killed = interrupt(tmp_path, signal.SIGKILL, has_step(tmp_path, later))
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "summary.json").exists()
    # As if the machine had gone down in the middle of a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"run": "network", "se')

    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stderr
    assert_same_run(tmp_path, finished[1])


def test_a_finished_run_prints_its_table_and_trains_no_more(finished, copy):
    before = (copy / "summary.json").stat().st_mtime_ns
    again = finish(launch(f"--workdir={copy}"))
    assert again.returncode == 0, again.stderr
    assert again.stdout == finished[0].stdout
    assert "is finished; --overwrite starts it anew" in again.stderr
    assert (copy / "summary.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_unless_it_may_overwrite(finished, copy):
    other = "--config.seed=1", "--config.sac.tau=0.02"
    refused = train(copy, *other)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert re.fullmatch(
        r"error: .* differs in (seed, sac\.tau|sac\.tau, seed); .*--overwrite\n",
        refused.stderr,
    )
    assert train(copy, *other, "--overwrite").returncode == 0
    assert {row["seed"] for row in rows(copy)} == {1}
    assert saved_steps(copy) == [*STEPS]


@pytest.mark.thorough
def test_another_layout_goes_on_and_says_what_that_means(finished, copy):
    (copy / "summary.json").unlink()
    for step in STEPS[1:]:
        shutil.rmtree(copy / "checkpoints" / str(step))
    moved = train(copy, "--config.layout=vmap")
    assert moved.returncode == 0, moved.stderr
    assert "not bit-identical to the start: layout" in moved.stderr
    assert "resuming at step 8" in moved.stderr
    one, other = arrays(finished[1], STEPS[-1]), arrays(copy, STEPS[-1])
    for name, array in one.items():
        np.testing.assert_allclose(
            array.astype(float), other[name], 1e-4, 1e-4, err_msg=name
        )


def test_a_trained_policy_advises_a_price(finished):
    obs = observation(week=20, cost=0.65)
    advice = load_policy(finished[1]).price(obs)
    assert 0.66 < advice.low <= advice.high < 1.51
    assert 0.66 < advice.price < 1.51
    assert load_policy(finished[1]).price(obs) == advice
    assert load_policy(finished[1], peer=3, arm="memory").price(obs) != advice


def test_loading_a_policy_leaves_a_save_in_progress_alone(copy):
    unfinished = copy / "checkpoints" / "32.orbax-checkpoint-tmp"
    unfinished.mkdir()
    load_policy(copy)
    assert unfinished.exists()


def test_a_checkpoint_of_another_shape_is_refused_in_one_line(copy):
    description = read(copy, "run.json")
    description["config"]["sac"]["hidden"] = 16
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(ConfigError, match=r"checkpoint 24 in .* does not hold"):
        load_policy(copy)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"peer": 4}, r"peer=4 must be in \[0, 4\)"),
        ({"arm": "netwrk"}, "arm='netwrk', seed=0 must be one of: plain at seed 0, "),
        ({"seed": 9}, "seed=9 must be one of"),
        ({"workdir": "nowhere"}, r"nowhere/run\.json is not a readable conf"),
    ],
)
def test_a_policy_that_is_not_there_is_named_in_one_line(finished, wrong, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_policy(**{"workdir": finished[1], **wrong})
    assert "\n" not in str(error.value)


def test_an_observation_that_makes_no_sense_is_named(finished):
    with pytest.raises(ConfigError, match=r"cost=-1\.0 must be a finite number"):
        observation(week=20, cost=-1.0)
    with pytest.raises(ConfigError, match="must be 11 finite numbers"):
        load_policy(finished[1]).price(np.zeros(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TINY, "--config.sac.tua=0.1"], "did you mean --config.sac.tau?"),
        ([TINY, "--config.attack.kind=ipm"], "attack.byzantine=0 must be above 0"),
        ([TINY], "--workdir is missing; for example --workdir=runs/001"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(arguments, message, tmp_path):
    workdir = [f"--workdir={tmp_path / 'run'}"] if len(arguments) > 1 else []
    done = finish(launch(*arguments, *workdir))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
