"""What the network adds, seed by seed, and how often populations do well."""

from __future__ import annotations

from collections import Counter

import numpy as np

from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.report.elements import figure, text
from p2p_sac_jax.report.style import Look
from p2p_sac_jax.report.sweep import charts, rows, words
from p2p_sac_jax.report.sweep.charts import Trace
from p2p_sac_jax.report.sweep.data import (
    RETURN,
    Omitted,
    Seen,
    SweepData,
)
from p2p_sac_jax.report.sweep.panels import MOST_LINES
from p2p_sac_jax.report.sweep.rows import Mark

_MOST_ROWS = 36
_THRESHOLDS = 60
_LEAST = 5  # populations of a profile: of fewer its band says nothing


def effects(data: SweepData) -> str | Omitted:
    """Differences to the control, a row for each point."""
    what = "differences to an arm without communication"
    if not data.control:
        return Omitted(what, "no arm is without communication")
    points = [seen for seen in data.seen if seen.arm != data.control]
    figures = [forest(data, "effect", name, points) for name in _judged(data)]
    return "".join(figures) or Omitted(what, "no seed has both arms")


def _judged(data: SweepData) -> list[str]:
    """Figures that get a forest each."""
    if not data.has_oracle:
        return [name for name in data.measures if name.startswith(RETURN)]
    while_learning = "earned_200" if "earned_200" in data.measures else "earned"
    judged = dict.fromkeys((data.early, while_learning, "final", "worst"))
    return [name for name in judged if name in data.measures]


def forest(data: SweepData, stem: str, measure: str, points: list[Seen]) -> str:
    """One figure of differences, "" where no point has any.

    Args:
      data: the sweep.
      stem: of the identifier.
      measure: what is compared.
      points: rows in order, first on top; of very many the first are shown.
    """
    known = [(seen, data.row(seen, measure)) for seen in points]
    paired = [(seen, row) for seen, row in known if row and row["pairs"]]
    if not paired:
        return ""
    marks = []
    for seen, row in paired[:_MOST_ROWS]:
        middle = row["difference"]
        low, high = row["difference_low"], row["difference_high"]
        ends = (middle, middle) if low is None else (low, high)
        marks.append(Mark(seen.label, seen.look, middle, *ends, seen.arm == data.main))
    above = sum(mark.low > 0 for mark in marks)
    below = sum(mark.high < 0 for mark in marks)
    name, control = words.measure(measure, data.unit), words.arm(data.control)
    share = words.is_share(measure)
    svg = rows.forest(
        words.identifier(stem, measure),
        f"Forest plot: difference in {name} to {control}, {len(marks)} points; the"
        f" interval lies above 0 in {above} and below 0 in {below}.",
        marks,
        "difference" + " (percentage points)" * share,
        share,
    )
    counted = (
        f"The interval lies above 0 in {above} of {len(marks)} points, below 0 in"
        f" {below}; nothing is corrected for looking at many."
        if data.seeds > 1
        else "One seed has no interval: indicative."
    )
    left = len(paired) - len(marks)
    more = f" {left} more are in the tables." if left else ""
    caption = (
        f"<b>What to see.</b> {counted}{more} <b>How measured.</b> Interquartile mean"
        f" of differences to {text(control)} at the same seed and setting"
        + (", with its 95\u00a0% bootstrap interval." if data.seeds > 1 else ".")
    )
    return figure(svg, caption, f"Difference: {name}")


def profiles(data: SweepData) -> str | Omitted:
    """Share of populations above each score, all numbers of the panels together."""
    counts: Counter[str] = Counter()
    for seen in data.seen:
        counts[seen.look.label] += len(seen.cells)
    if max(counts.values()) < _LEAST:
        why = f"no line has {_LEAST} populations behind it"
        return Omitted("performance profiles", why)
    measures = dict.fromkeys((data.early, data.final))
    return "".join(_profile(data, measure) for measure in measures)


def _profile(data: SweepData, measure: str) -> str:
    tasks: dict[str, tuple[Look, list[np.ndarray]]] = {}
    for seen in data.seen:
        values = [seed[measure] for seed in seen.line.seeds if measure in seed]
        finite = np.array([value for value in values if np.isfinite(value)])
        if finite.size:
            tasks.setdefault(seen.look.label, (seen.look, []))[1].append(finite)
    if not tasks:
        return ""
    everything = np.concatenate([task for _, of in tasks.values() for task in of])
    margin = 0.02 * float(np.ptp(everything)) + 1e-6
    thresholds = np.linspace(
        everything.min() - margin, everything.max() + margin, _THRESHOLDS
    )
    traces = [
        Trace(label, look, thresholds, *statistics.performance_profile(of, thresholds))
        for label, (look, of) in tasks.items()
    ][:MOST_LINES]
    name = words.measure(measure, data.unit)
    counts = ", ".join(
        f"{label} {sum(map(len, of))}" for label, (_, of) in tasks.items()
    )
    svg = charts.lines(
        words.identifier("profile", measure),
        f"Performance profile: share of populations whose {name} lies above each"
        f" value. Populations: {counts}.",
        traces,
        (name, "share of populations above"),
        share=True,
        shares_across=words.is_share(measure),
    )
    caption = (
        "<b>What to see.</b> A line further to the right is better; where lines cross,"
        " one arm is better at its best and worse at its worst. <b>How measured.</b>"
        f" Every population once, all settings of a line together ({text(counts)})."
        " Areas: 95\u00a0% Wilson intervals, each threshold by itself."
    )
    return figure(svg, caption, f"Profile: {name}")
