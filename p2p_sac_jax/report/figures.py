"""The kinds of figure that reports are drawn with, each returned as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.svg import Tip, draw, end_labels
from p2p_sac_jax.report.theme import EDGE, INK, MUTED, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Array = np.ndarray

# Inches; text keeps its size where a page sets three figures in a row.
SMALL = (3.7, 2.5)
WIDE = (4.7, 2.9)
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
    single: Array | None = None  # [S, N] single seeds, drawn thin


def ends(traces: Sequence[Trace], unit: str, place: str = "the end") -> str:
    """Where lines end, as text for a screen reader.

    Args:
      traces: the lines.
      unit: of what they show.
      place: where they end.
    """
    shown = [
        f"{trace.label} {labels.quantity(unit, float(trace.middle[-1]))}"
        for trace in traces
        if len(trace.middle)
    ]
    return f"At {place}: {', '.join(shown)}."


def lines(
    name: str,
    label: str,
    traces: Sequence[Trace],
    x: Quantity,
    y: Quantity,
    *,
    levels: Sequence[tuple[str, float]] = (),
    start: float | None = 0.0,
    limits: tuple[float | None, float | None] = (None, None),
    log: bool = False,
    tail: int = 1,
    width: float = 1.8,
    size: tuple[float, float] = WIDE,
) -> str:
    """Lines with bands against something continuous, named at their right ends.

    A trace of no extent, such as one that sends no bytes, is drawn as a point with a
    thin line across.

    Args:
      name: identifier, unique on the page.
      label: text for a screen reader.
      traces: what is drawn.
      x: of the horizontal axis.
      y: of the vertical axis.
      levels: names and heights to compare with.
      start: where the horizontal axis begins, None for the first value.
      limits: of the vertical axis, None where it fits the lines.
      log: whether the vertical axis is logarithmic, where values are positive and
        span more than a factor of three.
      tail: how many last values a line is named at the mean of.
      width: of a line in points.
      size: width and height in inches.
    """

    def paint(ax: Axes) -> list[Tip]:
        names = [(height, words, MUTED) for words, height in levels]
        for _, height in levels:
            solid = "solid" if height == 1.0 else _DASHED
            ax.axhline(height, color=INK, lw=1.0, ls=solid, zorder=1)
        tips = []
        for trace in traces:
            look, thin = trace.look, 1.0 if trace.look.colour == INK else width
            height = _last(trace.middle, tail)
            if len(trace.x) and np.ptp(trace.x) == 0:
                ax.axhline(height, color=look.colour, ls=look.dashes, lw=0.8)
                ax.plot(trace.x[-1:], [height], look.marker, color=look.colour)
            else:
                style = {"color": look.colour, "lw": 0}
                if not np.array_equal(trace.low, trace.high, equal_nan=True):
                    ax.fill_between(trace.x, trace.low, trace.high, alpha=0.15, **style)
                for row in trace.single if trace.single is not None else ():
                    ax.plot(trace.x, row, color=look.colour, lw=0.6, alpha=0.55)
                ax.plot(
                    trace.x, trace.middle, color=look.colour, ls=look.dashes, lw=thin
                )
            names.append((height, trace.label, look.text))
            tips += _tips(trace, x, y)
        values = np.concatenate([trace.middle for trace in traces])
        if log and 0.0 < np.nanmin(values) < np.nanmax(values) / 3.0:
            ax.set_yscale("log")
            _plain_logarithm(ax.yaxis, np.nanmin(values), np.nanmax(values))
            ax.set_ylabel(f"{y.label}, log scale")
        else:
            _format(ax.yaxis, y)
        across = np.concatenate([trace.x for trace in traces])
        ax.set_xlim(
            across.min() if start is None else start,
            across.max() if np.ptp(across) > 0 else None,
        )
        _format(ax.xaxis, x, across.max())
        ax.set_ylim(*limits)
        end_labels(ax, names)
        return tips

    return draw(name, label, paint, size)


def trend(
    name: str,
    label: str,
    field: str,
    values: Sequence[Any],
    traces: Sequence[Trace],
    y: Quantity,
    *,
    end: float = np.inf,
    log: bool = False,
    levels: Sequence[tuple[str, float]] = (),
) -> str:
    """Values with intervals against the values of a factor.

    Args:
      name: identifier, unique on the page.
      label: text for a screen reader.
      field: the factor.
      values: of the factor, in order; numbers keep their distances.
      traces: ``x`` holds positions in ``values``.
      y: of the vertical axis.
      end: where observation ended; what is not finite is drawn there, hollow.
      log: whether heights are on a logarithmic axis.
      levels: names and heights to compare with.
    """

    def paint(ax: Axes) -> list[Tip]:
        places, numeric = _places(ax, values)
        names = [(height, words, MUTED) for words, height in levels]
        for _, height in levels:
            ax.axhline(height, color=INK, lw=1.0, ls=_DASHED, zorder=1)
        offsets = (np.arange(len(traces)) - (len(traces) - 1) / 2) * min(
            0.1, 0.6 / len(traces)
        )
        tips = []
        for trace, offset in zip(traces, offsets, strict=True):
            look, across = trace.look, places(trace.x, offset)
            height, low, high = (np.minimum(v, end) for v in trace[3:6])
            ax.vlines(across, low, high, color=look.colour, lw=1.4, alpha=0.7)
            if numeric:
                ax.plot(across, height, color=look.colour, ls=look.dashes, lw=1.3)
            beyond = ~np.isfinite(trace.middle)
            dots = {"color": look.colour, "marker": look.marker, "ls": "none", "ms": 6}
            ax.plot(across[~beyond], height[~beyond], mec=PAPER, mew=0.6, **dots)
            ax.plot(across[beyond], height[beyond], mfc=PAPER, mew=1.4, **dots)
            if len(height):
                names.append((float(height[-1]), trace.label, look.text))
            for index, (place, up) in enumerate(zip(across, height, strict=True)):
                at = labels.setting(field, values[int(trace.x[index])])
                shown = labels.band(y.unit, *(v[index] for v in trace[3:6]))
                tips.append(Tip(place, up, f"{trace.label}, {at}: {shown}"))
        if any(np.isinf(trace.high).any() for trace in traces):
            ax.axhline(end, color=EDGE, lw=1.0, zorder=0)
            names.append((end, "end", MUTED))
        _format(ax.yaxis, y)
        if log:
            ax.set_yscale("log")
            _logarithmic(ax.yaxis, np.concatenate([trace.middle for trace in traces]))
        ax.set_xlabel(labels.field(field))
        end_labels(ax, names)
        return tips

    return draw(name, label, paint, WIDE)


def scatter(
    name: str, label: str, traces: Sequence[Trace], x: Quantity, y: Quantity
) -> str:
    """Points with vertical intervals against a positive quantity on a log axis."""

    def paint(ax: Axes) -> list[Tip]:
        ax.axhline(0.0, color=INK, lw=1.0, zorder=1)
        names, tips = [], []
        for trace in traces:
            look = trace.look
            low, high = trace.low, trace.high
            ax.vlines(trace.x, low, high, color=look.colour, lw=1.4, alpha=0.7)
            dot = {"color": look.colour, "ms": 6, "mec": PAPER, "mew": 0.6}
            ax.plot(trace.x, trace.middle, look.marker, **dot)
            names.append((float(trace.middle[-1]), trace.label, look.text))
            tips += _tips(trace, x, y)
        _format(ax.yaxis, y)
        _format(ax.xaxis, x)
        ax.set_xscale("log")
        _logarithmic(ax.xaxis, np.concatenate([trace.x for trace in traces]))
        end_labels(ax, names)
        return tips

    return draw(name, label, paint, WIDE)


def _tips(trace: Trace, x: Quantity, y: Quantity) -> list[Tip]:
    """What a line says at some of its places."""
    known = np.flatnonzero(np.isfinite(trace.middle))
    count = min(len(known), _MOST_TIPS)
    tips = []
    for index in known[np.linspace(0, len(known) - 1, count).round().astype(int)]:
        across, middle, low, high = (float(v[index]) for v in trace[2:6])
        time = x.unit in ("week", "step")
        at = labels.quantity("" if time else x.unit, across)
        place = f"{x.unit if time else x.label} {at}"
        shown = labels.band(y.unit, middle, low, high)
        tips.append(Tip(across, middle, f"{trace.label}, {place}: {shown}"))
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


def _logarithmic(axis: Axis, values: Array) -> None:
    """Limits of a logarithmic axis, with some margin around ``values``."""
    low, high = values.min() / 1.5, values.max() * 1.5
    axis.set_view_interval(low, high, ignore=True)
    _plain_logarithm(axis, low, high)


def _plain_logarithm(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis, more of them where it is short."""
    from matplotlib.ticker import FixedLocator

    digits = (1, 2, 5) if high / low < 100 else (1,)
    if high / low < 8:
        digits = (1, 1.5, 2, 3, 4, 5, 7)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    limits = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(lambda value, _: labels.tick("", value))
    axis.set_minor_locator(FixedLocator([]))
    axis.set_view_interval(*limits, ignore=True)


def _places(ax: Axes, values: Sequence[Any]) -> tuple[Callable[..., Array], bool]:
    """Sets the horizontal axis for a factor.

    Returns:
      A function from indices into ``values`` to places on the axis, moved aside by a
      share of the distance between neighbours; and whether the values are numbers.
    """
    numeric = {type(value) for value in values} <= {int, float} and len(values) > 1
    at = np.array(values if numeric else range(len(values)), float)
    if numeric and at.min() > 0 and at.max() / at.min() >= 8:
        at = np.log(at)
    shown = [labels.value(value) for value in values]
    ax.set_xticks(at, shown, rotation=0 if sum(map(len, shown)) < 40 else 20)
    gap = np.diff(np.sort(at)).min() if len(at) > 1 else 1.0
    ax.set_xlim(at.min() - 0.45 * gap, at.max() + 0.45 * gap)
    return lambda index, offset: at[np.asarray(index, int)] + offset * gap, numeric
