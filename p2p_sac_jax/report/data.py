"""Reads the files of a finished or running folder and derives what is drawn.

Files: ``run.json`` and ``metrics.jsonl`` (required), ``summary.json`` and
``stores.json`` (optional). Values that are not finite count as missing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import ConfigError

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunData:
    """Everything the report knows about one run; rows are ordered by step."""

    run: Row
    summary: Row  # empty while the run is unfinished
    stores: list[Row]  # empty where demand is unknown
    population: dict[tuple[str, int], list[Row]]  # by (arm, seed)
    peers: dict[tuple[str, int, int], list[Row]]  # by (arm, seed, peer)

    @property
    def arms(self) -> list[str]:
        """Arms that have results, in the order of the configuration."""
        found = {arm for arm, _ in self.population}
        return [arm for arm in self.run.get("arms", []) if arm in found]

    @property
    def main_arm(self) -> str:
        """The arm the headline speaks of: the network's where there is one."""
        return "network" if "network" in self.arms else self.arms[-1]

    @property
    def seeds(self) -> list[int]:
        """Seeds that have results."""
        return sorted({seed for _, seed in self.population})

    @property
    def has_oracle(self) -> bool:
        """Whether the best attainable reward is known (markets: yes)."""
        return self.has("oracle_fraction")

    @property
    def score_field(self) -> str:
        """The field of the learning curves."""
        return "oracle_fraction" if self.has_oracle else "score"

    @property
    def unit(self) -> str:
        """What one environment step is called."""
        return "week" if self.has_oracle else "step"

    @property
    def last_step(self) -> int:
        """Environment steps behind the last evaluation."""
        return max(
            int(row["step"]) for rows in self.population.values() for row in rows
        )

    def has(self, field: str) -> bool:
        """Whether any population row holds a value of ``field``."""
        return any(
            number(row.get(field)) is not None
            for rows in self.population.values()
            for row in rows
        )

    def peer_name(self, peer: int) -> str:
        """Name of a peer, its number where it has none."""
        for row in self.run.get("peers", []):
            if row.get("peer") == peer:
                return str(row.get("name", f"peer {peer}"))
        return f"peer {peer}"


class Curves(NamedTuple):
    """One value against time, for several seeds or peers; NaN where missing."""

    steps: np.ndarray  # [T]
    values: np.ndarray  # [S, T]


class Band(NamedTuple):
    """A range against time."""

    steps: np.ndarray  # [T]
    low: np.ndarray  # [T]
    high: np.ndarray  # [T]


class PricePath(NamedTuple):
    """What one peer charged while training, step by step."""

    weeks: np.ndarray  # [T] counted from 1
    price: np.ndarray  # [T] of the usual price
    oracle: np.ndarray  # [T] best price, NaN where unknown
    cost: np.ndarray  # [T] unit cost, NaN where unknown


def number(value: Any) -> float | None:
    """``value`` as a float, None where it is missing, text or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def load_run(workdir: pathlib.Path) -> RunData:
    """Reads the folder of one run.

    Raises:
      ConfigError: the folder holds no run, no results yet, or a broken file.
    """
    run = _read_json(workdir / "run.json")
    if not isinstance(run, dict):
        raise ConfigError(f"{workdir} holds no run: there is no usable run.json")
    population: dict[tuple[str, int], dict[int, Row]] = {}
    peers: dict[tuple[str, int, int], dict[int, Row]] = {}
    for row in _read_lines(workdir / "metrics.jsonl"):
        step = int(row["step"])
        if row.get("population"):
            population.setdefault((row["run"], row["seed"]), {})[step] = row
        elif "peer" in row:
            key = (row["run"], row["seed"], row["peer"])
            peers.setdefault(key, {})[step] = row
    for (arm, seed), rows in population.items():
        mine = [rows for key, rows in peers.items() if key[:2] == (arm, seed)]
        _fill_earned(rows, mine)
    data = RunData(
        run=run,
        summary=_read_json(workdir / "summary.json") or {},
        stores=_read_json(workdir / "stores.json") or [],
        population={key: _by_step(rows) for key, rows in sorted(population.items())},
        peers={key: _by_step(rows) for key, rows in sorted(peers.items())},
    )
    if not data.arms:
        raise ConfigError(f"{workdir} holds no results yet: metrics.jsonl has no rows")
    return data


def population_curves(data: RunData, arm: str, field: str) -> Curves:
    """``field`` of the whole population against time, one curve per seed."""
    return _curves([data.population.get((arm, seed), []) for seed in data.seeds], field)


def peer_curves(data: RunData, arm: str, field: str) -> Curves:
    """``field`` of every peer of every seed against time."""
    rows = [rows for (run, _, _), rows in data.peers.items() if run == arm]
    return _curves(rows, field)


def worst_curves(data: RunData, arm: str) -> Curves:
    """Lowest evaluation score of any peer against time, one curve per seed."""
    field = "oracle_fraction_worst"
    if data.has(field):
        return population_curves(data, arm, field)
    per_seed = [
        _curves(
            [r for (a, s, _), r in data.peers.items() if (a, s) == (arm, x)], "score"
        )
        for x in data.seeds
    ]
    steps = next(
        (curves.steps for curves in per_seed if curves.steps.size), np.zeros(0)
    )
    lows = [
        _nan_apply(curves.values, np.min)
        for curves in per_seed
        if curves.steps.shape == steps.shape
    ]
    return Curves(steps, np.array(lows).reshape(len(lows), steps.size))


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the leading axis of what is there, NaN where nothing is."""
    return _nan_apply(values, np.mean)


def middle_half(curves: Curves) -> Band:
    """Quartiles over the leading axis of what is there."""
    low = _nan_apply(curves.values, lambda column: np.quantile(column, 0.25))
    high = _nan_apply(curves.values, lambda column: np.quantile(column, 0.75))
    return Band(curves.steps, low, high)


def last(data: RunData, arm: str, field: str) -> float | None:
    """Mean over seeds of the last value of ``field``, None where there is none."""
    finals = []
    for seed in data.seeds:
        values = [number(r.get(field)) for r in data.population.get((arm, seed), [])]
        finals += [value for value in values if value is not None][-1:]
    return float(np.mean(finals)) if finals else None


def sustained_step(curves: Curves, threshold: float) -> int | None:
    """First evaluation from which the mean never falls below ``threshold`` again."""
    values = mean(curves.values)
    good = np.nan_to_num(values, nan=-np.inf) >= threshold
    if not good.size or not good[-1]:
        return None
    below = np.flatnonzero(~good)
    return int(curves.steps[below[-1] + 1 if below.size else 0])


def final_by_peer(data: RunData, arm: str, seed: int | None = None) -> dict[int, float]:
    """Last evaluation score of each peer, mean over the seeds asked for."""
    scores: dict[int, list[float]] = {}
    for (run, row_seed, peer), rows in data.peers.items():
        if run != arm or (seed is not None and row_seed != seed):
            continue
        values = [number(row.get(data.score_field)) for row in rows]
        scores.setdefault(peer, []).extend([v for v in values if v is not None][-1:])
    return {peer: float(np.mean(v)) for peer, v in sorted(scores.items()) if v}


def chosen_peers(data: RunData) -> list[tuple[str, int]]:
    """The best, median and worst peer of the main arm, first seed, with its place."""
    final = final_by_peer(data, data.main_arm, data.seeds[0])
    ranked = sorted(final, key=lambda peer: (final[peer], peer))
    if len(ranked) < 3:
        names = ("best", "worst") if len(ranked) == 2 else ("only",)
        return list(zip(names, reversed(ranked), strict=False))
    places = ("best", ranked[-1]), ("median", ranked[len(ranked) // 2])
    return [*places, ("worst", ranked[0])]


def price_path(data: RunData, arm: str, peer: int) -> PricePath | None:
    """Training prices of one peer in the first seed, None where none are kept."""
    columns: list[tuple[float, ...]] = []
    for row in data.peers.get((arm, data.seeds[0], peer), []):
        prices = row.get("price") or []
        first = int(row["step"]) - len(prices) + 1
        for offset, price in enumerate(prices):
            values = (
                price,
                _item(row, "oracle_price", offset),
                _item(row, "cost", offset),
            )
            columns.append((first + offset, *(_or_nan(value) for value in values)))
    path = PricePath(*np.array(columns, float).reshape(-1, 4).T)
    return path if np.isfinite(path.price).any() else None


def is_complete(row: Row, *fields: str) -> bool:
    """Whether each of ``fields`` is a list of finite numbers, all of one length."""
    lists = [
        values for f in fields if isinstance(values := row.get(f), list) and values
    ]
    if len(lists) < len(fields):
        return False
    finite = all(number(value) is not None for values in lists for value in values)
    return finite and len({len(values) for values in lists}) == 1


def _fill_earned(population: dict[int, Row], peers: list[dict[int, Row]]) -> None:
    """Adds the shares earned since the start, mean over peers, where rows lack them."""
    for outcome, field in (
        ("achieved", "earned_fraction"),
        ("baseline", "baseline_earned_fraction"),
    ):
        shares: dict[int, list[float]] = {}
        for rows in peers:
            total = best = 0.0
            for step in sorted(rows):
                row = rows[step]
                if not is_complete(row, outcome, "oracle"):
                    continue
                total, best = total + sum(row[outcome]), best + sum(row["oracle"])
                shares.setdefault(step, []).append(1 - (best - total) / abs(best))
        for step, row in population.items():
            if step in shares and number(row.get(field)) is None:
                row[field] = float(np.mean(shares[step]))


def _by_step(rows: dict[int, Row]) -> list[Row]:
    return [rows[step] for step in sorted(rows)]


def _curves(series: list[list[Row]], field: str) -> Curves:
    """Aligns several series on the steps at which any of them has a value."""
    values = [
        {
            int(row["step"]): value
            for row in rows
            if (value := number(row.get(field))) is not None
        }
        for rows in series
    ]
    values = [by_step for by_step in values if by_step]
    steps = sorted(set().union(*values))
    table = [[by_step.get(step, np.nan) for step in steps] for by_step in values]
    return Curves(
        np.array(steps, int), np.array(table).reshape(len(values), len(steps))
    )


def _nan_apply(values: np.ndarray, function: Any) -> np.ndarray:
    columns: Iterable[np.ndarray] = (c[np.isfinite(c)] for c in values.T)
    return np.array([function(c) if c.size else np.nan for c in columns], float)


def _item(row: Row, field: str, index: int) -> Any:
    values = row.get(field) or []
    return values[index] if index < len(values) else None


def _or_nan(value: Any) -> float:
    found = number(value)
    return np.nan if found is None else found


def _read_json(path: pathlib.Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}") from error


def _read_lines(path: pathlib.Path) -> list[Row]:
    """Rows of a JSON-lines file; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines()
    rows = []
    for index, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if index == len(lines) - 1:
                break
            raise ConfigError(
                f"{path}, line {index + 1}: not JSON ({error})"
            ) from error
    return rows
