"""The documentation: its links lead somewhere, and the names it uses exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from p2p_sac_jax.config import TrainConfig

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "BUILD_NOTES.md")
PAGES = [
    *(ROOT / name for name in NAMES),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "p2p_sac_jax" / "environments" / "data" / "README.md",
]
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
# Pages that may name what was there on an earlier day.
HISTORICAL = {"CHANGELOG.md", "docs/lab_notes.md"}
MAX_PAGE_LINES = 300
FOLDERS = "p2p_sac_jax|configs|tests|launch|benchmarks|examples|tools|docs"
FILE = rf"\b(?:{FOLDERS})/[\w/]+\.(?:py|md|csv|svg|sh|txt)\b"
PROGRAM = r"`?\b(launch|benchmarks|examples|tools)\.([a-z_]+)"

pages = pytest.mark.parametrize("page", TEXT)
current = pytest.mark.parametrize("page", sorted(set(TEXT) - HISTORICAL))


def sections() -> dict[str, set[str]]:
    """Names of the fields of each section of the configuration; "" is the root."""
    root = TrainConfig()
    found = {"": {field.name for field in dataclasses.fields(root)}}
    for name in found[""]:
        section = getattr(root, name)
        if dataclasses.is_dataclass(section):
            found[name] = {field.name for field in dataclasses.fields(section)}
    return found


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def anchors(text: str) -> set[str]:
    """Anchors that a page's headings get, by the rules of Git hosting sites."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pages
def test_links_and_anchors_exist(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", TEXT[page]):
        if target.startswith(("http:", "https:")):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), f"{target}#{anchor}"


def test_a_figure_stands_on_one_page():
    """Other pages link to it: intervals, and counts that are not round."""
    homes: dict[str, str] = {}
    for page, text in TEXT.items():
        prose = re.sub(r"`[^`]*`", "", " ".join(text.split()))
        intervals = r"-?[\d.,]*\d \[-?[\d.,]+, -?[\d.,]+\]"
        for figure in re.findall(rf"{intervals}|\b\d{{1,3}},\d{{3}}\b", prose):
            if not figure.endswith("000"):
                assert homes.setdefault(figure, page) == page, figure


@current
def test_files_and_programs_exist(page):
    for path in re.findall(FILE, TEXT[page]):
        if path not in extension_files():
            assert (ROOT / path).is_file(), path
    for package, module in re.findall(PROGRAM, TEXT[page]):
        if module != "py":
            assert importlib.util.find_spec(f"{package}.{module}"), module


def extension_files() -> set[str]:
    """Files that the recipes of the pages on extending tell the reader to write."""
    text = TEXT["docs/extending.md"] + TEXT["docs/extending_exchange.md"]
    return set(re.findall(r"^ *# (\S+/\S+\.py)$", text, re.MULTILINE))


@current
def test_make_targets_exist(page):
    code = re.findall(r"`make ([a-z-]+)|^    make ([a-z-]+)", TEXT[page], re.MULTILINE)
    assert {a or b for a, b in code} <= make_targets()


def test_command_line_page_lists_every_target_and_preset():
    page = TEXT["docs/command_line.md"]
    listed = set(re.findall(r"^\| `make ([a-z-]+)", page, re.MULTILINE))
    assert listed == make_targets() - {"help"}
    presets = {path.name for path in (ROOT / "configs").glob("[!_]*.py")}
    assert presets == set(re.findall(r"^\| `configs/(\w+\.py)", page, re.MULTILINE))


@current
def test_configuration_fields_exist(page):
    known = sections()
    text = TEXT[page]
    if page == "docs/extending.md":  # one recipe declares a field
        declared = re.findall(r"^ *\+ +(\w+): \w+ = (?:traced|static)", text, re.M)
        known = {section: names | set(declared) for section, names in known.items()}
    if page == "docs/checkpoints.md":  # its tables name arrays of the state
        text = re.sub(r"^\| `.*$", "", text, flags=re.MULTILINE)
    for name in re.findall(r"--config\.([a-z_.0-9]+)", text):
        section, _, field = name.rpartition(".")
        assert field in known[section], name
    names = "|".join(name for name in known if name)
    for section, field in re.findall(rf"`({names})\.([a-z_0-9]+)\b(?!\()", text):
        if field != "py":
            assert field in known[section], f"{section}.{field}"


@pages
def test_pages_are_short(page):
    generated = page == "docs/configuration.md"
    assert generated or len(TEXT[page].splitlines()) <= MAX_PAGE_LINES


def test_build_notes_are_wrapped():
    for line in TEXT["BUILD_NOTES.md"].splitlines():
        assert len(line) <= 100, line


def test_shipped_pictures_are_small_and_whole():
    for path in (ROOT / "docs" / "img").iterdir():
        assert path.stat().st_size < 150_000
        assert ET.parse(path).getroot().tag.endswith("svg")
