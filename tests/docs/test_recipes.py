"""Every recipe of the pages on extending works as written, in a copy of the tree.

A recipe is a section with numbered steps. A ``python`` block whose first line is
``# PATH`` is a whole file. A ``diff`` block whose first line is ``--- PATH`` edits a
file: its context and removed lines stand there exactly once. Indented lines that start
with ``.venv/bin/python`` are commands and must exit 0.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("extending.md", "extending_exchange.md")
TEXT = "\n".join((ROOT / "docs" / page).read_text("utf-8") for page in PAGES)
COPIED = ("p2p_sac_jax", "launch", "configs", "tests", "tools", "docs", "setup.cfg")


class Recipe(NamedTuple):
    files: dict[str, str]  # path -> content
    edits: list[tuple[str, str, str]]  # path, old lines, new lines
    commands: list[list[str]]


def parse(section: str) -> Recipe:
    """Files, edits and commands of one section, its list indentation removed."""
    fence = re.compile(r"^( *)```(python|diff)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    files, edits = {}, []
    for indent, language, body in fence.findall(section):
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        kind, path = lines[0].split()
        if language == "python":
            assert kind == "#", lines[0]
            files[path] = "\n".join(lines[1:]).strip() + "\n"
        else:
            assert kind == "---", lines[0]
            old = [line[1:] for line in lines[1:] if line[:1] in (" ", "-", "")]
            new = [line[1:] for line in lines[1:] if line[:1] in (" ", "+", "")]
            edits.append((path, "\n".join(old) + "\n", "\n".join(new) + "\n"))
    prose = fence.sub("", section).replace("\\\n", " ")
    commands = re.findall(r"^ {4,}\.venv/bin/python (.*)$", prose, re.MULTILINE)
    return Recipe(files, edits, [shlex.split(command) for command in commands])


def recipes() -> dict[str, Recipe]:
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    parsed = {section.splitlines()[0]: parse(section) for section in sections}
    return {name: recipe for name, recipe in parsed.items() if recipe.commands}


RECIPES = recipes()
every = pytest.mark.parametrize("name", RECIPES)


def follow(recipe: Recipe, folder: Path) -> None:
    """Writes the files of a recipe and applies its edits below ``folder``."""
    for path, content in recipe.files.items():
        assert not (folder / path).exists(), f"{path} is there already"
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content, "utf-8")
    for path, old, new in recipe.edits:
        text = (folder / path).read_text("utf-8")
        assert text.count(old) == 1, f"{path} has not exactly one\n{old}"
        (folder / path).write_text(text.replace(old, new), "utf-8")


def copy_tree(folder: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, f"{shlex.join(command)}\n{output}"
    assert "no tests ran" not in output


def test_all_kinds_have_a_recipe():
    titles = " ".join(RECIPES)
    for kind in (
        "environment",
        "topology",
        "aggregator",
        "value-sharing rule",
        "mode",
        "attack",
        "price memory",
        "configuration field",
        "arm",
    ):
        assert kind in titles


def test_recipes_apply_together(tmp_path):
    """All edits find their place, and together they leave a package that imports."""
    copy_tree(tmp_path)
    for recipe in RECIPES.values():
        follow(recipe, tmp_path)
    modules = [
        path.removesuffix(".py").replace("/", ".")
        for recipe in RECIPES.values()
        for path in [*recipe.files, *(edit[0] for edit in recipe.edits)]
        if path.endswith(".py") and path.startswith("p2p_sac_jax/")
    ]
    run(["-c", f"import {', '.join(sorted(set(modules)))}"], tmp_path)


@pytest.mark.thorough
@every
def test_recipe_works_as_written(name, tmp_path):
    copy_tree(tmp_path)
    follow(RECIPES[name], tmp_path)
    for command in RECIPES[name].commands:
        run(command, tmp_path)


@pytest.mark.thorough
def test_the_agent_of_the_network_page_runs(tmp_path):
    page = (ROOT / "docs" / "network.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
