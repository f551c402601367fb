"""Figures against what was swept, one factor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from p2p_sac_jax.report.elements import figure, text
from p2p_sac_jax.report.style import Look, look
from p2p_sac_jax.report.sweep import charts, words
from p2p_sac_jax.report.sweep.charts import Trace
from p2p_sac_jax.report.sweep.data import (
    ARRIVAL,
    PEERS,
    Omitted,
    Seen,
    SweepData,
    centre,
    panel_field,
)
from p2p_sac_jax.report.sweep.panels import MOST_LINES

# Factors that have a section of their own.
PRIVACY = (
    "exchange.mode",
    "privacy.epsilon",
    "privacy.value_noise",
    "privacy.demand_noise",
    "privacy.trend_epsilon",
)
ATTACK = ("attack.byzantine", "attack.kind", "attack.strength")


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


def _against(data: SweepData, field: str, measure: str) -> str:
    traces = [
        _trace(data, field, points, measure, drawn)
        for drawn, points in _groups(data, field)
    ]
    traces = [trace for trace in traces if len(trace.x)]
    if not traces:
        return ""
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
