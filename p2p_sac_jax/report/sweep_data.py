"""A sweep as its report sees it: points with results, how they look, their rows."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.ablation.measures import ARRIVAL, BYTES, MEASURES, Values
from p2p_sac_jax.ablation.results import PointResult, RunResult, Sweep, load_sweep
from p2p_sac_jax.ablation.series import (
    HISTORICAL,
    PRICES,
    Series,
    counterpart,
    read_series,
)
from p2p_sac_jax.ablation.table import Row, make_table
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import flatten
from p2p_sac_jax.exchange.topology import DYNAMIC
from p2p_sac_jax.experiment.statistics import FEWEST_SEEDS, Statistic, iqm
from p2p_sac_jax.report import labels, theme
from p2p_sac_jax.report.figures import Level, Quantity
from p2p_sac_jax.report.theme import Look

PEERS, TOPOLOGY = "population.peers", "exchange.topology"
_GRAPH = (TOPOLOGY, *(f"exchange.{n}" for n in ("matrix", "degree", "edge_chance")))
MOST_LINES = 8  # of a figure: more could not be distinguished
# Measures of the report, where a population has them, in the order of its tables.
REPORTED = (
    *("final", "worst", "gap_closed", "earned_50", "earned_200", "earned"),
    *("newcomers_earned", ARRIVAL),
    *("return_final", "return_worst", "return_jump_start", "return_area", BYTES),
)
_EARLY = ("earned_50", "earned", "return_area")  # the first that there is
_CONTROLS = ("memory", "plain")  # arms without exchange, the better one first


class FinishedPoint(NamedTuple):
    """One arm at one combination of swept values, with at least one finished run."""

    arm: str
    values: dict[str, Any]  # of swept fields, without those the arm sets itself
    runs: list[RunResult]  # finished
    series: Series  # measures by seed
    look: Look  # its label is the arm with what distinguishes it in a figure
    same: str  # label of the first point with the same runs, its own if there is none

    @property
    def label(self) -> str:
        """Arm and all values, for where points stand side by side."""
        return labels.point(self.arm, self.values)

    @property
    def peers(self) -> int:
        """Number of peers."""
        return self.runs[0].meta["config"]["population"]["peers"]

    @property
    def names(self) -> list[str]:
        """Names of its peers at its first seed, their numbers where they have none."""
        names = self.runs[0].meta.get("names") or [None] * self.peers
        return [str(name or f"peer {peer}") for peer, name in enumerate(names)]

    @property
    def drawn(self) -> bool:
        """Whether each seed draws its own stores."""
        return self.setting("population.draw") == "random"

    def setting(self, field: str) -> Any:
        """Value of a configuration field; None where an older version lacks it."""
        return dict(flatten(self.runs[0].meta["config"])).get(field)


@dataclasses.dataclass(frozen=True)
class SweepData:
    """Everything that the report knows."""

    sweep: Sweep
    factors: dict[str, list[Any]]  # swept fields of more than one value
    statistic: Statistic  # over seeds: the mean, or the interquartile mean
    control: str  # arm without exchange, "" if there is none
    main: str  # arm of the headline
    points: list[FinishedPoint]
    series: list[Series]  # measures by seed, of all points and prices
    rows: dict[str, dict[str, Row]]  # of the table: label of a point, measure -> row
    repeated: dict[str, str]  # a point's label: that of another with the same runs

    @property
    def worlds(self) -> list[str]:
        """Demand worlds of the points, none of a control task."""
        found = (point.setting("environment.world") or "logit" for point in self.points)
        return list(dict.fromkeys(found)) if self.step == "week" else []

    @property
    def draws(self) -> list[str]:
        """How the populations of the points come about: "quantiles", "random"."""
        found = {point.drawn for point in self.points}
        return ["quantiles"] * (False in found) + ["random"] * (True in found)

    @property
    def average(self) -> str:
        """The statistic over seeds in words."""
        return "interquartile mean" if self.statistic is iqm else "mean"

    @property
    def step(self) -> str:
        """What one environment step is called."""
        name = self.sweep.meta["config"]["environment"]["name"]
        return "week" if name == "pricing" else "step"

    @property
    def peer(self) -> str:
        """What a peer of a drawn population is called."""
        return "store" if self.step == "week" else "peer"

    @property
    def fewest(self) -> int:
        """Seeds that an interval is made of."""
        return FEWEST_SEEDS

    @property
    def seeds(self) -> int:
        """Seeds that were asked for."""
        return len(self.sweep.seeds)

    @property
    def measures(self) -> list[str]:
        """Measures that some point has."""
        found = {name for of_point in self.rows.values() for name in of_point}
        return [name for name in REPORTED if name in found]

    @property
    def has_oracle(self) -> bool:
        """Whether the best attainable reward is known."""
        return "final" in self.measures

    @property
    def final(self) -> str:
        """The measure that judges a policy at the end."""
        return "final" if self.has_oracle else "return_final"

    @property
    def early(self) -> str:
        """The measure that judges the cold start."""
        return next(name for name in _EARLY if name in self.measures)

    @property
    def panel_field(self) -> str:
        """The factor whose values get a panel each: peers, or that of most values."""
        if PEERS in self.factors:
            return PEERS
        return max(self.factors, key=lambda name: len(self.factors[name]), default="")

    def label(self, measure: str) -> str:
        """A measure in plain words."""
        return MEASURES[measure].label.format(step=self.step)

    @property
    def score(self) -> Quantity:
        """What evaluations are measured by."""
        if self.has_oracle:
            return Quantity("share of the best profit", "share")
        return Quantity("return of an episode", "return")

    @property
    def time(self) -> Quantity:
        """The axis of steps."""
        return Quantity(f"{self.step} of training", self.step)

    def compared(self, point: FinishedPoint) -> bool:
        """Whether figures have to show all of a point: of the headline, or control."""
        return point.arm in (self.main, self.control)

    def of_seeds(
        self, point: FinishedPoint, measure: str, control: FinishedPoint | None = None
    ) -> list[float]:
        """What single seeds have, where they are several and too few for an interval.

        Args:
          point: whose seeds.
          measure: name of a measure.
          control: point whose values at the same seeds are subtracted.
        """
        values = [seed.get(measure, np.nan) for seed in point.series.seeds]
        if control:
            other = [seed.get(measure, np.nan) for seed in control.series.seeds]
            values = np.subtract(values, other)
        known = [float(value) for value in values if np.isfinite(value)]
        return known if 1 < len(known) < FEWEST_SEEDS else []

    def once(self, points: Sequence[FinishedPoint]) -> list[FinishedPoint]:
        """Points without those whose runs another one has; the control's are kept."""
        first = sorted(points, key=lambda point: point.arm != self.control)
        kept = {point.same: point for point in reversed(first)}
        return [point for point in points if kept[point.same] is point]

    def of_arm(self, arm: str) -> list[FinishedPoint]:
        """Points of an arm."""
        return [point for point in self.points if point.arm == arm]

    def row(self, point: FinishedPoint, measure: str) -> Row | None:
        """Row of the table, None where it has no seed."""
        row = self.rows[point.label].get(measure)
        return row if row and row["seeds"] else None

    def control_of(self, point: FinishedPoint) -> FinishedPoint | None:
        """The same peers without exchange."""
        other = counterpart(point.series, self.series, self.control)
        return next((one for one in self.points if one.series is other), None)

    def historical(self, point: FinishedPoint, measure: str) -> float | None:
        """What the price from before learning reaches in the market of a point."""
        series = counterpart(point.series, self.series, HISTORICAL)
        of_seeds: list[Values] = series.seeds if series else []
        known = [seed[measure] for seed in of_seeds if measure in seed]
        return float(self.statistic(known, axis=0)) if known else None

    def levels(self, point: FinishedPoint, measure: str) -> list[Level]:
        """The best price and the historical one in the market of a point."""
        if not self.has_oracle:
            return []
        market, usual = self.step == "week", self.historical(point, measure)
        levels = [Level("best price" if market else "optimum", 1.0)]
        if usual is not None:
            levels.append(Level("historical" if market else "no action", usual))
        return levels

    def headline(self) -> FinishedPoint:
        """The point of the headline; it is not chosen by its result.

        The most peers, and of every other factor the value of the base configuration
        if it is one of them.
        """
        base = dict(flatten(self.sweep.meta["config"]))

        def rank(point: FinishedPoint) -> tuple[int, int]:
            others = {n: v for n, v in point.values.items() if n != PEERS}
            return point.peers, sum(base[n] == v for n, v in others.items())

        points = self.of_arm(self.main)
        return max([p for p in points if p.same == p.label] or points, key=rank)

    def panels(self) -> dict[str, list[FinishedPoint]]:
        """Points by the value of the panels' factor, that of the headline first.

        An arm that sets the factor itself is in every panel. What is compared comes
        first, should there be too many for a figure.
        """
        field, compared = self.panel_field, (self.control, self.main)
        points = sorted(self.points, key=lambda point: point.arm not in compared)
        if not field:
            return {"": self.once(points)}
        first = self.headline().series.settings.get(field)
        panels = {
            value: self.once([p for p in points if p.values.get(field, value) == value])
            for value in sorted(self.factors[field], key=lambda value: value != first)
        }
        return {labels.setting(field, value): of for value, of in panels.items() if of}


def load_sweep_data(folder: pathlib.Path) -> SweepData:
    """Reads a sweep and makes its table.

    Raises:
      ConfigError: the folder holds no sweep, or not one finished run.
    """
    sweep = load_sweep(folder)
    if not any(any(point.runs) for point in sweep.points):
        reason = sweep.missing[0]["reason"]
        raise ConfigError(f"{folder} holds a sweep without a finished run: {reason}")
    return compare(sweep, iqm)


def compare(sweep: Sweep, statistic: Statistic) -> SweepData:
    """Chooses the arms that the report compares, and makes the table."""
    finished = [point.arm for point in sweep.points if any(point.runs)]
    arms = [arm for arm in sweep.arms if arm in finished]
    isolated = [arm for arm in arms if sweep.arms[arm].get(TOPOLOGY) == "empty"]
    control = next((arm for arm in (*_CONTROLS, *isolated) if arm in arms), "")
    first: dict[str, str] = {}
    repeated = {}  # such as a network of one peer, which is the isolated arm
    for point in sorted(sweep.points, key=lambda point: point.arm != control):
        label = labels.point(point.arm, point.values)
        same = first.setdefault(_computed(point) or label, label)
        if same != label:
            repeated[label] = same
    own = {p.arm for p in sweep.points if labels.point(p.arm, p.values) not in repeated}
    connected = [arm for arm in arms if arm not in (*_CONTROLS, *isolated)]
    wanted = ("network", *reversed(connected), *reversed(arms))
    others = [arm for arm in wanted if arm in arms and arm in own and arm != control]
    main = others[0] if others else control
    series = read_series(sweep)
    table = make_table(
        sweep, control, measures=REPORTED, statistic=statistic, series=series
    )
    order = [one.arm for one in series]
    rows: dict[str, dict[str, Row]] = {}
    for row in sorted(table, key=lambda row: order.index(row["arm"])):
        values = {
            name: value
            for name, value in list(row.items())[1 : list(row).index("measure")]
            if value is not None  # the arm sets it, or it is no matter of a price
        }
        rows.setdefault(labels.point(row["arm"], values), {})[row["measure"]] = row
    data = SweepData(
        sweep=sweep,
        factors={name: v for name, v in sweep.factors.items() if len(v) > 1},
        statistic=statistic,
        control=control,
        main=main,
        points=[],
        series=series,
        rows=rows,
        repeated=repeated,
    )
    return dataclasses.replace(data, points=list(_finished(data)))


def _computed(point: PointResult) -> str:
    """Equal for points whose runs are the same computation; empty without any run.

    A graph counts by its edges: a ring of two peers is the complete graph.
    """
    known = []
    for meta in (run.meta for run in point.runs if run):
        fields = dict(flatten(meta["config"]))
        if fields.get(TOPOLOGY) not in DYNAMIC:
            fields = {n: v for n, v in fields.items() if n not in _GRAPH}
        known.append([fields, *map(meta.get, ("arm", "seed", "adjacency"))])
    return repr(known) if known else ""


def _finished(data: SweepData) -> Iterator[FinishedPoint]:
    """Points that have results, each with a look that it keeps in every figure.

    What differs in the panel's factor alone never meets in a panel and looks alike.
    """
    looks: dict[str, Look] = {}
    of_points = [one for one in data.series if one.arm not in PRICES]
    for point, series in zip(data.sweep.points, of_points, strict=True):
        runs = [run for run in point.runs if run is not None]
        if not runs:
            continue
        named = {
            name: value
            for name, value in point.values.items()
            if name in data.factors and name != data.panel_field
        }
        mark = repr((point.arm, named))
        if mark not in looks:
            label = labels.point(point.arm, named)
            looks[mark] = theme.look(point.arm, label, list(looks.values()))
        label = labels.point(point.arm, point.values)
        same = data.repeated.get(label, label)
        yield FinishedPoint(point.arm, point.values, runs, series, looks[mark], same)
