"""What exchange adds, and measures against everything that was swept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.report import figures, labels, row_figures
from p2p_sac_jax.report.figures import Array, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Section
from p2p_sac_jax.report.row_figures import Mark
from p2p_sac_jax.report.sweep_data import MOST_LINES, FinishedPoint, SweepData
from p2p_sac_jax.report.theme import Look, look

# Factors that have a section of their own.
_PRIVACY = (
    "exchange.mode",
    "privacy.epsilon",
    "privacy.value_noise",
    "privacy.demand_noise",
    "privacy.trend_epsilon",
)
_ATTACK = ("attack.byzantine", "attack.kind", "attack.strength")
_MOST_ROWS = 36
_THRESHOLDS = 60
_LEAST = 5  # populations of a profile: of fewer its band means nothing


def effects(data: SweepData) -> Section | None:
    """Differences to the control, a row for each point."""
    points = [point for point in data.points if point.arm != data.control]
    judged = [name for name in data.measures if MEASURES[name].unit == "return"]
    if data.has_oracle:
        early = "earned_200" if "earned_200" in data.measures else "earned"
        judged = list(dict.fromkeys((data.early, early, "final", "worst")))
    made = _forests(data, judged, points)
    return Section("effects", "Against the control arm", made) if made else None


def factors(data: SweepData) -> Section | None:
    """Measures against every factor without a section of its own."""
    names = [name for name in data.factors if name not in (*_ATTACK, *_PRIVACY)]
    made = {"trends": [figure for name in names for figure in _trends(data, name)]}
    return Section("factors", "What was swept", made) if made["trends"] else None


def attacks(data: SweepData) -> Section | None:
    """Measures against settings of attacks, and arms that set one or a defence."""
    if not any(point.runs[0].curves.byzantine.any() for point in data.points):
        return None
    related = (*_ATTACK, "exchange.aggregator")
    made = _varied(data, _ATTACK, related, "attacks and defences")
    return Section("attacks", "Byzantine peers", made) if made else None


def privacy(data: SweepData) -> Section | None:
    """Measures against settings of privacy, and arms that set one."""
    made = _varied(data, _PRIVACY, _PRIVACY, "privacy")
    return Section("privacy", "Privacy against utility", made) if made else None


def _varied(
    data: SweepData, fields: Sequence[str], related: Sequence[str], what: str
) -> dict[str, Any]:
    """Measures against ``fields``, and of arms that set any of ``related``."""
    swept = [field for field in data.factors if field in fields]
    trends = [made for field in swept for made in _trends(data, field)]
    arms = [arm for arm, sets in data.sweep.arms.items() if sets.keys() & {*related}]
    shown, like = {*arms, data.main} - {data.control}, data.headline().settings
    points = [
        point
        for point in data.points
        if point.arm in shown and _alike(point, like) and arms
    ]
    made = _forests(data, (data.early, data.final), points, f", {what}")
    return {"forests": [], **made, "trends": trends} if trends or made else {}


def _forests(
    data: SweepData,
    measures: Sequence[str],
    points: list[FinishedPoint],
    suffix: str = "",
) -> dict[str, Any]:
    """Differences to the control in each measure; of very many the first are shown."""
    made = []
    for measure in dict.fromkeys(measures):
        marks = []
        for point in points:
            row = data.row(point, measure)
            if row and row["pairs"]:
                middle, low = row["difference"], row["difference_low"]
                ends = (
                    (middle, middle) if low is None else (low, row["difference_high"])
                )
                focus = point.arm == data.main
                marks.append(Mark(point.label, point.look, middle, *ends, focus))
        unit = labels.difference_unit(measure)
        x = Quantity("difference" + " (percentage points)" * (unit == "points"), unit)
        title = f"Difference: {data.label(measure)}{suffix}"
        if marks:
            figure = row_figures.forest(title, marks[:_MOST_ROWS], x)
            figure.facts["omitted"] = len(marks[_MOST_ROWS:])
            made.append(figure)
    facts = {"control": labels.arm(data.control), "seeds": data.seeds}
    return {"forests": made, **facts} if made else {}


def _trends(data: SweepData, field: str) -> list[Figure]:
    """Arrival, cold start, final score and worst peer against one factor."""
    measures = dict.fromkeys((ARRIVAL, data.early, data.final, "worst"))
    made = [_trend(data, field, name) for name in measures if name in data.measures]
    return [figure for figure in made if figure]


def _trend(data: SweepData, field: str, measure: str) -> Figure | None:
    values, fixed, unit = data.factors[field], {}, MEASURES[measure].unit
    paneled = field == data.panel_field  # there every variant has its own line
    if not paneled:
        of_headline = data.headline().values
        fixed = {
            n: v for n, v in of_headline.items() if n in data.factors and n != field
        }
    traces: dict[str, tuple[Look, list[tuple[float, ...]]]] = {}
    levels = []
    for point in data.points:
        row = data.row(point, measure)
        if row is None or not _alike(point, fixed):
            continue
        if field not in point.values:  # an arm that the factor does not touch
            levels.append((point.look.label, labels.centre(row)[0]))
            continue
        drawn = point.look if paneled else look(point.arm, list(data.sweep.arms))
        _, places = traces.setdefault(drawn.label, (drawn, []))
        places.append((values.index(point.values[field]), *labels.centre(row)))
    if not traces:
        return None
    if measure == data.early:
        levels += data.levels(data.headline(), measure)[1:]
    drawn = []
    for label, (one, places) in list(traces.items())[:MOST_LINES]:
        x, *ends = np.array(places).T
        drawn.append(Trace(label, one, x.astype(int), *ends))
    arrives, name = measure == ARRIVAL, data.label(measure)
    figure = figures.trend(
        labels.sentence(f"{name} by {labels.field(field)}"),
        field,
        values,
        drawn,
        Quantity(name, unit),
        end=max(point.series.end for point in data.points) if arrives else np.inf,
        levels=levels,
    )
    facts = {"arrives": arrives, "fixed": labels.settings(fixed), "seeds": data.seeds}
    return figure._replace(facts=facts)


def _alike(point: FinishedPoint, values: dict[str, Any]) -> bool:
    """Whether a point has these values, where it has the fields."""
    return all(values.get(name, value) == value for name, value in point.values.items())


def profiles(data: SweepData) -> Section | None:
    """Share of populations above each score, all settings of a line together."""
    counts: Counter[str] = Counter()
    for point in data.points:
        counts[point.look.label] += len(point.runs)
    if max(counts.values()) < _LEAST:
        return None
    made = [_profile(data, name) for name in dict.fromkeys((data.early, data.final))]
    listed = ", ".join(f"{label} {count}" for label, count in counts.items())
    content = {"profiles": made, "counts": listed}
    return Section("profiles", "How often it goes well", content)


def _profile(data: SweepData, measure: str) -> Figure:
    tasks: dict[str, tuple[Look, list[Array]]] = {}
    for point in data.points:
        values = np.array([seed.get(measure, np.nan) for seed in point.series.seeds])
        _, of = tasks.setdefault(point.look.label, (point.look, []))
        of.append(values[np.isfinite(values)])
    everything = np.concatenate([task for _, of in tasks.values() for task in of])
    margin = 0.02 * float(np.ptp(everything)) + 1e-6
    ends = everything.min() - margin, everything.max() + margin
    thresholds = np.linspace(*ends, _THRESHOLDS)
    traces = [
        Trace(label, drawn, thresholds, *statistics.performance_profile(of, thresholds))
        for label, (drawn, of) in tasks.items()
        if any(map(len, of))
    ]
    x = Quantity(data.label(measure), MEASURES[measure].unit)
    y = Quantity("share of populations above", "share")
    title = f"Profile: {x.label}"
    return figures.lines(title, traces[:MOST_LINES], x, y, start=None)
