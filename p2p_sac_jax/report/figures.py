"""Figures with a line or a point for each arm; each has tooltips and a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.page import Figure
from p2p_sac_jax.report.svg import Tip, draw, end_labels
from p2p_sac_jax.report.theme import EDGE, INK, MUTED, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Array = np.ndarray
Levels = Sequence[tuple[str, float]]  # names and heights to compare with

# Inches; text keeps its size where a page sets three figures in a row.
SMALL, WIDE = (3.7, 2.5), (4.7, 2.9)
_MOST_TIPS = 14  # of a line
_DASHED = (0, (2, 2))


class Quantity(NamedTuple):
    """What an axis shows, and how its values are written."""

    label: str
    unit: str = ""  # as in ``Measure``, or "points", or what a step of time is called


class Trace(NamedTuple):
    """One line with its band; NaN where there is nothing, inf beyond the end."""

    label: str
    look: Look
    x: Array  # [N]
    middle: Array  # [N]
    low: Array  # [N]
    high: Array  # [N]


def line(look: Look, x: Array, values: Array) -> Trace:
    """A trace without a band."""
    return Trace(look.label, look, x, values, values, values)


def ends(traces: Sequence[Trace], unit: str) -> str:
    """Where lines end, as text."""
    last = [(t.label, float(t.middle[-1])) for t in traces if len(t.middle)]
    shown = [f"{label} {labels.quantity(unit, value)}" for label, value in last]
    return f"At the end: {', '.join(shown)}."


def lines(
    title: str,
    traces: Sequence[Trace],
    x: Quantity,
    y: Quantity,
    *,
    levels: Levels = (),
    start: float | None = 0.0,
    limits: tuple[float | None, float | None] = (None, None),
    log: bool = False,
    tail: int = 1,
    width: float = 1.8,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Lines with bands against something continuous, named at their right ends.

    A trace of no extent, such as one that sends no bytes, is drawn as a point with a
    thin line across.

    Args:
      title: of the figure; with the names of the axes it is unique on the page.
      traces: what is drawn.
      x: of the horizontal axis.
      y: of the vertical axis.
      levels: heights to compare with.
      start: where the horizontal axis begins, None for the first value.
      limits: of the vertical axis, None where it fits the lines.
      log: whether the vertical axis is logarithmic, where values are positive and
        span more than a factor of three.
      tail: how many last values a line is named at the mean of.
      width: of a line in points.
      size: width and height in inches.
    """

    def paint(ax: Axes) -> list[Tip]:
        names, tips = _levels(ax, levels), []
        for trace in traces:
            look, height = trace.look, _last(trace.middle, tail)
            if len(trace.x) and np.ptp(trace.x) == 0:
                ax.axhline(height, color=look.colour, ls=look.dashes, lw=0.8)
                ax.plot(trace.x[-1:], [height], look.marker, color=look.colour)
            else:
                thin = 1.0 if look.colour == INK else width
                style = {"color": look.colour, "ls": look.dashes, "lw": thin}
                ax.plot(trace.x, trace.middle, **style)
                if not np.array_equal(trace.low, trace.high, equal_nan=True):
                    area = {"color": look.colour, "alpha": 0.15, "lw": 0}
                    ax.fill_between(trace.x, trace.low, trace.high, **area)
            names.append((height, trace.label, look.text))
            tips += _tips(trace, x, y)
        values = np.concatenate([trace.middle for trace in traces])
        if log and 0.0 < np.nanmin(values) < np.nanmax(values) / 3.0:
            ax.set_yscale("log")
            ax.set_ylabel(f"{y.label}, log scale")
            ax.yaxis.set_major_formatter(lambda value, _: labels.tick("", value))
            ax.yaxis.set_minor_formatter(lambda *_: "")
        else:
            _format(ax.yaxis, y)
        across = np.concatenate([trace.x for trace in traces])
        first, last = across.min() if start is None else start, across.max()
        ax.set_xlim(first, last if last > across.min() else None)
        _format(ax.xaxis, x, across.max())
        ax.set_ylim(*limits)
        end_labels(ax, names)
        return tips

    label = f"Line chart: {y.label} against {x.label}. {title}. {ends(traces, y.unit)}"
    return Figure(draw(label, paint, size), title)


def trend(
    title: str,
    field: str,
    values: Sequence[Any],
    traces: Sequence[Trace],
    y: Quantity,
    *,
    end: float = np.inf,
    levels: Levels = (),
) -> Figure:
    """Values with intervals against the values of a factor.

    Args:
      title: of the figure, unique on the page.
      field: the factor.
      values: of the factor, in order; numbers keep their distances.
      traces: ``x`` holds positions in ``values``.
      y: of the vertical axis.
      end: where observation ended; what is not finite is drawn there, hollow.
      levels: heights to compare with.
    """
    numeric = {type(value) for value in values} <= {int, float} and len(values) > 1
    at = np.array(values if numeric else range(len(values)), float)
    if numeric and at.min() > 0 and at.max() / at.min() >= 8:
        at = np.log(at)
    gap = np.diff(np.sort(at)).min() if len(at) > 1 else 1.0

    def paint(ax: Axes) -> list[Tip]:
        names, tips = _levels(ax, levels), []
        for index, trace in enumerate(traces):
            look, aside = trace.look, index - (len(traces) - 1) / 2
            across = at[trace.x] + aside * min(0.1, 0.6 / len(traces)) * gap
            height, low, high = (np.minimum(v, end) for v in trace[3:])
            ax.vlines(across, low, high, color=look.colour, lw=1.4, alpha=0.7)
            if numeric:
                ax.plot(across, height, color=look.colour, ls=look.dashes, lw=1.3)
            beyond = ~np.isfinite(trace.middle)
            dots = {"color": look.colour, "marker": look.marker, "ls": "none", "ms": 6}
            ax.plot(across[~beyond], height[~beyond], mec=PAPER, mew=0.6, **dots)
            ax.plot(across[beyond], height[beyond], mfc=PAPER, mew=1.4, **dots)
            names.append((float(height[-1]), trace.label, look.text))
            for i, x in enumerate(trace.x):
                shown = labels.band(y.unit, *(v[i] for v in trace[3:]))
                text = f"{trace.label}, {labels.setting(field, values[x])}: {shown}"
                tips.append(Tip(across[i], height[i], text))
        if any(np.isinf(trace.high).any() for trace in traces):
            ax.axhline(end, color=EDGE, lw=1.0, zorder=0)
            names.append((end, "end", MUTED))
        _format(ax.yaxis, y)
        shown = [labels.value(value) for value in values]
        ax.set_xticks(at, shown, rotation=0 if sum(map(len, shown)) < 40 else 20)
        ax.set_xlim(at.min() - 0.45 * gap, at.max() + 0.45 * gap)
        ax.set_xlabel(labels.field(field))
        end_labels(ax, names)
        return tips

    label = f"Chart with intervals: {title}. {ends(traces, y.unit)}"
    return Figure(draw(label, paint, WIDE), title)


def _levels(ax: Axes, levels: Levels) -> list[tuple[float, str, str]]:
    """Draws levels; returns their names for ``end_labels``."""
    for _, height in levels:
        dashes = "solid" if height == 1.0 else _DASHED
        ax.axhline(height, color=INK, lw=1.0, ls=dashes, zorder=1)
    return [(height, name, MUTED) for name, height in levels]


def _tips(trace: Trace, x: Quantity, y: Quantity) -> list[Tip]:
    """Values of a line at some of its places."""
    known = np.flatnonzero(np.isfinite(trace.middle))
    places = np.linspace(0, len(known) - 1, min(len(known), _MOST_TIPS))
    time, tips = x.unit in ("week", "step"), []
    for index in known[places.round().astype(int)]:
        across, *values = (float(v[index]) for v in trace[2:])
        at = labels.quantity("" if time else x.unit, across)
        place = f"{x.unit if time else x.label} {at}"
        shown = labels.band(y.unit, *values)
        tips.append(Tip(across, values[0], f"{trace.label}, {place}: {shown}"))
    return tips


def _last(values: Array, tail: int) -> float:
    known = values[np.isfinite(values)][-tail:]
    return float(known.mean()) if known.size else float("nan")


def _format(axis: Axis, what: Quantity, end: float = 0.0) -> None:
    """Names an axis and writes its ticks; those of weeks stand at half years."""
    axis.set_label_text(what.label)
    axis.set_major_formatter(lambda value, _: labels.tick(what.unit, value))
    if what.unit == "week" and end > 26:
        every = 26 * max(1, round(end / 52 / 2.5))
        axis.set_ticks(np.arange(0, end + 1, every))
