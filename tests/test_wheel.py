"""The wheel holds all that its programs need, and they run without the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "68")
ROOT = Path(__file__).parents[1]
DATA = {".py", ".csv", ".j2", ".css", ".typed"}
PROGRAMS = "ablate", "calibrate", "make-identity", "report", "run-peer", "train"
BUILD = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy of the tree."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("p2p_sac_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(target)]
    done = subprocess.run(
        command, cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return path


def test_wheel_has_every_module_preset_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (points,) = (name for name in packed if name.endswith("entry_points.txt"))
        scripts = archive.read(points).decode()
    for folder, place in (("p2p_sac_jax", ""), ("configs", "p2p_sac_jax/")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in DATA and path.is_file():
                assert f"{place}{path.relative_to(ROOT).as_posix()}" in packed
    tops = {name.split("/")[0] for name in packed}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"p2p_sac_jax"}
    for name in PROGRAMS:
        module = name.replace("-", "_")
        assert f"p2p-sac-{name} = p2p_sac_jax.commands.{module}:main" in scripts


@pytest.mark.thorough
def test_installed_programs_train_and_sweep_in_another_folder(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, f"--target={site}", str(wheel)], check=True)

    def run(program, *arguments):
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            [site / "bin" / program, *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ("--config.sac.hidden=8", "--config.sac.batch_size=8")
    shown = run("p2p-sac-train", "--config=smoke", "--workdir=run", *small)
    assert "network" in shown
    assert "plain" in shown
    assert (elsewhere / "run" / "report.html").is_file()
    assert run("p2p-sac-train", "--workdir=run") != ""  # its table again
    sweep = (
        "--config=ablations/peer_count",
        "--sweep=population.peers=2",
        "--sweep=exchange.topology=complete",
        "--arms=network",
        "--seeds=1",
        "--config.steps=8",
        "--config.checkpoint_every=8",
    )
    assert "peer_count" in run("p2p-sac-ablate", "--workdir=grid", *sweep, *small)
    reports = run("p2p-sac-report", "run", "grid").splitlines()
    assert reports == ["run/report.html", "grid/report.html"]
