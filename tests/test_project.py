"""The project as shipped: metadata, pins, licence, public names."""

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


def test_continuous_integration_runs_what_a_developer_runs():
    script = ROOT / ".ci" / "run"
    commands = script.read_text(encoding="utf-8").splitlines()[-2:]
    assert commands == ["make test", "make test-all"]
    assert script.stat().st_mode & 0o100
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in workflow


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
