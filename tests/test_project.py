"""The project as shipped: metadata, pins, licence, public names."""

import ast
import configparser
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def metadata():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(requirements):
    """Normalised distribution names of requirement lines."""
    lines = [line for line in requirements.splitlines() if line.strip()]
    found = [re.match(r"[A-Za-z0-9_.-]+", line.strip()) for line in lines]
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def text_files():
    folders = (
        *("p2p_sac_jax", "launch", "configs", "benchmarks", "examples", "tools"),
        *("tests", "docs", ".ci", ".github"),
    )
    nested = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    suffixes = {
        ".py",
        ".md",
        ".cfg",
        ".toml",
        ".txt",
        ".json",
        ".cff",
        ".yml",
        ".yaml",
        ".sh",
        "",
    }
    for path in [*ROOT.iterdir(), *nested]:
        if path.is_file() and path.suffix in suffixes and path != Path(__file__):
            yield path


def test_constraints_name_no_host():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "@" not in text
    assert all("==" in line for line in text.splitlines())


def test_every_requirement_is_pinned(metadata):
    pinned = names((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    wanted = names(metadata["options"]["install_requires"])
    for extra in metadata["options.extras_require"].values():
        wanted |= names(extra)
    assert wanted - pinned == {metadata["metadata"]["name"]}


def test_no_file_says_where_packages_come_from():
    host = re.compile(
        r"pypi\.org|pythonhosted\.org|(?<!no-emit-)index-url|find-links|file:///|"
        r"storage\.googleapis\.com/jax",
        re.IGNORECASE,
    )
    found = [
        path.relative_to(ROOT).as_posix()
        for path in text_files()
        if host.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_licence_and_citation_agree_with_the_metadata(metadata):
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    for field in ("version", "license"):
        assert f"\n{field}: {metadata['metadata'][field]}\n" in citation


def test_continuous_integration_runs_what_a_developer_runs(metadata):
    script = ROOT / ".ci" / "run"
    commands = script.read_text(encoding="utf-8").splitlines()[-3:]
    assert commands == ["make lint", "make test", "make test-all"]
    assert script.stat().st_mode & 0o100
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in workflow
    # Style and types, with every extra that the checked code imports.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    style, lint = (
        re.search(rf"^{target}:(.*\n(?:\t.*\n)+)", makefile, re.MULTILINE)[1]
        for target in ("style", "lint")
    )
    assert "stamp-test" in style
    assert "ruff check" in style
    assert lint.lstrip().startswith("style")
    assert "basedpyright" in lint
    extras = set(metadata["options.extras_require"])
    extras -= {"cuda", "tpu", "run", "test"}
    installed = metadata["options.extras_require"]["test"]
    assert extras <= {*re.search(r"\[(.*)\]", installed)[1].split(",")}


def test_one_list_of_tested_pythons(metadata):
    """CI, the metadata, README and the page on installation name the same."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    tested = re.findall(r"3\.\d+", re.search(r"python: \[(.*)\]", workflow)[1])
    classifiers = metadata["metadata"]["classifiers"]
    assert re.findall(r"Python :: (3\.\d+)", classifiers) == tested
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"from Python {tested[0]} to {tested[-1]}" in " ".join(readme.split())
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (3\.[\d, .]+) \|", page, re.MULTILINE)
    assert ", ".join(rows).split(", ") == tested


CLOCKS = {"perf_counter", "monotonic", "process_time", "time", "time_ns"}


def test_no_test_asserts_a_wall_clock_limit():
    """No comparison in an assert reads a clock, or what was read from one."""

    def reads(node):
        calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
        return any(
            isinstance(f, ast.Attribute)
            and f.attr in CLOCKS
            and isinstance(f.value, ast.Name)
            and f.value.id == "time"
            for f in calls
        )

    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            nodes = list(ast.walk(function))
            timed = {
                name.id
                for node in nodes
                if isinstance(node, ast.Assign) and reads(node.value)
                for target in node.targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            }
            found += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in nodes
                if isinstance(node, ast.Assert)
                and (
                    reads(node.test)
                    or timed
                    & {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
                )
            ]
    assert found == []


def test_commit_hooks_are_make_targets():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    called = re.findall(r"entry: make (\S+)", hooks)
    assert called
    assert {*called} <= {*targets}
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]


def test_public_names_can_be_imported():
    package = importlib.import_module("p2p_sac_jax")
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
