"""The comparison with third-party SACs: its errors, without any of them installed."""

import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT, run_each

# Nothing is run: this project has no memory for eight peers, the baseline for four.
FAKED = """
import jax
from benchmarks import bench_peers
from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError

def compare(group, config, baselines):
    size, peers, replay = group
    assert peers == 1 or baselines == ["rejax"]
    if peers == 8:
        raise InsufficientMemoryError("too many")
    if peers == 4:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room")
    figure = {"median": 2.0, "min": 1.0, "max": 3.0}
    side = {"updates_per_s": figure, "compile_s": 0.0}
    return [
        {"size": size, "peers": peers, "replay": replay, "baseline": name,
         "ratio": figure, "this": side, "other": side, "others": 0.0}
        for name in baselines
    ]

bench_peers._compare = compare
bench_peers._check_installed = lambda baselines: None
bench_peers.main()
"""


WRONG = {
    "--peers=0": "--peers='0' must be whole numbers, at least 1, by comma",
    "--sizes=large": "--sizes='large': unknown 'large'; allowed: standard, mark",
    "--baselines=rejaks": "--baselines='rejaks': unknown 'rejaks'; allowed: rejax, ",
    "--repeats=0": "--repeats=0 must be at least 1",
    "--baselines=sbx --peers=4": "--peers='4' must hold 1 for sbx",
    "--replay=63": "--replay=63 must be at least a batch, 256",
}


def faked(*arguments):
    return subprocess.run(
        [sys.executable, "-c", FAKED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Result of each wrong command."""
    return run_each(
        "benchmarks.bench_peers", [*WRONG], tmp_path_factory.mktemp("refused")
    )


@pytest.mark.parametrize("wrong", WRONG)
def test_user_errors_are_one_line(refused, wrong):
    done = refused[wrong]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {WRONG[wrong]}")
    assert done.stderr.count("\n") == 1


def test_what_does_not_fit_is_reported_and_the_rest_runs():
    common = "--sizes=market", "--baselines=rejax,sbx"
    done = faked(*common, "--peers=8,4,1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-4:]
    assert [line.split()[:2] for line in lines] == [
        ["market", peers] for peers in ("8", "4", "1", "1")
    ]
    assert lines[0].endswith("left out, this project: too many")
    assert lines[1].endswith("left out, rejax: RESOURCE_EXHAUSTED: no room")
    assert [line.split()[3] for line in lines[2:]] == ["rejax", "sbx"]


def test_sizes_that_no_baseline_can_run_are_skipped():
    common = "--sizes=market", "--baselines=sbx"
    done = faked(*common, "--peers=4,1")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("market "))
    assert line.split()[:4] == ["market", "1", "10000", "sbx"]
