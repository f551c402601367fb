"""The documentation: its programs run, its links lead somewhere, its names exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import orbax.checkpoint as ocp
import pytest

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.report.picture import save_picture

ROOT = Path(__file__).parents[1]
NAMES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "BUILD_NOTES.md")
PAGES = [
    *(ROOT / name for name in NAMES if (ROOT / name).is_file()),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "p2p_sac_jax" / "environments" / "data" / "README.md",
]
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
SVG = "{http://www.w3.org/2000/svg}"

pages = pytest.mark.parametrize("page", TEXT)


def sections() -> dict[str, set[str]]:
    """Names of the fields of each section of the configuration, "" the root's."""
    root = TrainConfig()
    found = {"": {field.name for field in dataclasses.fields(root)}}
    for name in found[""]:
        section = getattr(root, name)
        if dataclasses.is_dataclass(section):
            found[name] = {field.name for field in dataclasses.fields(section)}
    return found


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """The README's Python block, run as a user would; where it ran, what it said."""
    (block,) = re.findall(r"```python\n(.*?)```", TEXT["README.md"], re.DOTALL)
    folder = tmp_path_factory.mktemp("quick_start")
    cache = ROOT / ".jax_cache"  # most of the time is compiling; ``make clean`` clears
    places = {"TMPDIR": str(folder), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=ROOT,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_quick_start_names_a_price_and_its_band(quick_start):
    _, said = quick_start
    share, price, low, high = map(float, re.findall(r"\b\d\.\d{2,3}\b", said))
    assert share < 1
    assert 1 / 1.51 < price < 1.51
    assert 1 / 1.51 < low <= high < 1.51
    assert "store" in said


@pytest.mark.slow
def test_picture_stands_alone_and_is_made_again_alike(quick_start):
    folder, _ = quick_start
    (run,) = (path.parent for path in folder.glob("*/run/run.json"))
    first = save_picture(run, folder / "a.svg").read_text("utf-8")
    assert first == save_picture(run, folder / "b.svg").read_text("utf-8")
    root = ET.fromstring(first)
    words = {node.text for node in root.iter(f"{SVG}text")}
    assert root.tag == f"{SVG}svg"
    assert {"network", "own memory", "plain SAC", "historical"} <= words


@pytest.mark.slow
def test_checkpoint_page_names_arrays_of_a_real_one(quick_start):
    folder, _ = quick_start
    (step,) = folder.glob("*/run/checkpoints/24/default")
    names = set(ocp.StandardCheckpointer().restore(step))
    rows = re.findall(r"^\| (`.*?) \|", TEXT["docs/checkpoints.md"], re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`([a-z][\w.]+?)\.*`", row)]
    assert len(told) > 15
    for name in told:
        assert any(f"{known}.".startswith(f"{name}.") for known in names), name
    roots = {name.split(".")[0] for name in names}
    assert roots == {name.split(".")[0] for name in told}


def test_shipped_picture_is_small_and_whole():
    for path in (ROOT / "docs" / "img").iterdir():
        assert path.stat().st_size < 150_000
        assert ET.parse(path).getroot().tag == f"{SVG}svg"


@pages
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXT[page]):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), target


@pages
def test_files_and_modules_named_exist(page):
    text = TEXT[page]
    for path in re.findall(r"\b(?:configs|tests|launch|docs)/[\w/]+\.\w+", text):
        assert (ROOT / path).is_file(), path
    for module in re.findall(r"`?\blaunch\.(\w+)", text):
        assert importlib.util.find_spec(f"launch.{module}"), module


@pages
def test_make_targets_exist(page):
    code = re.findall(r"`make (\w+)|^    make (\w+)", TEXT[page], re.MULTILINE)
    assert {a or b for a, b in code} <= targets()


def test_readme_lists_every_target_and_preset():
    readme = TEXT["README.md"]
    assert {f"make {name}" for name in targets() - {"help"}} <= set(
        re.findall(r"make [a-z]+", readme)
    )
    presets = {path.name for path in (ROOT / "configs").glob("[!_]*.py")}
    assert presets == set(re.findall(r"\bconfigs/(\w+\.py)", readme))


@pages
def test_configuration_fields_exist(page):
    known = sections()
    text = TEXT[page]
    if page == "docs/checkpoints.md":  # whose tables name arrays, held to below
        text = re.sub(r"^\| `.*$", "", text, flags=re.MULTILINE)
    for name in re.findall(r"--config\.([a-z_.0-9]+)", text):
        section, _, field = name.rpartition(".")
        assert field in known[section], name
    names = "|".join(name for name in known if name)
    for section, field in re.findall(rf"`({names})\.([a-z_0-9]+)\b(?!\()", text):
        if field != "py":
            assert field in known[section], f"{section}.{field}"
