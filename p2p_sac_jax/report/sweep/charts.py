"""Figures with two axes that a sweep is drawn with, each returned as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report.elements import cell
from p2p_sac_jax.report.figures import (
    WIDE,
    percent_tick,
    plain_logarithm,
    short_tick,
)
from p2p_sac_jax.report.style import (
    EDGE,
    INK,
    MUTED,
    PAPER,
    Look,
    draw,
    end_labels,
)
from p2p_sac_jax.report.sweep import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray


class Trace(NamedTuple):
    """One line with its band; NaN where there is nothing, inf beyond the end."""

    label: str
    look: Look
    x: Array  # [N]
    middle: Array  # [N]
    low: Array  # [N]
    high: Array  # [N]


def ends(traces: Sequence[Trace], measure: str = "", place: str = "the end") -> str:
    """Where lines end, in words, for who cannot see them.

    Args:
      traces: the lines.
      measure: name of the figure they show, "" for a plain number.
      place: where they end.
    """
    shown = [
        f"{trace.label} " + (words.number(measure, value) if measure else cell(value))
        for trace in traces
        for value in [float(trace.middle[-1])]
    ]
    return f"At {place}: {', '.join(shown)}."


def lines(
    name: str,
    label: str,
    traces: Sequence[Trace],
    axes: tuple[str, str],
    references: Sequence[tuple[str, float]] = (),
    share: bool = False,
    shares_across: bool = False,
    from_zero: bool = False,
    size: tuple[float, float] = WIDE,
) -> str:
    """Lines with bands against something continuous, named at their right ends.

    A trace of no extent, such as one that sends no bytes, is drawn as a point with a
    thin line across.

    Args:
      name: identifier, unique on the page.
      label: words for a screen reader.
      traces: what is drawn.
      axes: quantity and unit of both axes.
      references: words and height of levels to compare with.
      share: whether heights are shares, written as per cent.
      shares_across: whether the horizontal axis holds shares, else costs from 0 on.
      from_zero: whether the vertical axis begins at 0.
      size: width and height in inches.
    """

    def paint(ax: Axes) -> None:
        labels = [(height, said, MUTED) for said, height in references]
        for _, height in references:
            style = "solid" if height == 1.0 else (0, (2, 2))
            ax.axhline(height, color=INK, lw=1.0, ls=style, zorder=1)
        for trace in traces:
            look = trace.look
            if np.ptp(trace.x) > 0:
                band = trace.low, trace.high
                ax.fill_between(trace.x, *band, color=look.colour, alpha=0.16, lw=0)
                ax.plot(trace.x, trace.middle, color=look.colour, ls=look.dashes)
            else:
                height = trace.middle[-1]
                ax.axhline(height, color=look.colour, ls=look.dashes, lw=0.8)
                ax.plot(trace.x[-1:], [height], look.marker, color=look.colour)
            labels.append((float(trace.middle[-1]), trace.label, look.text))
        if shares_across:
            ax.xaxis.set_major_formatter(percent_tick)
        else:
            ax.set_xlim(left=0.0)
            ax.xaxis.set_major_formatter(short_tick)
        if share:
            ax.yaxis.set_major_formatter(percent_tick)
        if from_zero:
            ax.set_ylim(0.0, 1.05 * max(np.nanmax(trace.high) for trace in traces))
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        end_labels(ax, labels)

    return draw(name, label, paint, size)


def trend(
    name: str,
    label: str,
    values: Sequence[Any],
    traces: Sequence[Trace],
    axes: tuple[str, str],
    share: bool = False,
    end: float = np.inf,
    log: bool = False,
    references: Sequence[tuple[str, float]] = (),
) -> str:
    """Figures with intervals against the values of a factor.

    Args:
      name: identifier, unique on the page.
      label: words for a screen reader.
      values: of the factor, in order; numbers keep their distances.
      traces: ``x`` holds positions in ``values``.
      axes: quantity and unit of both axes.
      share: whether heights are shares, written as per cent.
      end: where observation ended; what is not finite is drawn there, hollow.
      log: whether heights are on a logarithmic axis.
      references: words and height of levels to compare with.
    """

    def paint(ax: Axes) -> None:
        places, numeric = _places(ax, values)
        labels = [(height, said, MUTED) for said, height in references]
        for _, height in references:
            ax.axhline(height, color=INK, lw=1.0, ls=(0, (2, 2)), zorder=1)
        offsets = _dodged(len(traces))
        for trace, offset in zip(traces, offsets, strict=True):
            look = trace.look
            x = places(trace.x, offset)
            y, low, high = (np.minimum(v, end) for v in trace[3:])
            ax.vlines(x, low, high, color=look.colour, lw=1.4, alpha=0.7)
            if numeric:
                ax.plot(x, y, color=look.colour, ls=look.dashes, lw=1.3)
            beyond = ~np.isfinite(trace.middle)
            dots = {"color": look.colour, "marker": look.marker, "ls": "none", "ms": 6}
            ax.plot(x[~beyond], y[~beyond], mec=PAPER, mew=0.6, **dots)
            ax.plot(x[beyond], y[beyond], mfc=PAPER, mew=1.4, **dots)
            if len(y):
                labels.append((float(y[-1]), trace.label, look.text))
        if any(np.isinf(trace.high).any() for trace in traces):
            ax.axhline(end, color=EDGE, lw=1.0, zorder=0)
            labels.append((end, "end", MUTED))
        if log:
            ax.set_yscale("log")
            heights = np.concatenate([trace.middle for trace in traces])
            ax.set_ylim(heights.min() / 1.5, heights.max() * 1.5)
            plain_logarithm(ax.yaxis, *ax.get_ylim())
        if share:
            ax.yaxis.set_major_formatter(percent_tick)
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        end_labels(ax, labels)

    return draw(name, label, paint, WIDE)


def scatter(
    name: str, label: str, traces: Sequence[Trace], axes: tuple[str, str], share: bool
) -> str:
    """Points with vertical intervals against a positive quantity on a log axis."""

    def paint(ax: Axes) -> None:
        ax.axhline(0.0, color=INK, lw=1.0, zorder=1)
        labels = []
        for trace in traces:
            look = trace.look
            ax.vlines(
                trace.x, trace.low, trace.high, color=look.colour, lw=1.4, alpha=0.7
            )
            ax.plot(
                trace.x,
                trace.middle,
                look.marker,
                color=look.colour,
                ms=6,
                mec=PAPER,
                mew=0.6,
            )
            labels.append((float(trace.middle[-1]), trace.label, look.text))
        ax.set_xscale("log")
        across = np.concatenate([trace.x for trace in traces])
        ax.set_xlim(across.min() / 1.5, across.max() * 1.5)
        plain_logarithm(ax.xaxis, *ax.get_xlim())
        if share:
            ax.yaxis.set_major_formatter(points_tick)
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        end_labels(ax, labels)

    return draw(name, label, paint, WIDE)


def points_tick(value: float, _: float = 0.0) -> str:
    """A difference of shares in percentage points, for the ticks of an axis."""
    points = round(100 * value, 6)
    return f"{points:+.3g}".replace("-", "−") if points else "0"


def _places(ax: Axes, values: Sequence[Any]) -> tuple[Callable[..., Array], bool]:
    """Sets the horizontal axis for a factor.

    Returns:
      A function from indices into ``values`` to places on the axis, moved aside by a
      share of the room between neighbours; and whether the values are numbers.
    """
    kinds = {type(value) for value in values}
    numeric = kinds <= {int, float} and len(values) > 1
    at = np.array(values if numeric else range(len(values)), float)
    log = numeric and at.min() > 0 and at.max() / at.min() >= 8
    if log:
        at = np.log(at)
    shown = [words.value(value) for value in values]
    ax.set_xticks(at, shown, rotation=0 if sum(map(len, shown)) < 40 else 20)
    room = np.diff(np.sort(at)).min() if len(at) > 1 else 1.0
    ax.set_xlim(at.min() - 0.45 * room, at.max() + 0.45 * room)
    return lambda index, offset: at[np.asarray(index, int)] + offset * room, numeric


def _dodged(count: int) -> Array:
    """Offsets that keep the intervals of several traces apart."""
    return (np.arange(count) - (count - 1) / 2) * min(0.1, 0.6 / max(count, 1))
