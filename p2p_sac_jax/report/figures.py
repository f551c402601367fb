"""Figures with a line or points for each arm; each has tooltips and a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.frame import frame, outside
from p2p_sac_jax.report.page import Figure
from p2p_sac_jax.report.svg import Tip, draw, end_labels
from p2p_sac_jax.report.theme import EDGE, INK, MUTED, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Array = np.ndarray

# Inches; text keeps its size where a page sets three figures in a row.
SMALL, WIDE = (3.7, 2.5), (4.7, 2.9)
_MOST_TIPS = 14  # of a line
_LONG = 150  # values of a line that is drawn thinly


class Quantity(NamedTuple):
    """What an axis shows, and how its values are written."""

    label: str
    unit: str = ""  # as in ``Measure``, or "points", or what a step of time is called
    log: bool = False  # where values are positive and span more than a factor of 3


class Level(NamedTuple):
    """A height to compare with, drawn from side to side."""

    label: str
    height: float
    compared: bool = False  # whether the frame has to show it


class Trace(NamedTuple):
    """One line with its band; NaN where there is nothing, inf beyond the end."""

    look: Look
    x: Array  # [N]
    middle: Array  # [N]
    low: Array  # [N]
    high: Array  # [N]
    seeds: Array = np.empty((0, 0))  # [S, N] drawn where they are too few for a band
    compared: bool = True  # whether the frame has to show all of it


def line(look: Look, x: Array, values: Array) -> Trace:
    """A trace without a band."""
    return Trace(look, x, values, values, values)


def ends(traces: Sequence[Trace], unit: str) -> str:
    """Where lines end, as text."""
    last = [(t.look.label, float(t.middle[-1])) for t in traces if len(t.middle)]
    shown = [f"{label} {labels.quantity(unit, value)}" for label, value in last]
    return f"At the end: {', '.join(shown)}."


def lines(
    title: str,
    traces: Sequence[Trace],
    x: Quantity,
    y: Quantity,
    *,
    levels: Sequence[Level] = (),
    limits: tuple[float, float] | None = None,
    ticks: Mapping[float, str] | None = None,
    end: float = np.inf,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Lines with bands against something continuous, or points against a factor.

    Both are named at their right ends. A line of no extent, such as of an arm that
    sends no bytes, is drawn as a point with a thin line across.

    Args:
      title: of the figure; with the names of the axes it is unique on the page.
      traces: what is drawn; all their ``x`` are in ``ticks``, if there are any.
      x: of the horizontal axis.
      y: of the vertical axis.
      levels: heights to compare with.
      limits: of the vertical axis; None shows what is compared, see ``frame``.
      ticks: positions and names of a factor's values: points are drawn.
      end: where observation ended; points that are not finite are hollow, there.
      size: width and height in inches.
    """
    traces = list(traces)
    values = [np.minimum(t.middle, end) for t in traces]
    known = np.concatenate([v[np.isfinite(v)] for v in values])
    log = y.log and len(known) > 0 and 0.0 < known.min() < known.max() / 3.0
    spread = min(0.1, 0.6 / len(traces)) if ticks else 0.0
    gap = np.diff(sorted(ticks or (0.0, 1.0))).min(initial=np.inf)
    gap = gap if np.isfinite(gap) else 1.0
    if limits is None:
        # What a line goes through before it has learned anything may be far off.
        settled = 0.0 if ticks else 0.1
        focus = [trace for trace in traces if trace.compared] or traces
        parts = [p for t in focus for p in (t.middle, t.low, t.high, *t.seeds)]
        compared = [np.minimum(p[int(settled * len(p)) :], end) for p in parts]
        compared += [np.array([one.height]) for one in levels if one.compared]
        others = [*values, *(np.array([one.height]) for one in levels)]
        limits = frame(compared, others, log)

    def edge(name: str, height: float) -> str:
        """The name of a line, with its value where that is outside."""
        if limits[0] <= height <= limits[1]:
            return name
        shown = labels.quantity(y.unit, np.inf if height == end else height)
        return f"{name} {'↓' if height < limits[0] else '↑'} {shown}"

    def paint(ax: Axes) -> list[Tip]:
        names, tips = [], []
        for name, height, _ in levels:
            dashes = "solid" if height == 1.0 else (0, (2, 2))
            ax.axhline(height, color=INK, lw=1.0, ls=dashes, zorder=1)
            names.append((height, edge(name, height), MUTED))
        for index, trace in enumerate(traces):
            places = _places(trace, x, ticks)
            aside = (index - (len(traces) - 1) / 2) * spread * gap
            trace = trace._replace(x=trace.x + aside)
            (_draw_points if ticks else _draw_line)(ax, trace, end)
            _mark_outside(ax, trace, values[index], limits, every=bool(ticks))
            shown = values[index][np.isfinite(values[index])]
            if len(shown):
                name = edge(trace.look.label, shown[-1])
                names.append((shown[-1], name, trace.look.text))
            for i, place in places.items():
                ends = (float(v[i]) for v in (trace.middle, trace.low, trace.high))
                text = f"{trace.look.label}, {place}: {labels.band(y.unit, *ends)}"
                tips.append(Tip(trace.x[i], np.clip(values[index][i], *limits), text))
        if ticks and any(np.isinf(trace.high).any() for trace in traces):
            ax.axhline(end, color=EDGE, lw=1.0, zorder=0)
            names.append((end, "end", MUTED))
        _format(ax.yaxis, y)
        if log:
            ax.set_yscale("log")
            ax.set_ylabel(f"{y.label}, log scale")
            ax.yaxis.set_major_formatter(lambda value, _: labels.tick("", value))
            ax.yaxis.set_minor_formatter(lambda *_: "")
        across = np.concatenate([trace.x for trace in traces])
        if ticks:
            at, shown = list(ticks), list(ticks.values())
            ax.set_xticks(at, shown, rotation=0 if sum(map(len, shown)) < 40 else 20)
            ax.set_xlim(min(at) - 0.45 * gap, max(at) + 0.45 * gap)
            ax.set_xlabel(x.label)
        else:
            last = across.max() if across.max() > across.min() else None
            ax.set_xlim(across.min() if x.unit == "price" else 0.0, last)
            _format(ax.xaxis, x, across.max())
        ax.set_ylim(*limits)
        end_labels(ax, names)
        return tips

    label = f"Line chart: {y.label} against {x.label}. {title}. {ends(traces, y.unit)}"
    named = [(trace.look.label, trace.middle) for trace in traces]
    named += [(one.label, np.array([one.height])) for one in levels]
    beyond = outside(named, limits, y.unit, end)
    return Figure(draw(label, paint, size), title, outside=beyond)


def _draw_line(ax: Axes, trace: Trace, _: float) -> None:
    look = trace.look
    style: dict[str, Any] = {"color": look.colour, "ls": look.dashes}
    if len(trace.x) and np.ptp(trace.x) == 0:
        height = trace.middle[np.isfinite(trace.middle)][-1:]
        ax.plot(trace.x[: len(height)], height, look.marker, color=look.colour)
        for one in height:
            ax.axhline(one, lw=0.8, **style)
        return
    for seed in trace.seeds:
        ax.plot(trace.x, seed, color=look.colour, lw=0.7, alpha=0.45)
    thin = look.colour == INK or len(trace.x) > _LONG
    ax.plot(trace.x, trace.middle, lw=1.1 if thin else 1.8, **style)
    if not np.array_equal(trace.low, trace.high, equal_nan=True):
        area = {"color": look.colour, "alpha": 0.15, "lw": 0}
        ax.fill_between(trace.x, trace.low, trace.high, **area)


def _draw_points(ax: Axes, trace: Trace, end: float) -> None:
    look = trace.look
    low, high = np.minimum(trace.low, end), np.minimum(trace.high, end)
    ax.vlines(trace.x, low, high, color=look.colour, lw=1.4, alpha=0.7)
    for seed in trace.seeds:
        ax.plot(trace.x, np.minimum(seed, end), "o", color=look.colour, ms=3, alpha=0.6)
    height = np.minimum(trace.middle, end)
    ax.plot(trace.x, height, color=look.colour, ls=look.dashes, lw=1.3)
    beyond = ~np.isfinite(trace.middle)
    dots = {"color": look.colour, "marker": look.marker, "ls": "none", "ms": 6}
    ax.plot(trace.x[~beyond], height[~beyond], mec=PAPER, mew=0.6, **dots)
    ax.plot(trace.x[beyond], height[beyond], mfc=PAPER, mew=1.4, **dots)


def _mark_outside(
    ax: Axes, trace: Trace, values: Array, limits: tuple[float, float], every: bool
) -> None:
    """A triangle at the edge where a trace is outside: one for a line."""
    for height, marker, beyond in (
        (limits[0], "v", values < limits[0]),
        (limits[1], "^", values > limits[1]),
    ):
        at = np.flatnonzero(beyond)
        at = at if every else at[len(at) // 2 : len(at) // 2 + 1]
        style = {"color": trace.look.colour, "ms": 6, "clip_on": False, "ls": "none"}
        ax.plot(trace.x[at], np.full(len(at), height), marker, **style)


def _places(
    trace: Trace, x: Quantity, ticks: Mapping[float, str] | None
) -> dict[int, str]:
    """Some places of a line, or all of a factor, in words."""
    if ticks:
        return {i: f"{x.label} {ticks[at]}" for i, at in enumerate(trace.x)}
    known = np.flatnonzero(np.isfinite(trace.middle))
    chosen = np.linspace(0, len(known) - 1, min(len(known), _MOST_TIPS))
    time = x.unit in ("week", "step")
    name, unit = (x.unit, "") if time else (x.label, x.unit)
    return {
        int(i): f"{name} {labels.quantity(unit, float(trace.x[i]))}"
        for i in known[chosen.round().astype(int)]
    }


def _format(axis: Axis, what: Quantity, end: float = 0.0) -> None:
    """Names an axis and writes its ticks; those of weeks stand at half years."""
    axis.set_label_text(what.label)
    axis.set_major_formatter(lambda value, _: labels.tick(what.unit, value))
    if what.unit == "week" and end > 26:
        every = 26 * max(1, round(end / 52 / 2.5))
        axis.set_ticks(np.arange(0, end + 1, every))
