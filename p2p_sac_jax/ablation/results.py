"""The folder of a sweep: what was asked, what is done, what failed.

``DIR/sweep.json`` says what was asked. ``DIR/cells/<key>/`` holds one finished cell,
``cell.json`` and ``curves.npz``, named by its content, so that sweeps which share
cells, and a sweep that is run again, find them. ``DIR/failed/<key>.json`` says why
a cell is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from p2p_sac_jax.ablation import run_curves as arrays
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import from_dict, load_json, save_json

SWEEP = "sweep.json"
_META, _CURVES = "cell.json", "curves.npz"


class Cell(NamedTuple):
    """A finished cell."""

    meta: dict[str, Any]  # config, seed, names, adjacency, seconds, provenance
    curves: Curves


class Point(NamedTuple):
    """One arm at one combination of swept values."""

    arm: str
    values: dict[str, Any]  # swept field -> value; without those the arm sets itself
    cells: list[Cell | None]  # one for each seed; None is not finished, or failed


class Sweep(NamedTuple):
    """A sweep as far as it has come."""

    meta: dict[str, Any]  # name, base config, provenance
    factors: dict[str, list[Any]]  # swept field -> values
    arms: dict[str, dict[str, Any]]  # arm -> overrides
    seeds: list[int]
    points: list[Point]
    failed: list[dict[str, Any]]  # cell, arm, values, seed, reason


def is_sweep(folder: Path) -> bool:
    """Whether ``folder`` holds a sweep."""
    return (folder / SWEEP).is_file()


def is_done(folder: Path, key: str, config: TrainConfig | None = None) -> bool:
    """Whether the cell is finished; its ``cell.json`` is written last.

    Args:
      folder: of the sweep.
      key: of the cell.
      config: what it must have computed; a default of an earlier version may differ.
    """
    path = folder / "cells" / key / _META
    if not path.is_file():
        return False
    return config is None or from_dict(load_json(path)["config"]) == config


def save_cell(folder: Path, key: str, meta: dict[str, Any], curves: Curves) -> None:
    """Writes a finished cell, and forgets that it ever failed."""
    home = folder / "cells" / key
    home.mkdir(parents=True, exist_ok=True)
    arrays.save(home / _CURVES, curves)
    save_json(home / _META, meta)
    (folder / "failed" / f"{key}.json").unlink(missing_ok=True)


def load_cell(folder: Path, key: str) -> Cell | None:
    """A finished cell, or None."""
    if not is_done(folder, key):
        return None
    home = folder / "cells" / key
    return Cell(load_json(home / _META), arrays.load(home / _CURVES))


def save_failure(folder: Path, key: str, reason: str) -> None:
    """Notes why a cell could not be computed; a later call tries it again."""
    (folder / "failed").mkdir(parents=True, exist_ok=True)
    save_json(folder / "failed" / f"{key}.json", {"reason": reason})


def failure(folder: Path, key: str) -> str:
    """Why a cell failed, "" if it did not."""
    path = folder / "failed" / f"{key}.json"
    return str(load_json(path).get("reason", "?")) if path.is_file() else ""


def load_sweep(folder: Path, arms: Iterable[str] = ()) -> Sweep:
    """Reads a sweep and all of its finished cells.

    Args:
      folder: of the sweep.
      arms: only these; all if there are none.

    Raises:
      ConfigError: the folder holds no sweep.
    """
    if not is_sweep(folder):
        raise ConfigError(f"{folder} holds no sweep: there is no {SWEEP}")
    meta = load_json(folder / SWEEP)
    wanted = set(arms) or set(meta["arms"])
    known: dict[str, Cell | None] = {}
    points, failed = [], []
    for point in meta["points"]:
        if point["arm"] not in wanted:
            continue
        cells = []
        for seed, key in zip(meta["seeds"], point["cells"], strict=True):
            if key is not None and key not in known:
                known[key] = load_cell(folder, key)
            cells.append(None if key is None else known[key])
            reason = point["reason"] if key is None else failure(folder, key)
            if reason and cells[-1] is None:
                place = {"arm": point["arm"], "values": point["values"]}
                failed.append({"cell": key, **place, "seed": seed, "reason": reason})
        points.append(Point(point["arm"], point["values"], cells))
    return Sweep(
        meta=meta,
        factors=meta["factors"],
        arms={name: meta["arms"][name] for name in meta["arms"] if name in wanted},
        seeds=meta["seeds"],
        points=points,
        failed=failed,
    )
