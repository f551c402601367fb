"""The files of one finished or running folder, as what its report draws.

``run.json`` and ``metrics.jsonl`` are required, ``summary.json`` and ``stores.json``
optional. Values that are not finite count as missing.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from p2p_sac_jax.ablation.measures import PopulationMeasures, Values, measure
from p2p_sac_jax.ablation.run_curves import Curves, curves_of_rows
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.metrics import Row, read_rows
from p2p_sac_jax.report import labels, theme
from p2p_sac_jax.report import learning_curves as learning
from p2p_sac_jax.report.figures import Array, Quantity, Trace

HISTORICAL = "historical"  # in place of an arm: the price before learning, for ever


@dataclasses.dataclass(frozen=True)
class RunData:
    """Everything that is known of one run."""

    run: Row
    summary: Row  # empty while the run is unfinished
    stores: list[Row]  # empty where demand is unknown
    arms: list[str]  # that have results, in the order of the configuration
    seeds: list[int]
    curves: dict[tuple[str, int], Curves]  # by arm and seed
    measures: dict[tuple[str, int], PopulationMeasures]
    rows: dict[tuple[str, int, int], list[Row]]  # by arm, seed and peer, in order

    @property
    def config(self) -> Row:
        """Configuration of the run."""
        return self.run["config"]

    @property
    def main_arm(self) -> str:
        """The arm of the headline: the network's where there is one."""
        return "network" if "network" in self.arms else self.arms[-1]

    @property
    def has_oracle(self) -> bool:
        """Whether the best attainable reward is known (markets: yes)."""
        return any(map(learning.has_oracle, self.curves.values()))

    @property
    def step(self) -> str:
        """What one environment step is called."""
        return "week" if self.config["environment"]["name"] == "pricing" else "step"

    @property
    def time(self) -> Quantity:
        """The horizontal axis of learning curves."""
        return Quantity(f"{self.step} of training", self.step)

    @property
    def score(self) -> Quantity:
        """The vertical axis of learning curves."""
        if self.has_oracle:
            return Quantity("share of the best attainable profit", "share")
        return Quantity("return of an episode", "return")

    @property
    def steps(self) -> Array:
        """[E] steps of the evaluations."""
        return next(iter(self.curves.values())).steps

    @property
    def peers(self) -> int:
        """Number of peers."""
        return len(next(iter(self.curves.values())).joins)

    def look(self, arm: str) -> theme.Look:
        """How an arm, or ``HISTORICAL``, is drawn and called."""
        if arm == HISTORICAL:
            return theme.HISTORICAL
        return theme.look(arm, self.arms)

    def peer_name(self, peer: int) -> str:
        """Name of a peer, its number where it has none."""
        for row in self.run.get("peers", []):
            if row.get("peer") == peer:
                return str(row.get("name", f"peer {peer}"))
        return f"peer {peer}"

    def by_peer(self, arm: str) -> Array:
        """[S, E, P] evaluations, NaN where a peer is byzantine or has not joined."""
        return np.array([self._evaluated(arm, seed) for seed in self.seeds])

    def _evaluated(self, arm: str, seed: int) -> Array:
        curves = self.curves[arm, seed]
        there = learning.present(curves, curves.steps)
        values = learning.by_peer(curves, self.config["evaluation_weeks"])
        return np.where(there, values, np.nan)

    def earned(self, arm: str) -> Array:
        """[S, E] share of the oracle's earned so far, by an arm or ``HISTORICAL``."""
        usual = arm == HISTORICAL
        of_seeds = [
            self.curves[self.main_arm if usual else arm, seed] for seed in self.seeds
        ]
        return np.array(
            [learning.earned(c, c.baseline if usual else c.achieved) for c in of_seeds]
        )

    def value(self, arm: str, name: str) -> tuple[float, float, float] | None:
        """A measure, mean over seeds with its 95 % interval, None where it is missing.

        Args:
          arm: or ``HISTORICAL``, in the market of the main arm.
          name: of the measure.
        """
        found = [self._measured(arm, seed).get(name, np.nan) for seed in self.seeds]
        if not np.isfinite(found).all():
            return None
        if len(found) == 1:
            return found[0], found[0], found[0]
        middle, low, high = statistics.estimate([found], np.mean)
        return middle, low, high

    def mean(self, arm: str, name: str) -> float | None:
        """The same without its interval."""
        found = self.value(arm, name)
        return None if found is None else found[0]

    def _measured(self, arm: str, seed: int) -> Values:
        if arm == HISTORICAL:
            return self.measures[self.main_arm, seed].historical
        found = self.measures.get((arm, seed))
        return {} if found is None else found.arm

    def diagnostic(self, arm: str, field: str) -> Trace | None:
        """Mean of a field over peers and seeds, and the middle half of the peers."""
        series = [
            {row["step"]: labels.finite(row.get(field)) for row in rows}
            for (run, _, _), rows in self.rows.items()
            if run == arm
        ]
        known = [s for one in series for s, value in one.items() if value is not None]
        if not known:
            return None
        steps = sorted(set(known))
        table = np.array([[one.get(s) for s in steps] for one in series], float)
        return Trace(
            self.look(arm).label, self.look(arm), np.array(steps), *middle_half(table)
        )

    def final_by_peer(self, arm: str, seeds: list[int]) -> Array:
        """[P] last evaluation of each peer, mean over seeds."""
        last = [self._evaluated(arm, seed)[-1] for seed in seeds]
        return np.mean(last, axis=0)

    def chosen_peers(self) -> list[tuple[str, int]]:
        """The best, median and worst peer of the main arm, first seed."""
        final = self.final_by_peer(self.main_arm, self.seeds[:1])
        ranked = [int(peer) for peer in np.argsort(final, kind="stable")]
        ranked = [peer for peer in ranked if np.isfinite(final[peer])]
        if len(ranked) < 3:
            places = ("best", "worst") if len(ranked) == 2 else ("only",)
            return list(zip(places, reversed(ranked), strict=False))
        middle = ranked[len(ranked) // 2]
        return [("best", ranked[-1]), ("median", middle), ("worst", ranked[0])]

    def prices(self, arm: str, peer: int) -> dict[str, Array] | None:
        """Training prices of a peer by step, with cost and best price; first seed."""
        names = ("price", "oracle_price", "cost")
        columns = []
        for row in self.rows.get((arm, self.seeds[0], peer), []):
            listed = [row.get(name) or [] for name in names]
            count = len(listed[0])
            first = row["step"] - count + 1
            for offset in range(count):
                values = [one[offset] if offset < len(one) else None for one in listed]
                columns.append([first + offset, *map(labels.finite, values)])
        table = np.array(columns, float).reshape(-1, 4).T
        known = np.isfinite(table[1]).any()
        return dict(zip(("step", *names), table, strict=True)) if known else None


def middle_half(values: Array) -> tuple[Array, Array, Array]:
    """Mean and quartiles of [N, T] over what is there, NaN where nothing is."""
    columns = [column[np.isfinite(column)] for column in values.T]
    found = [
        (c.mean(), *np.quantile(c, (0.25, 0.75))) if c.size else (np.nan,) * 3
        for c in columns
    ]
    middle, low, high = np.array(found, float).reshape(-1, 3).T
    return middle, low, high


def sustained_step(steps: Array, mean: Array, threshold: float) -> int | None:
    """First evaluation from which the mean never falls below ``threshold`` again."""
    below = np.flatnonzero(~(mean >= threshold))
    first = below[-1] + 1 if below.size else 0
    return int(steps[first]) if first < len(steps) else None


def load_run(workdir: pathlib.Path) -> RunData:
    """Reads the folder of one run.

    Raises:
      ConfigError: the folder holds no run, no results yet, or a broken file.
    """
    if not (workdir / "run.json").is_file():
        raise ConfigError(f"{workdir} holds no run: there is no run.json")
    run = _json(workdir / "run.json")
    try:
        rows = read_rows(workdir / "metrics.jsonl")
    except ValueError as error:
        raise ConfigError(f"{workdir / 'metrics.jsonl'}: not JSON ({error})") from error
    population: dict[tuple[str, int], list[Row]] = {}
    peers: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        key = row["run"], row["seed"]
        population.setdefault(key, []).append(row)
        if "peer" in row:
            peers.setdefault((*key, row["peer"]), []).append(row)
    if not peers:
        raise ConfigError(f"{workdir} holds no results yet: metrics.jsonl has no rows")
    # A run that was cut short may have a last step that only some arms have reached.
    reached = min(max(row["step"] for row in of_run) for of_run in population.values())
    count = 1 + max(peer for _, _, peer in peers)
    joins = np.zeros(count, np.int32)
    of_population = run["config"]["population"]
    if of_population["newcomers"]:
        joins[-of_population["newcomers"] :] = of_population["join_step"]
    byzantine = np.zeros(count, bool)
    byzantine[[row["peer"] for row in rows if row.get("byzantine")]] = True
    curves = {
        key: curves_of_rows(
            [row for row in of_run if row["step"] <= reached], joins, byzantine
        )
        for key, of_run in sorted(population.items())
    }
    arms = [arm for arm in run["arms"] if any(arm == key[0] for key in curves)]
    seeds = sorted({seed for _, seed in curves})
    weeks = run["config"]["evaluation_weeks"]
    return RunData(
        run=run,
        summary=_json(workdir / "summary.json") or {},
        stores=_json(workdir / "stores.json") or [],
        arms=arms,
        seeds=[seed for seed in seeds if all((arm, seed) in curves for arm in arms)],
        curves=curves,
        measures={
            key: measure(one, evaluation_weeks=weeks) for key, one in curves.items()
        },
        rows=dict(sorted(peers.items())),
    )


def _json(path: pathlib.Path) -> Any:
    """Content of a file, None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}") from error
