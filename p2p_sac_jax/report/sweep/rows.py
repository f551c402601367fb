"""Figures made of rows: differences with their intervals, and maps of two factors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from p2p_sac_jax.report.figures import WIDE
from p2p_sac_jax.report.style import EDGE, INK, PAPER, Look, draw
from p2p_sac_jax.report.sweep.charts import points_tick
from p2p_sac_jax.report.theme import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
_LEAST = 2e-4  # of a difference: less is as good as none, and not to be magnified
_DEEP = PALETTE["blue"][0]


class Mark(NamedTuple):
    """One row of a forest: a figure with its interval."""

    label: str
    look: Look
    middle: float
    low: float
    high: float
    focus: bool = True  # whether the scale has to show it well


def forest(
    name: str, label: str, marks: Sequence[Mark], x_label: str, share: bool
) -> str:
    """Rows of figures with intervals about zero, first row on top.

    What lies so far out that it would squeeze all others stands at the edge, in words.

    Args:
      name: identifier, unique on the page.
      label: words for a screen reader.
      marks: the rows.
      x_label: quantity and unit.
      share: whether values are differences of shares, written in points.
    """
    low, high = _limits(marks)

    def paint(ax: Axes) -> None:
        ax.axvline(0.0, color=INK, lw=1.0, zorder=1)
        rows = np.arange(len(marks))[::-1]
        for row, mark in zip(rows, marks, strict=True):
            colour = mark.look.colour
            if low <= mark.middle <= high:
                ax.plot([mark.low, mark.high], [row, row], color=colour, lw=1.6)
                dot = {"ms": 5.5, "mec": PAPER, "mew": 0.6}
                ax.plot(mark.middle, row, mark.look.marker, color=colour, **dot)
                continue
            left = mark.middle < low
            ax.text(
                low if left else high,
                row,
                f"← {_told(mark, share)}" if left else f"{_told(mark, share)} →",
                color=mark.look.text,
                fontsize=8.5,
                ha="left" if left else "right",
                va="center_baseline",
            )
        ax.set_yticks(rows, [mark.label for mark in marks], fontsize=9)
        ax.set_ylim(-0.7, len(marks) - 0.3)
        margin = 0.04 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.locator_params(axis="x", nbins=6)
        if share:
            ax.xaxis.set_major_formatter(points_tick)
        ax.set_xlabel(x_label)

    return draw(name, label, paint, (WIDE[0], 1.0 + 0.21 * len(marks)))


def _told(mark: Mark, share: bool) -> str:
    """A row in words, where it cannot be drawn."""
    middle, low, high = (
        points_tick(value) if share else f"{value:.4g}"
        for value in (mark.middle, mark.low, mark.high)
    )
    return f"{middle} [{low}, {high}]" if mark.low < mark.high else middle


def _limits(marks: Sequence[Mark]) -> tuple[float, float]:
    """Horizontal limits that show zero and all but what lies far beyond the focus."""
    ends = np.array([(mark.low, mark.high) for mark in marks])
    sizes = np.abs(ends).max(axis=1)
    focus = np.array([mark.focus for mark in marks])
    scale = sizes[focus].max() if focus.any() else sizes.max()
    near = ends[sizes <= 3.0 * max(scale, _LEAST)]
    low, high = min(near.min(initial=0.0), -_LEAST), max(near.max(initial=0.0), _LEAST)
    room = 0.8 * (high - low)  # for the words at an edge
    middles = np.array([mark.middle for mark in marks])
    low -= room * bool((middles < low).any())
    return low, high + room * bool((middles > high).any())


def heat(
    name: str,
    label: str,
    fields: tuple[str, str],
    rows: Sequence[str],
    columns: Sequence[str],
    middle: Array,
    cells: Sequence[Sequence[str]],
) -> str:
    """A map of two factors: deeper colour for more, the figure in words in each cell.

    Args:
      name: identifier, unique on the page.
      label: words for a screen reader.
      fields: what rows and columns are.
      rows: names of the R rows, first on top.
      columns: names of the C columns.
      middle: [R, C] what is coloured, NaN where there is nothing.
      cells: [R][C] words.
    """
    known = middle[np.isfinite(middle)]
    low, span = known.min(), max(float(np.ptp(known)), 1e-12)

    def paint(ax: Axes) -> None:
        from matplotlib.patches import Rectangle

        for row, column in itertools.product(range(len(rows)), range(len(columns))):
            height = middle[row, column]
            place = column - 0.48, row - 0.47
            share = (height - low) / span if np.isfinite(height) else 0.0
            colour = _DEEP if np.isfinite(height) else EDGE
            strength = 0.12 + 0.63 * share if np.isfinite(height) else 0.12
            ax.add_patch(
                Rectangle(place, 0.96, 0.94, fc=colour, alpha=strength, ec="none")
            )
            ax.text(
                column,
                row,
                cells[row][column],
                ha="center",
                va="center",
                fontsize=8.5,
                color=INK,
            )
        ax.set_xlim(-0.5, len(columns) - 0.5)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xlabel(fields[1])
        ax.set_ylabel(fields[0])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)

    width = max(WIDE[0], 1.1 + 0.62 * len(columns))
    return draw(name, label, paint, (width, 1.0 + 0.5 * len(rows)))
