"""Figures against what was swept, one factor at a time or two in a map."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from p2p_sac_jax.experiment.report.elements import figure, text
from p2p_sac_jax.experiment.report.style import Look, look
from p2p_sac_jax.experiment.report.sweep import charts, rows, words
from p2p_sac_jax.experiment.report.sweep.charts import Trace
from p2p_sac_jax.experiment.report.sweep.data import (
    ARRIVAL,
    MOST_LINES,
    PEERS,
    Omitted,
    Seen,
    SweepData,
    centre,
    panel_field,
)

# Factors that have a section of their own.
PRIVACY = (
    "exchange.mode",
    "privacy.epsilon",
    "privacy.value_noise",
    "privacy.demand_noise",
    "privacy.trend_epsilon",
)
ATTACK = ("attack.hostile", "attack.kind", "attack.strength")
_MOST_MAPS = 3


def swept(data: SweepData) -> str:
    """Every factor in turn, but those that have a section of their own."""
    names = [name for name in data.factors if name not in (*ATTACK, *PRIVACY)]
    return "".join(against(data, name) for name in names)


def against(data: SweepData, field: str) -> str:
    """Arrival, cold start, final score and worst peer against one factor."""
    measures = dict.fromkeys((ARRIVAL, data.early, data.final, "worst"))
    shown = [name for name in measures if name in data.measures]
    return "".join(_against(data, field, measure) for measure in shown)


def arrival(data: SweepData) -> str | Omitted:
    """Why there is no figure of steps to the threshold against peers, if so."""
    what = f"{data.unit}s to a lasting 95\u00a0% against the number of peers"
    if not data.has_oracle:
        return Omitted(what, "the best attainable reward is not known")
    if PEERS not in data.factors:
        return Omitted(what, "population.peers was not swept")
    return ""


def maps(data: SweepData) -> str | Omitted:
    """Cold start and final score of the main arm over each pair of factors."""
    swept = [name for name in data.factors if name in data.headline().values]
    pairs = list(itertools.combinations(swept, 2))[:_MOST_MAPS]
    if not pairs:
        why = f"fewer than two factors vary in the arm {words.arm(data.main)}"
        return Omitted("map of two factors", why)
    measures = dict.fromkeys((data.early, data.final))
    return "".join(_map(data, pair, name) for pair in pairs for name in measures)


def _against(data: SweepData, field: str, measure: str) -> str:
    traces = [
        _trace(data, field, points, measure, drawn)
        for drawn, points in _groups(data, field)
    ]
    traces = [trace for trace in traces if len(trace.x)]
    name, shown = words.measure(measure, data.unit), words.field(field)
    values = data.factors[field]
    arrives = measure == ARRIVAL
    svg = charts.trend(
        words.identifier("against", field, measure),
        f"Chart with intervals: {name} against {shown}."
        f" {charts.ends(traces, measure, words.setting(field, values[-1]))}",
        values,
        traces,
        (shown, name),
        share=words.is_share(measure),
        end=max(seen.line.end for seen in data.seen) if arrives else np.inf,
        references=_levels(data, field, measure),
    )
    return figure(
        svg, _caption(data, field, measure), words.sentence(f"{name} by {shown}")
    )


def _caption(data: SweepData, field: str, measure: str) -> str:
    said = (
        "Median over seeds of the first evaluation from which on the mean over peers"
        " stays above 95\u00a0% of the best; a hollow mark did not get there before"
        " the end."
        if measure == ARRIVAL
        else "Interquartile mean over seeds."
    )
    fixed = words.settings(_fixed(data, field))
    held = f" The other factors are held still: {text(fixed)}." if fixed else ""
    spread = " Bars: 95\u00a0% bootstrap intervals." if data.seeds > 1 else ""
    return f"<b>How measured.</b> {said}{spread}{held}"


def _levels(data: SweepData, field: str, measure: str) -> list[tuple[str, float]]:
    """Arms that the factor does not touch, and for the cold start the usual price."""
    fixed = _fixed(data, field)
    levels = []
    for seen in data.seen:
        same = all(seen.values.get(name, v) == v for name, v in fixed.items())
        row = data.row(seen, measure)
        if field not in seen.values and same and row and row["seeds"]:
            levels.append((seen.look.label, centre(row)[0]))
    usual = data.references(data.headline(), measure)[1:]
    return levels + (usual if measure == data.early else [])


def _groups(data: SweepData, field: str) -> list[tuple[Look, list[Seen]]]:
    """Points of each line, and how it is drawn.

    Against the panels' factor every variant of an arm has a line of its own; against
    another one, all other factors are as in the headline.
    """
    fixed, arms = _fixed(data, field), list(data.sweep.arms)
    paneled = field == panel_field(data.factors)
    groups: dict[str, tuple[Look, list[Seen]]] = {}
    for seen in data.seen:
        same = all(seen.values.get(name, v) == v for name, v in fixed.items())
        if field in seen.values and same:
            drawn = seen.look if paneled else look(seen.arm, arms)
            groups.setdefault(drawn.label, (drawn, []))[1].append(seen)
    return list(groups.values())[:MOST_LINES]


def _fixed(data: SweepData, field: str) -> dict[str, Any]:
    """Other factors and their values in the headline, where they are held still."""
    if field == panel_field(data.factors):
        return {}
    values = data.headline().values
    return {n: values[n] for n in data.factors if n in values and n != field}


def _trace(
    data: SweepData, field: str, points: Sequence[Seen], measure: str, drawn: Look
) -> Trace:
    known = [(seen, data.row(seen, measure)) for seen in points]
    there = [(seen, row) for seen, row in known if row and row["seeds"]]
    x = [data.factors[field].index(seen.values[field]) for seen, _ in there]
    ends = np.array([centre(row) for _, row in there], float).reshape(-1, 3)
    return Trace(drawn.label, drawn, np.array(x, int), *ends.T)


def _map(data: SweepData, pair: tuple[str, str], measure: str) -> str:
    """The factor of more values gives the rows, so that a phone can show it."""
    row_field, column_field = sorted(pair, key=lambda name: -len(data.factors[name]))
    across, down = data.factors[column_field], data.factors[row_field]
    headline = data.headline()
    fixed = {n: v for n, v in headline.values.items() if n not in pair}
    middle = np.full((len(down), len(across)), np.nan)
    cells = [["–"] * len(across) for _ in down]
    for seen in data.of_arm(headline.arm):
        row = data.row(seen, measure)
        if not (row and row["seeds"]) or any(seen.values[n] != fixed[n] for n in fixed):
            continue
        at = down.index(seen.values[row_field]), across.index(seen.values[column_field])
        middle[at] = row["iqm"]
        cells[at[0]][at[1]] = words.number(measure, row["iqm"])
        if row["pairs"]:
            cells[at[0]][at[1]] += f"\n{words.difference(row).split(' ')[0]}"
    name = words.measure(measure, data.unit)
    title = f"{name}, {words.arm(data.main)}"
    labels = [[words.value(v) for v in values] for values in (down, across)]
    told = "; ".join(
        f"{label}: {', '.join(cell.split(chr(10))[0] for cell in line)}"
        for label, line in zip(labels[0], cells, strict=True)
    )
    svg = rows.heat(
        words.identifier("map", *pair, measure),
        f"Heat map: {title}, {words.field(row_field)} by {words.field(column_field)}"
        f" ({', '.join(labels[1])}). {told}.",
        (words.field(row_field), words.field(column_field)),
        labels[0],
        labels[1],
        middle,
        cells,
    )
    held = words.settings({n: v for n, v in fixed.items() if n in data.factors})
    caption = (
        "<b>How measured.</b> Interquartile mean over seeds"
        + (
            f", and below it the difference to {text(words.arm(data.control))}, in"
            " percentage points where it is a share"
            if data.control
            else ""
        )
        + (f". Held still: {text(held)}." if held else ".")
    )
    return figure(svg, caption, words.sentence(title))
