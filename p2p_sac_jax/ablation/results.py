"""The folder of a sweep: its grid, its finished runs, its failures.

``DIR/sweep.json`` holds the grid. ``DIR/runs/<key>/`` holds one finished run,
``run.json`` and ``curves.npz``. Its name is a hash of its configuration, so a sweep
that is repeated or widened finds it. ``DIR/failed/<key>.json`` holds the reason of a
failure.
A process claims a run by the lock of its folder while it computes it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.grid import Grid, GridPoint
from p2p_sac_jax.ablation.run_curves import Curves, curves_bytes, parse_curves
from p2p_sac_jax.ablation.runs import Run
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict, to_dict
from p2p_sac_jax.experiment.input_files import digests, read_inputs
from p2p_sac_jax.files import DamagedFile, load_json, save_json, write_atomic
from p2p_sac_jax.folder_lock import FolderInUse, FolderLock

SWEEP = "sweep.json"
_META, _CURVES = "run.json", "curves.npz"
_log = logging.getLogger(__name__)


class RunResult(NamedTuple):
    """A finished run."""

    meta: dict[str, Any]  # config, seed, names, adjacency, seconds, provenance
    curves: Curves


class PointResult(NamedTuple):
    """One arm at one combination of swept values."""

    arm: str
    values: dict[str, Any]  # swept field -> value; without those the arm sets itself
    runs: list[RunResult | None]  # one per seed; None is unfinished or failed


class Sweep(NamedTuple):
    """The finished part of a sweep."""

    meta: dict[str, Any]  # name, base config, provenance
    factors: dict[str, list[Any]]  # swept field -> values
    arms: dict[str, dict[str, Any]]  # arm -> overrides
    seeds: list[int]
    points: list[PointResult]
    missing: list[dict[str, Any]]  # run, arm, values, seed, reason


def is_sweep(folder: Path) -> bool:
    """Whether ``folder`` holds a sweep."""
    return (folder / SWEEP).is_file()


def save_sweep(
    folder: Path, name: str, grid: Grid, points: Sequence[GridPoint]
) -> None:
    """Writes ``sweep.json``; a wider sweep replaces an earlier one of the same name.

    Raises:
      ConfigError: the folder cannot be used, or holds a sweep of another name.
    """
    path = folder / SWEEP
    try:
        other = load_json(path).get("name") if path.exists() else name
    except DamagedFile as error:
        _log.warning("%s; it is written anew", error)
        other = name
    if other != name:
        raise ConfigError(
            f"workdir={str(folder)!r} holds the sweep {other!r},"
            f" not {name!r}; choose another folder"
        )
    content: dict[str, Any] = {
        "name": name,
        "config": to_dict(grid.config),
        "factors": grid.factors,
        "arms": grid.arms,
        "seeds": grid.seeds,
        "points": [
            point._asdict() | {"runs": [run and run.key for run in point.runs]}
            for point in points
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_json(path, content)
    except OSError as error:
        raise ConfigError(
            f"workdir={str(folder)!r} cannot be used: {error.strerror}"
        ) from error


def is_done(folder: Path, run: Run) -> bool:
    """Whether the run is finished and its files are whole; damage is logged.

    The configuration and the files that it names are compared too: a default or a
    file may have changed since the run was written.
    """
    try:
        result = load_run(folder, run.key)
    except DamagedFile as error:
        _log.warning("%s; the run is computed again", error)
        return False
    if result is None or from_dict(result.meta["config"]) != run.config:
        return False
    now = digests(read_inputs(run.config))
    return result.meta.get("inputs", now) == now


def claim_run(folder: Path, key: str) -> FolderLock | None:
    """Claims a run for this process; None where another process computes it."""
    try:
        return FolderLock(folder / "runs" / key, "run")
    except FolderInUse:
        return None


def save_run(folder: Path, key: str, result: RunResult) -> None:
    """Writes a finished run and removes its earlier failure, if any."""
    target, curves = folder / "runs" / key, curves_bytes(result.curves)
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(target / _CURVES, curves)
    digest = {_CURVES: hashlib.sha256(curves).hexdigest()}
    save_json(target / _META, result.meta | digest)  # last: the run is finished
    (folder / "failed" / f"{key}.json").unlink(missing_ok=True)


def load_run(folder: Path, key: str) -> RunResult | None:
    """A finished run, or None.

    Raises:
      DamagedFile: a file of it is missing or not as it was written.
    """
    source = folder / "runs" / key
    if not (source / _META).is_file():
        return None
    meta, path = load_json(source / _META), source / _CURVES
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if meta.get(_CURVES, digest) == digest:
            return RunResult(meta, parse_curves(content))
    except Exception as error:  # damage makes libraries raise anything
        raise DamagedFile(f"{path} is damaged: {error}") from error
    raise DamagedFile(f"{path} is damaged: its content has changed")


def save_failure(folder: Path, key: str, reason: str) -> None:
    """Records why a run failed; a later call computes it again."""
    (folder / "failed").mkdir(parents=True, exist_ok=True)
    save_json(folder / "failed" / f"{key}.json", {"reason": reason})


def _load_reason(path: Path) -> str:
    try:
        return load_json(path)["reason"]
    except DamagedFile as error:
        return str(error)


def load_sweep(folder: Path) -> Sweep:
    """Reads a sweep and all of its finished runs.

    Raises:
      ConfigError: the folder holds no sweep.
    """
    if not is_sweep(folder):
        raise ConfigError(f"{folder} holds no sweep: there is no {SWEEP}")
    meta = load_json(folder / SWEEP)
    loaded: dict[str, RunResult | None] = {}
    damaged: dict[str, str] = {}
    points, missing = [], []
    for point in meta["points"]:
        arm, values, runs = point["arm"], point["values"], []
        for seed, key in zip(meta["seeds"], point["runs"], strict=True):
            if key is not None and key not in loaded:
                try:
                    loaded[key] = load_run(folder, key)
                except DamagedFile as error:
                    loaded[key], damaged[str(key)] = None, str(error)
            runs.append(None if key is None else loaded[key])
            if runs[-1] is None:
                failure = folder / "failed" / f"{key}.json"
                reason = point["reason"] or damaged.get(str(key), "not computed yet")
                if failure.is_file():
                    reason = _load_reason(failure)
                at = {"run": key, "arm": arm, "values": values, "seed": seed}
                missing.append(at | {"reason": reason})
        points.append(PointResult(arm, values, runs))
    factors, arms, seeds = meta["factors"], meta["arms"], meta["seeds"]
    return Sweep(meta, factors, arms, seeds, points, missing)
