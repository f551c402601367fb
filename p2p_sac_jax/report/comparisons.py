"""What exchange adds, and measures against everything that was swept."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.ablation.table import Row
from p2p_sac_jax.report import figures, labels, row_figures
from p2p_sac_jax.report.figures import Level, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Section
from p2p_sac_jax.report.row_figures import Mark
from p2p_sac_jax.report.sweep_data import MOST_LINES, FinishedPoint, SweepData

_MOST_ROWS = 36


def effects(data: SweepData) -> Section | None:
    """Differences to the control, a row for each point."""
    judged = [name for name in data.measures if MEASURES[name].unit == "return"]
    if data.has_oracle:
        early = "earned_200" if "earned_200" in data.measures else "earned"
        judged = list(dict.fromkeys((data.early, early, "final", "worst")))
    made = [figure for name in judged if (figure := _differences(data, name))]
    title = "Against the control arm"
    return Section("effects", title, {"forests": made}) if made else None


def _differences(data: SweepData, measure: str) -> Figure | None:
    """Differences to the control; of very many points the first are shown."""
    marks, intervals = [], 0
    for point in data.once(data.points):
        row, control = data.row(point, measure), data.control_of(point)
        if row and control and row["pairs"] and control.same != point.same:
            middle, low = row["difference"], row["difference_low"]
            ends = (middle, middle) if low is None else (low, row["difference_high"])
            intervals += low is not None and len(marks) < _MOST_ROWS
            seeds, compared = (
                data.of_seeds(point, measure, control),
                data.compared(point),
            )
            marks.append(Mark(point.label, point.look, middle, *ends, seeds, compared))
    if not marks:
        return None
    unit = labels.difference_unit(measure)
    x = Quantity("difference" + " (percentage points)" * (unit == "points"), unit)
    title = f"Difference: {data.label(measure)}"
    shown = marks[:_MOST_ROWS]
    facts = {
        "intervals": intervals,
        "above": sum(mark.low > 0 for mark in shown),
        "below": sum(mark.high < 0 for mark in shown),
        "omitted": len(marks) - len(shown),
    }
    return row_figures.rows(title, shown, x)._replace(facts=facts)


def factors(data: SweepData) -> Section | None:
    """Arrival, cold start, final score and worst peer against every factor."""
    wanted = dict.fromkeys((ARRIVAL, data.early, data.final, "worst"))
    measures = [name for name in wanted if name in data.measures]
    made = [_trend(data, field, name) for field in data.factors for name in measures]
    content = {"trends": [figure for figure in made if figure]}
    return Section("factors", "What was swept", content) if any(made) else None


def _trend(data: SweepData, field: str, measure: str) -> Figure | None:
    """One measure against one factor, the other factors as in the headline."""
    values, fixed, unit = data.factors[field], {}, MEASURES[measure].unit
    paneled = field == data.panel_field  # there every variant has its own line
    if not paneled:
        of_headline = data.headline().values
        fixed = {
            n: v for n, v in of_headline.items() if n in data.factors and n != field
        }
    at, numeric = _positions(values)
    drawn: dict[str, list[tuple[float, FinishedPoint, Row]]] = {}
    levels = []
    for place, value in zip(at, values, strict=True):
        alike = [p for p in data.points if _alike(p, {**fixed, field: value})]
        for point in data.once(alike):
            if row := data.row(point, measure):
                name = point.look.label if paneled else labels.arm(point.arm)
                drawn.setdefault(name, []).append((place, point, row))
    for name, places in list(drawn.items()):
        same = len({point.same for _, point, _ in places}) == 1
        if same and len(places) == len(values):  # the factor does not touch this arm
            _, point, row = drawn.pop(name)[0]
            levels.append(Level(name, labels.centre(row)[0], data.compared(point)))
    if not drawn:
        return None
    if measure == data.early:
        levels += data.levels(data.headline(), measure)[1:]
    traces = []
    for name, places in list(drawn.items())[:MOST_LINES]:
        where, points, rows = zip(*places, strict=True)
        seeds = [data.of_seeds(point, measure) for point in points]
        look = points[0].look._replace(label=name)
        if not numeric:
            look = look._replace(dashes="none")
        numbers = np.array([labels.centre(row) for row in rows]).T
        traces.append(
            Trace(
                look,
                np.array(where),
                *numbers,
                seeds=np.array(list(zip_longest(*seeds, fillvalue=np.nan)), float),
                compared=data.compared(points[0]),
            )
        )
    arrives, name = measure == ARRIVAL, data.label(measure)
    title = f"{name} by {labels.field(field)}"
    figure = figures.lines(
        title[:1].upper() + title[1:],
        traces,
        Quantity(labels.field(field)),
        Quantity(name, unit),
        ticks=dict(zip(at, map(labels.value, values), strict=True)),
        end=max(point.series.end for point in data.points) if arrives else np.inf,
        levels=levels,
    )
    facts = {"arrives": arrives, "fixed": labels.settings(fixed)}
    return figure._replace(facts=facts)


def _positions(values: list[Any]) -> tuple[list[float], bool]:
    """Where values stand on an axis; numbers, the only ordered ones, keep distances."""
    numeric = {type(value) for value in values} <= {int, float}
    at = np.array(values if numeric else range(len(values)), float)
    if numeric and at.min() > 0 and at.max() / at.min() >= 8:
        at = np.log(at)
    return at.tolist(), numeric


def _alike(point: FinishedPoint, values: dict[str, Any]) -> bool:
    """Whether a point has these values, where it has the fields."""
    return all(values.get(name, value) == value for name, value in point.values.items())
