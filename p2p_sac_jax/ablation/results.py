"""The folder of a sweep: its grid, its finished runs, its failures.

``DIR/sweep.json`` holds the grid. ``DIR/runs/<key>/`` holds one finished run,
``run.json`` and ``curves.npz``. Its name is a hash of its configuration, so a sweep
that is repeated or widened finds it. ``DIR/failed/<key>.json`` holds the reason of a
failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.grid import Grid, GridPoint
from p2p_sac_jax.ablation.run_curves import Curves, load_curves, save_curves
from p2p_sac_jax.ablation.runs import Run
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict, load_json, save_json, to_dict

SWEEP = "sweep.json"
_META, _CURVES = "run.json", "curves.npz"


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
    if path.exists() and load_json(path).get("name") != name:
        raise ConfigError(
            f"workdir={str(folder)!r} holds the sweep {load_json(path).get('name')!r},"
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
    """Whether the run is finished.

    Its ``run.json`` is written last. The configuration in it is compared too, as a
    default may have changed since it was written.
    """
    path = folder / "runs" / run.key / _META
    return path.is_file() and from_dict(load_json(path)["config"]) == run.config


def save_run(folder: Path, key: str, result: RunResult) -> None:
    """Writes a finished run and removes its earlier failure, if any."""
    target = folder / "runs" / key
    target.mkdir(parents=True, exist_ok=True)
    save_curves(target / _CURVES, result.curves)
    save_json(target / _META, result.meta)
    (folder / "failed" / f"{key}.json").unlink(missing_ok=True)


def load_run(folder: Path, key: str) -> RunResult | None:
    """A finished run, or None."""
    source = folder / "runs" / key
    if not (source / _META).is_file():
        return None
    return RunResult(load_json(source / _META), load_curves(source / _CURVES))


def save_failure(folder: Path, key: str, reason: str) -> None:
    """Records why a run failed; a later call computes it again."""
    (folder / "failed").mkdir(parents=True, exist_ok=True)
    save_json(folder / "failed" / f"{key}.json", {"reason": reason})


def load_sweep(folder: Path) -> Sweep:
    """Reads a sweep and all of its finished runs.

    Raises:
      ConfigError: the folder holds no sweep.
    """
    if not is_sweep(folder):
        raise ConfigError(f"{folder} holds no sweep: there is no {SWEEP}")
    meta = load_json(folder / SWEEP)
    loaded: dict[str, RunResult | None] = {}
    points, missing = [], []
    for point in meta["points"]:
        arm, values, runs = point["arm"], point["values"], []
        for seed, key in zip(meta["seeds"], point["runs"], strict=True):
            if key is not None and key not in loaded:
                loaded[key] = load_run(folder, key)
            runs.append(None if key is None else loaded[key])
            if runs[-1] is None:
                failure = folder / "failed" / f"{key}.json"
                reason = point["reason"] or "not computed yet"
                if failure.is_file():
                    reason = load_json(failure)["reason"]
                at = {"run": key, "arm": arm, "values": values, "seed": seed}
                missing.append(at | {"reason": reason})
        points.append(PointResult(arm, values, runs))
    factors, arms, seeds = meta["factors"], meta["arms"], meta["seeds"]
    return Sweep(meta, factors, arms, seeds, points, missing)
