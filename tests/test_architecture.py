"""Imports go down only, files stay short, importing starts no backend."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "p2p_sac_jax"
MAX_LINES = 400

BASE = {
    "arms",
    "coefficients",
    "arguments",
    "types",
    "config",
    "config_io",
    "fields",
    "files",
    "folder_lock",
    "hyper",
    "jax_settings",
    "linalg",
    "streams",
    "tree",
    "validation",
}
PARTS = {"environments", "sac", "demand", "privacy"}
# What each part of the package may import, beside itself. ``config`` and ``validation``
# name registries and rules of the parts, and import them when they are needed.
MAY_IMPORT = (
    dict.fromkeys(BASE, BASE)
    | dict.fromkeys(PARTS, BASE | {"privacy"})
    | {"exchange": BASE | {"privacy"}}
    | {"peer": BASE | PARTS | {"exchange"}}
    | {"simulation": BASE | PARTS | {"exchange", "peer"}}
    | {"experiment": BASE | PARTS | {"exchange", "peer", "simulation"}}
    | {"agent": BASE | PARTS | {"exchange", "peer"}}
)
MAY_IMPORT["ablation"] = MAY_IMPORT["experiment"] | {"experiment"}
MAY_IMPORT["report"] = MAY_IMPORT["ablation"] | {"ablation"}
MAY_IMPORT["commands"] = MAY_IMPORT["report"] | {"report", "agent"}
FLAX_ONLY_IN = f"{PACKAGE}/sac/networks.py"

MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
SOURCES = MODULES + [
    path
    for folder in ("launch", "benchmarks", "examples", "tools", "configs", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def relative(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Absolute dotted names a file imports, names of ``from`` imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(dotted):
    """``p2p_sac_jax.demand.bins`` -> ``demand``; the package itself -> ``""``."""
    return [*dotted.split("."), ""][1]


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_go_down_only(path):
    own = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    names = list(imports(path))
    roots = {name.split(".")[0] for name in names}
    assert not roots & {"launch", "benchmarks", "examples", "tools", "configs", "tests"}
    if relative(path) != FLAX_ONLY_IN:
        assert "flax" not in roots
    if own == "__init__":  # the public face may show every part
        return
    assert own in MAY_IMPORT, f"{own} has no place in the table above"
    used = {part(name) for name in names if name.split(".")[0] == PACKAGE}
    assert used <= MAY_IMPORT[own] | {own}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_importing_everything_starts_no_backend_and_loads_nothing_slow():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
    ]
    program = (
        "import importlib\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "import sys\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())\n"
        "print({'matplotlib', 'orbax', 'scipy.stats'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["False", "set()"], done.stderr


# A kind of file that several parts have, under one name on purpose.
COMMON_MODULES = {"__init__", "base", "registry", "rules"}


def test_no_public_name_stands_for_two_things():
    """Neither a class nor a module; programs carry the name of what they run.

    A package may hold a module of its own name: its main part.
    """
    modules, classes = defaultdict(set), defaultdict(set)
    for path in MODULES:
        own = path.relative_to(ROOT).with_suffix("").parts
        if own[1] != "commands":
            modules[own[-2] if own[-1] == "__init__" else own[-1]].add(own[1:-1])
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(own)
    twice = {
        name: places
        for name, places in (modules | classes).items()
        if len(places) > 1 and name not in COMMON_MODULES
    }
    assert not twice
