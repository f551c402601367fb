"""One population on several devices and processes: the same run, wherever it lives."""

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

pytestmark = pytest.mark.slow
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
            XLA_FLAGS=f"{flags} --xla_dump_hlo_module_re=jit_run_chunk",
        )
    )
    assert done.returncode == 0, done.stderr
    assert "10 peers x 1 runs on 8 cpu device(s); compiled" in done.stderr
    (compiled,) = dump.glob("*run_chunk*after_optimizations.txt")
    return folder / "run", compiled.read_text("utf-8")


@pytest.fixture
def cut(eight, tmp_path):
    """The run on eight devices as it was after a third."""
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


def test_eight_devices_meet_in_one_all_gather_an_exchange(eight):
    collectives = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        eight[1],
    )
    assert collectives == ["all-gather"]


def test_ten_peers_need_padding_on_eight_devices_and_keep_none(eight):
    assert read(eight[0], "run.json")["layout_devices"] == 8
    trust = arrays(eight[0], LAST)["trust"]
    assert trust.shape == (10, 1, 10)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of two processes of which one got a signal: what they said, the folder."""
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


def test_two_processes_compute_the_bits_that_one_does(eight, stopped):
    assert_same_state(eight[0], stopped[1], 16, 0.0)
    alone, run_on_all = ((path / ROWS).read_text() for path in (eight[0], stopped[1]))
    assert alone.startswith(run_on_all)


def test_four_processes_go_on_with_what_two_began(eight, stopped, tmp_path):
    """Each with one device, where there were two with four."""
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


def test_one_device_goes_on_with_what_eight_began(eight, cut):
    done = finish(launch(CONFIG, f"--workdir={cut}", "--config.devices=1"))
    assert done.returncode == 0, done.stderr
    assert "not bit-identical to the start: layout_devices 8 -> 1" in done.stderr
    assert "10 peers x 1 runs on 1 cpu device(s); compiled" in done.stderr
    assert_same_state(eight[0], cut, LAST, 1e-5)


@pytest.mark.evidence
def test_four_processes_go_on_with_what_one_began_and_compute_its_bits(eight, cut):
    ended = [finish(process) for process in launch_all(4, f"--workdir={cut}")]
    assert [done.returncode for done in ended] == [0] * 4, ended[0].stderr
    assert "resuming at step 8" in ended[0].stderr
    assert "networked" in ended[0].stdout
    assert {done.stdout for done in ended[1:]} == {""}
    assert_same_state(eight[0], cut, LAST, 0.0)
    assert (cut / ROWS).read_bytes() == (eight[0] / ROWS).read_bytes()


def test_what_process_0_refuses_all_refuse_and_it_alone_says_so(eight):
    other = CONFIG, f"--workdir={eight[0]}", EIGHT, "--config.seed=1"
    first, second = map(finish, launch_all(2, *other))
    assert (first.returncode, second.returncode) == (2, 2)
    said = re.findall(r"^error: .*", first.stderr + second.stderr, re.MULTILINE)
    assert len(said) == 1
    assert "differs in seed; " in first.stderr
