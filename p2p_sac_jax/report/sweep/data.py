"""A sweep as the report sees it: points with results, looks, rows of the table."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.measures import ARRIVAL, BYTES
from p2p_sac_jax.ablation.results import RunResult, Sweep, load_sweep
from p2p_sac_jax.ablation.series import (
    HISTORICAL,
    PRICES,
    Series,
    counterpart,
    read_series,
)
from p2p_sac_jax.ablation.table import Row, make_table
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment.statistics import iqm
from p2p_sac_jax.report import style
from p2p_sac_jax.report.sweep import words

PEERS, TOPOLOGY = "population.peers", "exchange.topology"
RETURN = "return_"
# Figures of the report, if a population has them, in the order of its tables.
MEASURES = (
    *("final", "worst", "gap_closed", "earned_50", "earned_200", "earned"),
    *("newcomers_earned", ARRIVAL),
    *(f"{RETURN}{name}" for name in ("final", "worst", "jump_start", "area")),
    BYTES,
)
_EARLY = ("earned_50", "earned", f"{RETURN}area")  # the first that there is
_CONTROLS = ("memory", "plain")  # arms that hear nobody, the better one first


class Omitted(NamedTuple):
    """A figure that this sweep cannot have."""

    what: str
    why: str


class Seen(NamedTuple):
    """One arm at one combination of swept values, with at least one finished cell."""

    arm: str
    values: dict[str, Any]  # of swept fields, without those the arm sets itself
    settings: dict[str, Any]  # these, and what the arm sets
    cells: list[RunResult]  # finished
    line: Series  # figures by seed
    look: style.Look  # its label is the arm with what tells it from its like

    @property
    def label(self) -> str:
        """Arm and all values, for where points stand side by side."""
        name = words.arm(self.arm)
        return f"{name}, {words.settings(self.values)}" if self.values else name

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the first cell; the others differ in their seed."""
        return self.cells[0].meta["config"]

    @property
    def peers(self) -> int:
        """Number of peers."""
        return self.config["population"]["peers"]


@dataclasses.dataclass(frozen=True)
class SweepData:
    """Everything that the report knows."""

    sweep: Sweep
    factors: dict[str, list[Any]]  # swept fields of more than one value
    control: str  # arm that hears nobody, "" if there is none
    main: str  # arm that the headline speaks of
    seen: list[Seen]
    lines: list[Series]  # figures by seed of all points and prices
    fields: list[str]  # that tell points and prices from each other
    rows: dict[str, Row]  # of the table by ``_key``, compared with the control

    @property
    def unit(self) -> str:
        """What one environment step is called."""
        name = self.sweep.meta["config"]["environment"]["name"]
        return "week" if name == "pricing" else "step"

    @property
    def seeds(self) -> int:
        """Seeds that were asked for."""
        return len(self.sweep.seeds)

    @property
    def measures(self) -> list[str]:
        """Figures that some point has."""
        found = {row["measure"] for row in self.rows.values()}
        return [name for name in MEASURES if name in found]

    @property
    def has_oracle(self) -> bool:
        """Whether the best attainable reward is known."""
        return "final" in self.measures

    @property
    def final(self) -> str:
        """The figure that judges a policy at the end."""
        return "final" if self.has_oracle else f"{RETURN}final"

    @property
    def early(self) -> str:
        """The figure that judges the cold start."""
        return next(name for name in _EARLY if name in self.measures)

    def of_arm(self, arm: str) -> list[Seen]:
        """Points of an arm."""
        return [seen for seen in self.seen if seen.arm == arm]

    def row(self, seen: Seen, measure: str) -> Row | None:
        """Row of the table, None where there is none."""
        return self.rows.get(_key(seen.arm, seen.values, self.fields, measure))

    def control_of(self, seen: Seen) -> Seen | None:
        """The same peers without their neighbours."""
        other = counterpart(seen.line, self.lines, self.control)
        return next((one for one in self.seen if one.line is other), None)

    def references(self, seen: Seen, measure: str) -> list[tuple[str, float]]:
        """The best price and the historical one in the market of a point."""
        if not self.has_oracle:
            return []
        market = self.unit == "week"
        names = ("best price", "historical") if market else ("optimum", "no action")
        found = [(names[0], 1.0)]
        line = counterpart(seen.line, self.lines, HISTORICAL)
        if line is not None:
            known = [seed[measure] for seed in line.seeds if measure in seed]
            found += [(names[1], float(iqm(known)))] if known else []
        return found

    def headline(self) -> Seen:
        """The point that the page speaks of first; it is not chosen by its result.

        The most peers, and of every other factor the value of the base configuration
        if it is one of them.
        """

        def rank(seen: Seen) -> tuple[int, int]:
            base = self.sweep.meta["config"]
            others = [name for name in seen.values if name != PEERS]
            usual = [seen.values[name] == value_in(base, name) for name in others]
            return seen.peers, sum(usual)

        return max(self.of_arm(self.main), key=rank)


def centre(row: Row) -> tuple[float, float, float]:
    """What a row says of its point: figure, low and high, all alike for one seed."""
    middle = row["median"] if row["iqm"] is None else row["iqm"]
    if row["low"] is None:
        return middle, middle, middle
    return middle, row["low"], row["high"]


def value_in(config: dict[str, Any], name: str) -> Any:
    """Value of a dotted field."""
    found: Any = config
    for part in name.split("."):
        found = found[part]
    return found


def panel_field(factors: dict[str, list[Any]]) -> str | None:
    """The factor whose values get a panel each: peers, or the one of most values."""
    if PEERS in factors:
        return PEERS
    return max(factors, key=lambda name: len(factors[name]), default=None)


def load(folder: pathlib.Path) -> SweepData:
    """Reads a sweep and makes its table.

    Raises:
      ConfigError: the folder holds no sweep, or not one finished cell.
    """
    sweep = load_sweep(folder)
    finished = [p.arm for p in sweep.points if any(p.runs)]
    if not finished:
        failed = f", {len(sweep.failed)} failed" if sweep.failed else ""
        raise ConfigError(f"{folder} holds a sweep without a finished cell{failed}")
    arms = [arm for arm in sweep.arms if arm in finished]
    control = _control(sweep, arms)
    factors = {name: v for name, v in sweep.factors.items() if len(v) > 1}
    lines = read_series(sweep)
    rows = make_table(sweep, control, measures=MEASURES)
    columns = list(rows[0])
    fields = columns[1 : columns.index("measure")]  # the first one is the arm
    return SweepData(
        sweep=sweep,
        factors=factors,
        control=control,
        main=_main(sweep, arms, control),
        seen=list(_seen(sweep, lines, factors)),
        lines=lines,
        fields=fields,
        rows={_key(row["arm"], row, fields, row["measure"]): row for row in rows},
    )


def _key(arm: str, values: dict[str, Any], fields: list[str], measure: str) -> str:
    return repr((arm, [values.get(name) for name in fields], measure))


def _control(sweep: Sweep, arms: list[str]) -> str:
    """The arm that hears nobody: that with a memory where there is one."""
    wanted = (*_CONTROLS, *_silent(sweep, arms))
    return next((arm for arm in wanted if arm in arms), "")


def _main(sweep: Sweep, arms: list[str], control: str) -> str:
    """The network's arm, else the last that hears somebody, else the last."""
    heard = [arm for arm in arms if arm not in (*_CONTROLS, *_silent(sweep, arms))]
    wanted = ("network", *reversed(heard), *reversed(arms))
    return next((arm for arm in wanted if arm in arms and arm != control), control)


def _silent(sweep: Sweep, arms: list[str]) -> list[str]:
    return [arm for arm in arms if sweep.arms[arm].get(TOPOLOGY) == "empty"]


def _seen(
    sweep: Sweep, lines: list[Series], factors: dict[str, list[Any]]
) -> Iterator[Seen]:
    """Points that have results, each with a look that it keeps in every figure.

    What differs in the panel's factor alone never meets in a panel and looks alike.
    """
    panel = panel_field(factors)
    looks: dict[str, style.Look] = {}
    of_points = [line for line in lines if line.arm not in PRICES]
    for point, line in zip(sweep.points, of_points, strict=True):
        cells = [cell for cell in point.runs if cell is not None]
        told = {n: v for n, v in point.values.items() if n in factors and n != panel}
        mark = repr((point.arm, told))
        if cells and mark not in looks:
            looks[mark] = _look(point.arm, told, list(looks.values()))
        if cells:
            settings = point.values | sweep.arms[point.arm]
            yield Seen(point.arm, point.values, settings, cells, line, looks[mark])


def _look(arm: str, told: dict[str, Any], taken: list[style.Look]) -> style.Look:
    """The arm's own look where it is free, else the next of the others."""
    own = style.look(arm, [arm])
    label = f"{own.label}, {words.settings(told)}" if told else own.label
    used = [look.colour for look in taken]
    if arm in style.LOOKS and own.colour not in used:
        return own._replace(label=label)
    reserved = [look.colour for look in style.LOOKS.values()]
    return style.other_look(label, sum(colour not in reserved for colour in used))
