"""``benchmarks.bench`` as a program: its errors, table and files."""

import json
import xml.etree.ElementTree as ET

import jax
import pytest

from tests.helpers.commands import run_each

SVG = "{http://www.w3.org/2000/svg}"
WRONG = {
    "--peers=none": "--peers='none' must be whole numbers, at least 1, by comma",
    "--layout=shard": "--layout='shard': unknown 'shard'",
    "--repeats=0": "--repeats=0 must be at least 1",
    "--peers=1 --devices=2": "--devices='2' must be at most the largest of --pe",
    "--profile --out=x.json": "--out must be left out with --profile",
    "--exchange_every=0": "--exchange_every=0 must be at least 1",
    "--out=/nowhere/at/all.json": "--out='/nowhere/at/all.json': No such file",
    "--device=gpu": "device='gpu' is not available here",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Result of each wrong command."""
    commands = [
        wrong
        for wrong in WRONG
        if wrong != "--device=gpu" or jax.default_backend() != "gpu"
    ]
    return run_each("benchmarks.bench", commands, tmp_path_factory.mktemp("refused"))


@pytest.mark.parametrize("wrong", WRONG)
def test_user_errors_are_one_line(refused, wrong):
    if wrong not in refused:
        pytest.skip("this machine has a GPU")
    done = refused[wrong]
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {WRONG[wrong]}")
    assert done.stderr.count("\n") == 1


@pytest.mark.thorough
def test_program_writes_table_figures_and_picture(tmp_path):
    command = (
        "--sizes=market --peers=2 --layout=map --repeats=1 --replay=300"
        f" --out={tmp_path}/b.json --figure={tmp_path}/b.svg"
    )
    (done,) = run_each("benchmarks.bench", [command], tmp_path).values()
    assert done.returncode == 0, done.stderr
    assert "market       2 map*" in done.stdout
    figures = json.loads((tmp_path / "b.json").read_text("utf-8"))
    assert {"date", "python", "versions", "device", "processor"} <= set(figures)
    (row,), (limit,) = figures["rows"], figures["limits"]
    assert row["updates_per_s"]["median"] > 0
    assert limit["gemm_flop_per_s"]["median"] > 0
    assert ET.parse(tmp_path / "b.svg").getroot().tag == f"{SVG}svg"
