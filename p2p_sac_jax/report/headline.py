"""The headline of a sweep, and all of its points in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.ablation.table import Row, count_seeds
from p2p_sac_jax.report import labels
from p2p_sac_jax.report.page import Section, Table
from p2p_sac_jax.report.sweep_data import PEERS, FinishedPoint, SweepData

_ENOUGH = 10  # seeds behind a claim
_NOTHING = 1e-4  # a difference of shares that is none, whatever its interval


def results(data: SweepData) -> Section:
    """What the headline's point shows, and the others in a sentence."""
    chosen = data.headline()
    judged = dict.fromkeys((data.early, data.final))
    shown = [n for n in (*judged, "worst", ARRIVAL) if data.row(chosen, n)]
    usual = [data.historical(chosen, name) for name in judged]
    content = {
        "point": chosen,
        "place": labels.settings({PEERS: chosen.peers, **chosen.values}, named=True),
        "compared": [_comparison(data, chosen, n) for n in dict.fromkeys(shown)],
        "judged": len(judged),
        "usual": [labels.quantity("share", v) for v in usual if data.step == "week"],
        "table": not data.factors and _table(data, "Results by arm", labels.estimate),
    }
    return Section("results", "Results", content)


def _comparison(data: SweepData, chosen: FinishedPoint, name: str) -> dict[str, Any]:
    """One measure of the headline's point and of its control."""
    row, other = data.row(chosen, name), data.control_of(chosen)
    assert row
    value = labels.quantity(MEASURES[name].unit, labels.centre(row)[0])
    estimate = labels.estimate(row)
    control = labels.estimate(data.row(other, name)) if other and row["pairs"] else ""
    return {
        "measure": name,
        "label": data.label(name),
        "estimate": estimate,
        "value": value,
        "interval": estimate.removeprefix(value),
        "control": control,
        "difference": labels.difference(row),
        "pairs": row["pairs"],
        "claim": claim(row) if control and name != ARRIVAL else "",
    }


def claim(row: Row) -> str:
    """What may be concluded from a difference, and no more."""
    pairs, low, high = row["pairs"], row["difference_low"], row["difference_high"]
    if low is None:
        count = "One seed" if pairs == 1 else f"{pairs} seeds"
        return f"{count}: indicative, no claim."
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


def tables(data: SweepData) -> Section:
    """Values with intervals, differences to the control, who does better how often."""
    made: dict[str, Table | None] = {"figures": None, "differences": None}
    if data.factors:  # else the headline has it
        made["figures"] = _table(data, "Values", labels.estimate)
    if data.control:
        made["differences"] = _table(
            data, "Differences", lambda row: labels.difference(row, with_unit=False)
        )
        made["improvement"] = _table(data, "Improvement", labels.improvement)
    return Section("tables", "All points in numbers", made)


def _table(data: SweepData, label: str, form: Callable[[Row | None], str]) -> Table:
    """A line for each point, a column for each measure that any of them has."""
    points = {n: of for n, of in data.rows.items() if n not in data.repeated}
    columns = {
        MEASURES[name].column or data.label(name): [
            form(of.get(name)) for of in points.values()
        ]
        for name in data.measures
    }
    shown = {n: cells for n, cells in columns.items() if {*cells} != {labels.MISSING}}
    lines = [
        [point, count_seeds(found.values()), *cells]
        for (point, found), *cells in zip(points.items(), *shown.values(), strict=True)
    ]
    return Table(label, ["arm", "seeds", *shown], lines)


def missing(data: SweepData) -> Section | None:
    """Runs that failed, and runs that have not been computed."""
    if not (data.factors or data.sweep.missing):
        return None
    lines = [
        [
            labels.point(one["arm"], one["values"]),
            one["seed"],
            one["run"],
            one["reason"],
        ]
        for one in data.sweep.missing
    ]
    columns = ["point", "seed", "run", "reason"]
    asked = sum(len(point.runs) for point in data.sweep.points)
    content = {"table": Table("Missing runs", columns, lines, "words"), "asked": asked}
    return Section("missing", "Failed and missing runs", content)
