"""The files of one finished or running folder, as what its report draws.

``run.json`` and ``metrics.jsonl`` are required, ``summary.json`` and ``stores.json``
optional. A run is a sweep of its arms with nothing swept, so both reports share their
measures, figures and text; beside it stand the rows of single peers. Its statistic is
that of ``summary.json`` and of the closing table: the mean over seeds.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.ablation.grid import standard_arms
from p2p_sac_jax.ablation.results import PointResult, RunResult, Sweep
from p2p_sac_jax.ablation.run_curves import curves_of_rows
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.experiment.metrics import Row, read_rows
from p2p_sac_jax.files import load_json
from p2p_sac_jax.report import labels
from p2p_sac_jax.report.figures import Array
from p2p_sac_jax.report.sweep_data import SweepData, compare


class RunData(NamedTuple):
    """Everything that is known of one run."""

    data: SweepData  # the run as a sweep of its arms
    run: Row
    summary: Row  # empty while the run is unfinished
    stores: list[Row]  # empty where demand is unknown
    rows: dict[tuple[str, int, int], list[Row]]  # by arm, seed and peer, in order

    def field(self, arm: str, name: str) -> tuple[Array, Array]:
        """[T] steps and [N, T] values of a field of every peer and seed of an arm.

        NaN where a row lacks it; no step where no row has it.
        """
        series = [
            {row["step"]: labels.finite(row.get(name)) for row in rows}
            for (run, _, _), rows in self.rows.items()
            if run == arm
        ]
        known = [s for one in series for s, value in one.items() if value is not None]
        steps = sorted(set(known))
        table = np.array([[one.get(s) for s in steps] for one in series], float)
        return np.array(steps), table

    def prices(self, arm: str, peer: int) -> dict[str, Array] | None:
        """Training prices of a peer by step, with cost and best price; first seed."""
        names = ("price", "oracle_price", "cost")
        columns = []
        for row in self.rows.get((arm, self.data.sweep.seeds[0], peer), []):
            listed = [row.get(name) or [] for name in names]
            first = row["step"] - len(listed[0]) + 1
            for offset, values in enumerate(zip(*listed, strict=False)):
                columns.append([first + offset, *map(labels.finite, values)])
        table = np.array(columns, float).reshape(-1, 4).T
        known = np.isfinite(table[1]).any()
        return dict(zip(("step", *names), table, strict=True)) if known else None


def load_run_data(workdir: pathlib.Path) -> RunData:
    """Reads the folder of one run.

    Raises:
      ConfigError: the folder holds no run, no results yet, or a broken file.
    """
    summary, stores = workdir / "summary.json", workdir / "stores.json"
    if not (workdir / "run.json").is_file():
        raise ConfigError(f"{workdir} holds no run: there is no run.json")
    run = load_json(workdir / "run.json")
    try:
        rows = read_rows(workdir / "metrics.jsonl")
        demand = json.loads(stores.read_text("utf-8")) if stores.is_file() else []
    except ValueError as error:
        files = "metrics.jsonl or stores.json"
        raise ConfigError(f"{workdir}: {files} is not JSON ({error})") from error
    of_runs: dict[tuple[str, int], list[Row]] = {}
    of_peers: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        of_runs.setdefault((row["run"], row["seed"]), []).append(row)
        if "peer" in row:
            of_peers.setdefault((row["run"], row["seed"], row["peer"]), []).append(row)
    if not of_peers:
        raise ConfigError(f"{workdir} holds no results yet: metrics.jsonl has no rows")
    ending = load_json(summary) if summary.is_file() else {}
    data = compare(_sweep(run, of_runs), np.mean)
    return RunData(data, run, ending, demand, dict(sorted(of_peers.items())))


def _sweep(run: Row, of_runs: Mapping[tuple[str, int], list[Row]]) -> Sweep:
    config = run["config"]
    # A run that was cut short may have a last step that only some arms have reached.
    reached = min(max(row["step"] for row in rows) for rows in of_runs.values())
    everyone = [row for rows in of_runs.values() for row in rows if "peer" in row]
    peers = 1 + max(row["peer"] for row in everyone)
    joins, byzantine = np.zeros(peers, np.int32), np.zeros(peers, bool)
    if config["population"]["newcomers"]:
        first = peers - config["population"]["newcomers"]
        joins[first:] = config["population"]["join_step"]
    byzantine[[row["peer"] for row in everyone if row.get("byzantine")]] = True
    listed = {row["peer"]: row for row in run.get("peers", [])}
    arms = [arm for arm in run["arms"] if any(arm == key[0] for key in of_runs)]
    seeds = sorted({seed for _, seed in of_runs})
    points = [PointResult(arm, {}, []) for arm in arms]
    for point in points:
        shape = run.get("adjacency") if point.arm == "network" else None
        for seed in seeds:
            rows = of_runs.get((point.arm, seed), [])
            kept = [row for row in rows if row["step"] <= reached]
            names = [_name(listed.get(peer, {}), seed) for peer in range(peers)]
            one = run | {"arm": point.arm, "seed": seed, "names": names}
            one["adjacency"] = shape
            curves = curves_of_rows(kept, joins, byzantine) if kept else None
            point.runs.append(RunResult(one, curves) if curves else None)
    try:
        overrides = standard_arms(from_dict(config))
    except ConfigError:  # fields of another version
        overrides = {}
    sets = {arm: overrides.get(arm, {}) for arm in arms}
    return Sweep({"config": config}, {}, sets, seeds, points, [])


def _name(listed: Row, seed: int) -> str | None:
    """Name of a peer at a seed, by its entry in ``run.json``."""
    return listed.get("name") or listed.get("names", {}).get(str(seed))
