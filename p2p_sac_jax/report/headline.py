"""The headline of a sweep, and all of its points in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.ablation.table import Row
from p2p_sac_jax.report import labels
from p2p_sac_jax.report.page import Section, Table, Tile
from p2p_sac_jax.report.sweep_data import PEERS, FinishedPoint, SweepData

_ENOUGH = 10  # seeds behind a claim
_NOTHING = 1e-4  # a difference of shares that is none, whatever its interval


def results(data: SweepData) -> Section:
    """What the headline's point shows, and the others in a sentence."""
    chosen = data.headline()
    measures = dict.fromkeys((data.early, data.final))
    usual = [data.historical(chosen, name) for name in (data.early, data.final)]
    content: dict[str, Any] = {
        "arm": labels.arm(chosen.arm),
        "place": labels.settings({PEERS: chosen.peers, **chosen.values}, named=True),
        "point": chosen.label,
        "step": data.step,
        "compared": [_comparison(data, chosen, name) for name in measures],
        "usual": [labels.percent(value) for value in usual if data.step == "week"],
        "others": _others(data),
        "points": len(data.of_arm(data.main)),
        "tiles": _tiles(data, chosen),
        "market": data.step == "week" and data.has_oracle,
        "table": None
        if data.factors
        else _table(data, "Results by arm", labels.estimate),
    }
    return Section("results", "Results", content)


def _comparison(data: SweepData, chosen: FinishedPoint, name: str) -> dict[str, Any]:
    """One measure of the headline's point and of its control."""
    row, other = data.row(chosen, name), data.control_of(chosen)
    paired = row is not None and other is not None and row["pairs"]
    return {
        "measure": name,
        "label": data.label(name),
        "value": row and labels.estimate(row),
        "control": labels.arm(data.control) if paired else "",
        "control_value": labels.estimate(data.row(other, name)) if other else "",
        "difference": labels.difference(row),
        "pairs": row["pairs"] if row else 0,
        "claim": claim(row) if row and paired else "",
    }


def claim(row: Row) -> str:
    """What may be concluded from a difference, and no more."""
    pairs, low, high = row["pairs"], row["difference_low"], row["difference_high"]
    if pairs < 2 or low is None:
        return "One seed shows what happened once: indicative, no claim."
    share = MEASURES[row["measure"]].unit == "share"
    if share and abs(row["difference"]) < _NOTHING:
        return "That is less than a hundredth of a point: no difference is claimed."
    if low <= 0 <= high:
        return "The interval includes 0: no difference is claimed."
    sign = "gain" if low > 0 else "loss"
    if pairs < _ENOUGH:
        return (
            f"The interval excludes 0, a {sign}; from fewer than {_ENOUGH} seeds"
            " intervals are too narrow, so this is a first look."
        )
    return f"The interval excludes 0: a {sign}."


def _others(data: SweepData) -> dict[str, Any] | None:
    """How the difference comes out at all points of the headline's arm."""
    rows = [data.row(point, data.early) for point in data.of_arm(data.main)]
    known = [row for row in rows if row and row["difference_low"] is not None]
    if len(known) < 2:
        return None
    above = sum(row["difference_low"] > 0 for row in known)
    below = sum(row["difference_high"] < 0 for row in known)
    among = len(known) - above - below
    counts = {"points": len(known), "above": above, "below": below, "includes": among}
    return counts | {"label": data.label(data.early)}


def _tiles(data: SweepData, chosen: FinishedPoint) -> list[Tile]:
    tiles, other = [], data.control_of(chosen)
    for name in dict.fromkeys((data.early, data.final, "worst", ARRIVAL)):
        row = data.row(chosen, name)
        if row is None:
            continue
        value = labels.quantity(MEASURES[name].unit, labels.centre(row)[0])
        notes = [labels.estimate(row).removeprefix(value)]
        if other is not None:
            control = labels.estimate(data.row(other, name))
            notes.append(f"{labels.arm(other.arm)} {control}")
            difference = labels.difference(row)
            as_many = f"which is {difference} as many"
            notes.append(as_many if name == ARRIVAL else f"difference {difference}")
        notes = [note.strip() for note in notes if note.strip()]
        tiles.append(Tile(value, data.label(name), notes))
    return tiles


def tables(data: SweepData) -> Section:
    """Values with intervals, differences to the control, who does better how often."""
    made: dict[str, Any] = {"figures": _table(data, "Values", labels.estimate)}
    made |= {"differences": None, "improvement": None}
    if data.control:
        made["differences"] = _table(
            data, "Differences", lambda row: labels.difference(row, with_unit=False)
        )
        made["improvement"] = _table(data, "Improvement", labels.improvement)
    facts = {"control": labels.arm(data.control), "step": data.step}
    return Section("tables", "All points in numbers", made | facts)


def _table(data: SweepData, label: str, form: Callable[[Row | None], str]) -> Table:
    """A line for each point, a column for each measure that any of them has."""
    rows = list(data.rows.values())
    fields = [n for n in data.fields if len({repr(row[n]) for row in rows}) > 1]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    points: dict[str, tuple[list[str], dict[str, Row]]] = {}
    for row in sorted(rows, key=lambda row: arms.index(row["arm"])):
        place = [labels.arm(row["arm"])]
        place += ["" if row[n] is None else labels.value(row[n]) for n in fields]
        _, found = points.setdefault(repr(place), (place, {}))
        found[row["measure"]] = row
    columns = {
        labels.column(name, data.step): [
            form(of.get(name)) for _, of in points.values()
        ]
        for name in data.measures
    }
    shown = [cells for cells in columns.values() if {*cells} != {labels.MISSING}]
    names = [name for name, cells in columns.items() if cells in shown]
    lines = [
        [*place, _seeds(found), *(cells[index] for cells in shown)]
        for index, (place, found) in enumerate(points.values())
    ]
    return Table(label, ["arm", *map(labels.field, fields), "seeds", *names], lines)


def _seeds(found: dict[str, Row]) -> str:
    """The fewest seeds behind any measure of a point, and of how many."""
    row = min(found.values(), key=lambda row: row["seeds"])
    asked = row["seeds"] + row["missing"]
    return f"{row['seeds']} of {asked}" if row["missing"] else str(asked)


def missing(data: SweepData) -> Section:
    """Cells that failed, and runs that have not been computed."""
    lines: list[list[Any]] = [
        [_place(failed), failed["seed"], failed["run"] or "–", failed["reason"]]
        for failed in data.sweep.failed
    ]
    known = {(place, seed) for place, seed, *_ in lines}
    for point in data.sweep.points:
        place = _place({"arm": point.arm, "values": point.values})
        for seed, run in zip(data.sweep.seeds, point.runs, strict=True):
            if run is None and (place, seed) not in known:
                lines.append([place, seed, "–", "not computed yet"])
    asked = sum(len(point.runs) for point in data.sweep.points)
    columns = ["point", "seed", "run", "reason"]
    content = {"table": Table("Missing runs", columns, lines, "words"), "asked": asked}
    return Section("missing", "Failed and missing runs", content)


def _place(place: dict[str, Any]) -> str:
    parts = labels.arm(place["arm"]), labels.settings(place["values"])
    return ", ".join(filter(None, parts))
