"""One population on several devices and processes: the same results everywhere."""

import os
import re
import shutil
import signal

import numpy as np
import pytest

from tests.helpers.processes import (
    ROOT,
    arrays,
    finish,
    has_step,
    launch,
    launch_all,
    read,
    saved_steps,
    send,
)

pytestmark = pytest.mark.thorough
CONFIG = f"--config={ROOT / 'tests' / 'configs' / 'scale.py'}"
LAST = 24
ROWS = "metrics.jsonl"
EIGHT = "--config.devices=8"


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A run on eight devices of one process, and its compiled chunk."""
    folder = tmp_path_factory.mktemp("scaling")
    dump = folder / "dump"
    flags = f"{os.environ['XLA_FLAGS']} --xla_dump_to={dump}"
    done = finish(
        launch(
            CONFIG,
            f"--workdir={folder / 'run'}",
            EIGHT,
            "--device=cpu",
            XLA_FLAGS=f"{flags} --xla_dump_hlo_module_re=jit_.*run_chunk",
        )
    )
    assert done.returncode == 0, done.stderr
    assert "10 peers x 1 runs on 8 cpu device(s); compiled" in done.stderr
    (compiled,) = dump.glob("*run_chunk*after_optimizations.txt")
    return folder / "run", compiled.read_text("utf-8")


@pytest.fixture
def first_third(eight, tmp_path):
    """The run on eight devices as it was after a third of its steps."""
    workdir = shutil.copytree(eight[0], tmp_path / "cut")
    (workdir / "summary.json").unlink()
    for step in (16, LAST):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    return workdir


def assert_same_state(one, other, step, tolerance):
    first, second = arrays(one, step), arrays(other, step)
    assert first["learner.updates"].min() >= 32
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(
            array.astype(float), second[name], tolerance, tolerance, err_msg=name
        )


def test_eight_devices_communicate_in_one_all_gather_per_exchange(eight):
    collectives = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        eight[1],
    )
    assert collectives == ["all-gather"]


def test_padding_of_ten_peers_on_eight_devices_is_not_saved(eight):
    assert read(eight[0], "run.json")["layout_devices"] == 8
    trust = arrays(eight[0], LAST)["trust"]
    assert trust.shape == (10, 1, 10)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Two processes of which one received a signal: their output and the folder."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    pair = launch_all(2, CONFIG, f"--workdir={workdir}", EIGHT)
    send(pair[1], signal.SIGTERM, has_step(workdir, 16))
    return [finish(process) for process in pair], workdir


def test_a_signal_to_one_of_two_processes_stops_both_at_one_step(stopped):
    (first, second), workdir = stopped
    assert (first.returncode, second.returncode) == (143, 143), first.stderr
    assert first.stdout == second.stdout == ""
    assert "8 cpu device(s) of 2 processes" in first.stderr
    (step,) = re.findall(r"^SIGTERM: saved at step (\d+);", first.stderr, re.MULTILINE)
    assert saved_steps(workdir)[-1] == int(step) < LAST
    assert "saved at" not in second.stderr
    assert "Traceback" not in first.stderr + second.stderr


def test_two_processes_compute_the_same_bits_as_one(eight, stopped):
    assert_same_state(eight[0], stopped[1], 16, 0.0)
    single, shared = ((path / ROWS).read_text() for path in (eight[0], stopped[1]))
    assert single.startswith(shared)


def test_four_processes_resume_a_run_of_two(eight, stopped, tmp_path):
    """Each with one device, after two processes with four devices each."""
    workdir = shutil.copytree(stopped[1], tmp_path / "stopped")
    four = launch_all(4, CONFIG, f"--workdir={workdir}", "--config.devices=4")
    first, *others = [finish(process) for process in four]
    assert first.returncode == 0, first.stderr
    assert {done.returncode for done in others} == {0}
    assert "bit-identical to the start: layout_devices 8 -> 4; processes 2 -> 4" in (
        first.stderr
    )
    assert "networked" in first.stdout
    assert {done.stdout for done in others} == {""}
    assert_same_state(eight[0], workdir, LAST, 1e-5)


def test_one_device_resumes_a_run_of_eight(eight, first_third):
    done = finish(launch(CONFIG, f"--workdir={first_third}", "--config.devices=1"))
    assert done.returncode == 0, done.stderr
    assert "not bit-identical to the start: layout_devices 8 -> 1" in done.stderr
    assert "10 peers x 1 runs on 1 cpu device(s); compiled" in done.stderr
    assert_same_state(eight[0], first_third, LAST, 1e-5)


@pytest.mark.evidence
def test_four_processes_resume_a_run_of_one_bit_for_bit(eight, first_third):
    ended = [finish(process) for process in launch_all(4, f"--workdir={first_third}")]
    assert [done.returncode for done in ended] == [0] * 4, ended[0].stderr
    assert "resuming at step 8" in ended[0].stderr
    assert "networked" in ended[0].stdout
    assert {done.stdout for done in ended[1:]} == {""}
    assert_same_state(eight[0], first_third, LAST, 0.0)
    assert (first_third / ROWS).read_bytes() == (eight[0] / ROWS).read_bytes()
