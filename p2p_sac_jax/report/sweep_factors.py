"""What the network adds, and measures against everything that was swept."""

from __future__ import annotations

import itertools
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
from p2p_sac_jax.report.sweep_data import (
    MOST_LINES,
    PEERS,
    FinishedPoint,
    Omitted,
    SweepData,
)
from p2p_sac_jax.report.theme import Look, look

Made = tuple[Section | None, list[Omitted]]

# Factors that have a section of their own.
PRIVACY = (
    "exchange.mode",
    "privacy.epsilon",
    "privacy.value_noise",
    "privacy.demand_noise",
    "privacy.trend_epsilon",
)
ATTACK = ("attack.byzantine", "attack.kind", "attack.strength")
_MOST_ROWS = 36
_MOST_MAPS = 3
_THRESHOLDS = 60
_LEAST = 5  # populations of a profile: of fewer its band means nothing


def effects(data: SweepData) -> Made:
    """Differences to the control, a row for each point."""
    what = "differences to an arm without communication"
    if not data.control:
        return None, [Omitted(what, "no arm is without communication")]
    points = [point for point in data.points if point.arm != data.control]
    judged = [name for name in data.measures if MEASURES[name].unit == "return"]
    if data.has_oracle:
        early = "earned_200" if "earned_200" in data.measures else "earned"
        judged = list(dict.fromkeys((data.early, early, "final", "worst")))
    made = [forest(data, "effect", name, points) for name in judged]
    return _section(
        "effects",
        "Against the control arm",
        {"forests": [figure for figure in made if figure]},
        [] if any(made) else [Omitted(what, "no seed has both arms")],
    )


def factors(data: SweepData) -> Made:
    """Measures against every factor without a section of its own, and maps of two."""
    names = [name for name in data.factors if name not in (*ATTACK, *PRIVACY)]
    trends = [figure for name in names for figure in against(data, name)]
    what, omitted = f"{data.label(ARRIVAL)} against the number of peers", []
    if not data.has_oracle:
        omitted.append(Omitted(what, "the best attainable reward is not known"))
    elif PEERS not in data.factors:
        omitted.append(Omitted(what, "population.peers was not swept"))
    swept = [name for name in data.factors if name in data.headline().values]
    pairs = list(itertools.combinations(swept, 2))[:_MOST_MAPS]
    if not pairs:
        why = f"fewer than two factors vary in the arm {labels.arm(data.main)}"
        omitted.append(Omitted("map of two factors", why))
    measures = dict.fromkeys((data.early, data.final))
    maps = [_map(data, pair, name) for pair in pairs for name in measures]
    content = {"trends": trends, "maps": maps, "control": labels.arm(data.control)}
    return _section("factors", "What was swept", content, omitted)


def profiles(data: SweepData) -> Made:
    """Share of populations above each score, all settings of a line together."""
    counts: Counter[str] = Counter()
    for point in data.points:
        counts[point.look.label] += len(point.runs)
    if max(counts.values()) < _LEAST:
        why = f"no line has {_LEAST} populations behind it"
        return None, [Omitted("performance profiles", why)]
    made = [_profile(data, name) for name in dict.fromkeys((data.early, data.final))]
    content = {"profiles": [figure for figure in made if figure]}
    return _section("profiles", "How often it goes well", content, [])


def attacks(data: SweepData) -> Made:
    """Measures against settings of attacks, and arms that set one."""
    if not any(point.runs[0].curves.byzantine.any() for point in data.points):
        return None, [Omitted("attack curves", "no population has a byzantine peer")]
    defences = ("exchange.aggregator",)
    return _varied(
        data, "attacks", "Byzantine peers", "attack curves", ATTACK, defences
    )


def privacy(data: SweepData) -> Made:
    """Measures against settings of privacy, and arms that set one."""
    what = "privacy against utility"
    return _varied(data, "privacy", "Privacy against utility", what, PRIVACY)


def _varied(
    data: SweepData,
    name: str,
    title: str,
    what: str,
    fields: Sequence[str],
    answers: Sequence[str] = (),
) -> Made:
    """Measures against ``fields``, and of arms that set one or one of ``answers``."""
    swept = [field for field in data.factors if field in fields]
    content = {"trends": [made for field in swept for made in against(data, field)]}
    arms = [
        a for a, sets in data.sweep.arms.items() if sets.keys() & {*fields, *answers}
    ]
    forests = []
    if arms:
        shown, like = {*arms, data.main} - {data.control}, data.headline().settings
        points = [
            point
            for point in data.points
            if point.arm in shown
            and all(like.get(field, v) == v for field, v in point.values.items())
        ]
        measures = dict.fromkeys((data.early, data.final))
        forests = [forest(data, name, measure, points) for measure in measures]
    content["forests"] = [figure for figure in forests if figure]
    why = f"none of {', '.join(fields)} was swept or set by an arm"
    omitted = [] if any(content.values()) else [Omitted(what, why)]
    return _section(name, title, content, omitted)


def forest(
    data: SweepData, stem: str, measure: str, points: list[FinishedPoint]
) -> Figure | None:
    """One figure of differences, None where no point has any.

    Args:
      data: the sweep.
      stem: of the identifier.
      measure: what is compared.
      points: rows in order, first on top; of very many the first are shown.
    """
    known = [(point, data.row(point, measure)) for point in points]
    paired = [(point, row) for point, row in known if row and row["pairs"]]
    if not paired:
        return None
    marks = []
    for point, row in paired[:_MOST_ROWS]:
        middle, low = row["difference"], row["difference_low"]
        ends = (middle, middle) if low is None else (low, row["difference_high"])
        main = point.arm == data.main
        marks.append(Mark(point.label, point.look, middle, *ends, main))
    above = sum(mark.low > 0 for mark in marks)
    below = sum(mark.high < 0 for mark in marks)
    name, control = data.label(measure), labels.arm(data.control)
    unit = labels.difference_unit(measure)
    svg = row_figures.forest(
        labels.identifier(stem, measure),
        f"Forest plot: difference in {name} to {control}, {len(marks)} points; the"
        f" interval lies above 0 in {above} and below 0 in {below}.",
        marks,
        "difference" + " (percentage points)" * (unit == "points"),
        unit,
    )
    facts = {
        "seeds": data.seeds,
        "points": len(marks),
        "above": above,
        "below": below,
        "omitted": len(paired) - len(marks),
        "control": control,
    }
    return Figure(svg, f"Difference: {name}", facts)


def against(data: SweepData, field: str) -> list[Figure]:
    """Arrival, cold start, final score and worst peer against one factor."""
    measures = dict.fromkeys((ARRIVAL, data.early, data.final, "worst"))
    made = [_trend(data, field, name) for name in measures if name in data.measures]
    return [figure for figure in made if figure]


def _trend(data: SweepData, field: str, measure: str) -> Figure | None:
    values, fixed = data.factors[field], _fixed(data, field)
    traces, levels = [], []
    for drawn, points in _groups(data, field, fixed):
        known = [(point, data.row(point, measure)) for point in points]
        rows = [(point, labels.centre(row)) for point, row in known if row]
        if rows:
            x = np.array([values.index(point.values[field]) for point, _ in rows])
            ends = np.array([centre for _, centre in rows], float).T
            traces.append(Trace(drawn.label, drawn, x, *ends))
    if not traces:
        return None
    for point in data.points:  # arms that the factor does not touch
        row = data.row(point, measure)
        if row and field not in point.values and _alike(point, fixed):
            levels.append((point.look.label, labels.centre(row)[0]))
    if measure == data.early:
        levels += data.levels(data.headline(), measure)[1:]
    name, shown, arrives = data.label(measure), labels.field(field), measure == ARRIVAL
    unit = MEASURES[measure].unit
    place = labels.setting(field, values[-1])
    svg = figures.trend(
        labels.identifier("against", field, measure),
        f"Chart with intervals: {name} against {shown}."
        f" {figures.ends(traces, unit, place)}",
        field,
        values,
        traces,
        Quantity(name, unit),
        end=max(point.series.end for point in data.points) if arrives else np.inf,
        levels=levels,
    )
    facts = {"arrives": arrives, "fixed": labels.settings(fixed), "seeds": data.seeds}
    return Figure(svg, labels.sentence(f"{name} by {shown}"), facts)


def _groups(
    data: SweepData, field: str, fixed: dict[str, Any]
) -> list[tuple[Look, list[FinishedPoint]]]:
    """Points of each line, and how it is drawn.

    Against the panels' factor every variant of an arm has a line of its own; against
    another one, all other factors are as in the headline.
    """
    arms = list(data.sweep.arms)
    groups: dict[str, tuple[Look, list[FinishedPoint]]] = {}
    for point in data.points:
        if field in point.values and _alike(point, fixed):
            panel = field == data.panel_field
            drawn = point.look if panel else look(point.arm, arms)
            groups.setdefault(drawn.label, (drawn, []))[1].append(point)
    return list(groups.values())[:MOST_LINES]


def _alike(point: FinishedPoint, fixed: dict[str, Any]) -> bool:
    return all(point.values.get(name, value) == value for name, value in fixed.items())


def _fixed(data: SweepData, field: str) -> dict[str, Any]:
    """Other factors and their values in the headline, where they are held fixed."""
    if field == data.panel_field:
        return {}
    values = data.headline().values
    return {n: values[n] for n in data.factors if n in values and n != field}


def _map(data: SweepData, pair: tuple[str, str], measure: str) -> Figure:
    """Two factors; that of more values gives the rows, so that a phone can show it."""
    fields = sorted(pair, key=lambda name: -len(data.factors[name]))
    down, across = (data.factors[name] for name in fields)
    middle = np.full((len(down), len(across)), np.nan)
    cells = [[labels.MISSING] * len(across) for _ in down]
    values = data.headline().values
    fixed = {name: value for name, value in values.items() if name not in fields}
    unit = MEASURES[measure].unit
    for point in data.of_arm(data.main):
        row = data.row(point, measure)
        if row and fixed.items() <= point.values.items():
            i, j = (
                values.index(point.values[name])
                for values, name in zip((down, across), fields, strict=True)
            )
            middle[i, j] = row["iqm"]
            cells[i][j] = labels.quantity(unit, row["iqm"])
            if row["pairs"]:
                bare = labels.difference(row, with_unit=False, interval=False)
                cells[i][j] += f"\n{bare}"
    title = f"{data.label(measure)}, {labels.arm(data.main)}"
    names = labels.field(fields[0]), labels.field(fields[1])
    rows, columns = ([labels.value(v) for v in of] for of in (down, across))
    shown = "; ".join(
        f"{label}: {', '.join(cell.replace(chr(10), ' ') for cell in line)}"
        for label, line in zip(rows, cells, strict=True)
    )
    svg = row_figures.heat(
        labels.identifier("map", *fields, measure),
        f"Heat map: {title}, {names[0]} by {names[1]} ({', '.join(columns)}). {shown}.",
        names,
        rows,
        columns,
        middle,
        cells,
    )
    return Figure(svg, labels.sentence(title), {"fixed": labels.settings(fixed)})


def _profile(data: SweepData, measure: str) -> Figure | None:
    tasks: dict[str, tuple[Look, list[Array]]] = {}
    for point in data.points:
        values = [seed[measure] for seed in point.series.seeds if measure in seed]
        known = np.array([value for value in values if np.isfinite(value)])
        if known.size:
            tasks.setdefault(point.look.label, (point.look, []))[1].append(known)
    if not tasks:
        return None
    everything = np.concatenate([task for _, of in tasks.values() for task in of])
    margin = 0.02 * float(np.ptp(everything)) + 1e-6
    ends = everything.min() - margin, everything.max() + margin
    thresholds = np.linspace(*ends, _THRESHOLDS)
    traces = [
        Trace(label, drawn, thresholds, *statistics.performance_profile(of, thresholds))
        for label, (drawn, of) in tasks.items()
    ][:MOST_LINES]
    name, unit = data.label(measure), MEASURES[measure].unit
    counts = ", ".join(
        f"{label} {sum(map(len, of))}" for label, (_, of) in tasks.items()
    )
    svg = figures.lines(
        labels.identifier("profile", measure),
        f"Performance profile: share of populations whose {name} lies above each"
        f" value. Populations: {counts}.",
        traces,
        Quantity(name, unit),
        Quantity("share of populations above", "share"),
        start=None,
    )
    return Figure(svg, f"Profile: {name}", {"counts": counts})


def _section(
    name: str, title: str, content: dict[str, Any], omitted: list[Omitted]
) -> Made:
    """A section, None where it has no figure."""
    empty = not any(isinstance(value, list) and value for value in content.values())
    return None if empty else Section(name, title, content), omitted
