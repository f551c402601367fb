"""Every point in numbers, and every cell that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2p_sac_jax.ablation.table import Row
from p2p_sac_jax.report.elements import paragraph, table, text
from p2p_sac_jax.report.sweep import words
from p2p_sac_jax.report.sweep.data import SweepData


def tables(data: SweepData) -> str:
    """Figures with intervals, differences to the control, who does better how often."""
    figures = _table(data, "Figures", words.estimate) + paragraph(
        "Interquartile mean over seeds [95\u00a0% bootstrap interval]; median for"
        f" {data.unit}s to a lasting share, where “never” lies beyond the end. The"
        " sampling unit is the population, that is a seed, never the peer. From"
        " fewer than ten seeds intervals are too narrow rather than too wide.",
        "caption",
    )
    if not data.control:
        return figures
    control = text(words.arm(data.control))
    differences = _table(data, "Differences", _bare_difference) + paragraph(
        "Seed by seed. Shares in percentage points of the best profit; of"
        f" {data.unit}s to a lasting share, how many times more {control} takes.",
        "caption",
    )
    improvement = _table(data, "Improvement", words.improvement) + paragraph(
        f"That a population of the arm, drawn at random, does better than one of"
        f" {control}; ties count half. Fewer {data.unit}s and fewer bytes are better.",
        "caption",
    )
    return (
        figures
        + _folded(f"Difference to {control}", differences)
        + _folded(f"Probability of doing better than {control}", improvement)
    )


def _folded(summary: str, inner: str) -> str:
    return f"<details><summary>{summary}</summary>{inner}</details>"


def _table(data: SweepData, label: str, form: Callable[[Row | None], str]) -> str:
    """A line for each point, a column for each figure that any of them has."""
    rows = list(data.rows.values())
    fields = [n for n in data.fields if len({repr(row[n]) for row in rows}) > 1]
    order = list(dict.fromkeys(row["arm"] for row in rows))
    rows.sort(key=lambda row: order.index(row["arm"]))
    points: dict[str, tuple[list[str], dict[str, Row]]] = {}
    for row in rows:
        place = [words.arm(row["arm"])]
        place += ["" if row[n] is None else words.value(row[n]) for n in fields]
        points.setdefault(repr((row["arm"], place)), (place, {}))[1][row["measure"]] = (
            row
        )
    columns = {
        words.column(name, data.unit): [form(of.get(name)) for _, of in points.values()]
        for name in data.measures
    }
    columns = {name: cells for name, cells in columns.items() if {*cells} != {"–"}}
    lines = [
        [*place, _seeds(found), *(cells[index] for cells in columns.values())]
        for index, (place, found) in enumerate(points.values())
    ]
    return table(["arm", *map(words.field, fields), "seeds", *columns], lines, label)


def _bare_difference(row: Row | None) -> str:
    return words.difference(row, unit=False)


def _seeds(found: dict[str, Row]) -> str:
    """The fewest seeds behind any figure of a point, and of how many."""
    row = min(found.values(), key=lambda row: row["seeds"])
    asked = row["seeds"] + row["missing"]
    return f"{row['seeds']} of {asked}" if row["missing"] else str(asked)


def missing(data: SweepData) -> str:
    """Cells that failed, and cells that have not been computed."""
    lines: list[list[Any]] = [
        [_point(failed), failed["seed"], failed["cell"] or "–", failed["reason"]]
        for failed in data.sweep.failed
    ]
    known = {(_point(failed), failed["seed"]) for failed in data.sweep.failed}
    for point in data.sweep.points:
        place = _point({"arm": point.arm, "values": point.values})
        for seed, cell in zip(data.sweep.seeds, point.runs, strict=True):
            if cell is None and (place, seed) not in known:
                lines.append([place, seed, "–", "not computed yet"])
    asked = sum(len(point.runs) for point in data.sweep.points)
    if not lines:
        return paragraph(f"All {asked} results are there.")
    columns = ["point", "seed", "cell", "reason"]
    return paragraph(
        f"{len(lines)} of {asked} results are missing. They are left out of every"
        " figure, and the tables count the seeds that are behind each."
    ) + table(columns, lines, "Missing cells", "words")


def _point(place: dict[str, Any]) -> str:
    return ", ".join(
        filter(None, (words.arm(place["arm"]), words.settings(place["values"])))
    )
