"""The README: short, and its commands, program and picture are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import orbax.checkpoint as ocp
import pytest

from p2p_sac_jax.config_io import differing_fields, to_dict
from p2p_sac_jax.report.picture import save_picture
from tests.helpers.configs import preset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MAX_BYTES = 8192
SVG = "{http://www.w3.org/2000/svg}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """Folder and output of the README's Python block, run as a user would."""
    (block,) = blocks("python")
    folder = tmp_path_factory.mktemp("quick_start")
    cache = ROOT / ".jax_cache"  # most of the time is compiling; ``make clean`` clears
    places = {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=folder,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_readme_is_short():
    assert len(README.encode()) <= MAX_BYTES
    (block,) = blocks("python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


def test_readme_names_two_commands_that_exist():
    commands = re.findall(r"^    (make .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert commands == ["make train", "make test"]


def test_python_example_is_a_short_default_run():
    (block,) = blocks("python")
    given = {}
    exec(block.partition("summary =")[0], given)
    pair = map(to_dict, (given["config"], preset("pricing")))
    shortened = {"steps", "checkpoint_every", "evaluation_weeks", "population.peers"}
    assert set(differing_fields(*pair)) == shortened


@pytest.mark.slow
def test_quick_start_prints_a_price_and_its_band(quick_start):
    _, output = quick_start
    share, price, low, high = map(float, re.findall(r"\b\d\.\d{2,3}\b", output))
    assert share < 1
    assert 1 / 1.51 < price < 1.51
    assert 1 / 1.51 < low <= high < 1.51
    assert "store" in output


@pytest.mark.slow
def test_picture_is_self_contained_and_reproducible(quick_start):
    folder, _ = quick_start
    run = folder / "runs" / "first"
    first = save_picture(run, folder / "a.svg").read_text("utf-8")
    assert first == save_picture(run, folder / "b.svg").read_text("utf-8")
    root = ET.fromstring(first)
    # A line that leaves the frame has an arrow and its value behind its name.
    texts = {re.split(" [↓↑]", str(n.text))[0] for n in root.iter(f"{SVG}text")}
    assert root.tag == f"{SVG}svg"
    assert {"network", "own memory", "plain SAC", "historical"} <= texts


@pytest.mark.slow
def test_checkpoint_page_names_the_arrays_of_a_real_checkpoint(quick_start):
    folder, _ = quick_start
    step = folder / "runs" / "first" / "checkpoints" / "24"
    names = set(ocp.StandardCheckpointer().restore(step))
    page = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    files = r"\w+\.jsonl?"
    listed = [
        name
        for row in rows
        for name in re.findall(r"`([a-z][\w.]+?)\.*`", row)
        if not re.fullmatch(files, name)
    ]
    assert len(listed) > 15
    for name in listed:
        assert any(f"{known}.".startswith(f"{name}.") for known in names), name
    roots = {name.split(".")[0] for name in names}
    assert roots == {name.split(".")[0] for name in listed}
