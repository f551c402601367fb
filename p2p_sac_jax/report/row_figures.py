"""Figures made of rows: dots and differences by row, maps of two factors, networks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.figures import WIDE, Array
from p2p_sac_jax.report.svg import Tip, draw, optional
from p2p_sac_jax.report.theme import BLUE, EDGE, FAINT, INK, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 2e-4  # a smaller difference is as good as none, and not to be magnified
_EDGES_DRAWN = 4000


class Mark(NamedTuple):
    """One row of a forest: a difference with its interval."""

    label: str
    look: Look
    middle: float
    low: float
    high: float
    focus: bool = True  # whether the scale has to show it well


def dots(
    name: str,
    label: str,
    rows: Sequence[str],
    columns: Mapping[Look, Array],
    x_label: str,
    unit: str,
    level: tuple[str, float] | None = None,
) -> str:
    """A row of dots for each name, one dot for each look, first row on top.

    Args:
      name: identifier, unique on the page.
      label: text for a screen reader.
      rows: names of the R rows.
      columns: [R] values of each look, NaN where it has none.
      x_label: quantity of the horizontal axis.
      unit: of the values.
      level: name and value to compare with.
    """
    values = np.array(list(columns.values()))

    def paint(ax: Axes) -> list[Tip]:
        places, tips = np.arange(len(rows))[::-1], []
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        ax.hlines(places, low, high, color=FAINT, lw=1.2)
        for look, heights in columns.items():
            dot = {"color": look.colour, "ms": 5.5, "mec": PAPER, "mew": 0.6}
            ax.plot(heights, places, look.marker, label=look.label, **dot)
            for row, place, x in zip(rows, places, heights, strict=True):
                shown = labels.quantity(unit, x)
                tips.append(Tip(x, place, f"{row}, {look.label}: {shown}"))
        if level:
            style = {"color": INK, "lw": 1.0, "ls": (0, (2, 2)), "zorder": 0}
            ax.axvline(level[1], label=level[0], **style)
        _rows_axis(ax, rows, unit, x_label)
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.42, 1.0),
            ncols=2,
            frameon=False,
            fontsize=8.5,
            handletextpad=0.3,
            columnspacing=1.2,
        )
        return tips

    return draw(name, label, paint, (WIDE[0], 1.3 + 0.2 * len(rows)))


def forest(
    name: str, label: str, marks: Sequence[Mark], x_label: str, unit: str
) -> str:
    """Rows of differences with intervals about zero, first row on top.

    What lies so far out that it would squeeze all others stands at the edge, as text.

    Args:
      name: identifier, unique on the page.
      label: text for a screen reader.
      marks: the rows.
      x_label: quantity of the horizontal axis.
      unit: of the differences.
    """
    low, high = _limits(marks)

    def paint(ax: Axes) -> list[Tip]:
        ax.axvline(0.0, color=INK, lw=1.0, zorder=1)
        tips = []
        for row, mark in zip(itertools.count(len(marks) - 1, -1), marks, strict=False):
            colour = mark.look.colour
            shown = labels.tick(unit, mark.middle)
            if mark.low < mark.high:
                interval = (labels.tick(unit, end) for end in (mark.low, mark.high))
                shown += f" [{', '.join(interval)}]"
            tips.append(Tip(mark.middle, row, f"{mark.label}: {shown}"))
            if low <= mark.middle <= high:
                ax.plot([mark.low, mark.high], [row, row], color=colour, lw=1.6)
                dot = {"color": colour, "ms": 5.5, "mec": PAPER, "mew": 0.6}
                ax.plot(mark.middle, row, mark.look.marker, **dot)
                continue
            left = mark.middle < low
            ax.text(
                low if left else high,
                row,
                f"← {shown}" if left else f"{shown} →",
                color=mark.look.text,
                fontsize=8.5,
                ha="left" if left else "right",
                va="center_baseline",
            )
        _rows_axis(ax, [mark.label for mark in marks], unit, x_label)
        margin = 0.04 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        ax.locator_params(axis="x", nbins=6)
        return tips

    return draw(name, label, paint, (WIDE[0], 1.0 + 0.21 * len(marks)))


def heat(
    name: str,
    label: str,
    fields: tuple[str, str],
    rows: Sequence[str],
    columns: Sequence[str],
    middle: Array,
    cells: Sequence[Sequence[str]],
) -> str:
    """A map of two factors: deeper colour for more, the values as text.

    Args:
      name: identifier, unique on the page.
      label: text for a screen reader.
      fields: what rows and columns are.
      rows: names of the R rows, first on top.
      columns: names of the C columns.
      middle: [R, C] what is coloured, NaN where there is nothing.
      cells: [R][C] text.
    """
    low, span = (
        np.nanmin(middle),
        max(float(np.nanmax(middle) - np.nanmin(middle)), 1e-12),
    )

    def paint(ax: Axes) -> list[Tip]:
        rectangle, tips = optional("matplotlib.patches").Rectangle, []
        for row, column in itertools.product(range(len(rows)), range(len(columns))):
            known = np.isfinite(middle[row, column])
            strength = (
                0.12 + 0.63 * (middle[row, column] - low) / span if known else 0.12
            )
            style = {"fc": BLUE if known else EDGE, "alpha": strength, "ec": "none"}
            ax.add_patch(rectangle((column - 0.48, row - 0.47), 0.96, 0.94, **style))
            centred = {"ha": "center", "va": "center", "fontsize": 8.5, "color": INK}
            ax.text(column, row, cells[row][column], **centred)
            shown = cells[row][column].replace("\n", ", ")
            tips.append(Tip(column, row, f"{rows[row]}, {columns[column]}: {shown}"))
        ax.set_xlim(-0.5, len(columns) - 0.5)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xlabel(fields[1])
        ax.set_ylabel(fields[0])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        return tips

    width = max(WIDE[0], 1.1 + 0.62 * len(columns))
    return draw(name, label, paint, (width, 1.0 + 0.5 * len(rows)))


def network(adjacency: Sequence[Sequence[float]], name: str, title: str) -> str:
    """Peers on a circle; a line for both directions, an arrow for one."""
    receives = _edges(adjacency)
    angles = 2 * np.pi * np.arange(len(receives)) / len(receives)
    positions = np.stack([np.sin(angles), np.cos(angles)], axis=1)

    def paint(ax: Axes) -> list[Tip]:
        path = optional("matplotlib.path").Path
        mutual = np.argwhere(np.triu(receives & receives.T))
        mutual = mutual[:: max(1, -(-len(mutual) // _EDGES_DRAWN))]
        if len(mutual):
            pairs = path(
                positions[mutual].reshape(-1, 2),
                [path.MOVETO, path.LINETO] * len(mutual),
            )
            alpha = float(np.clip(12 / len(mutual) ** 0.6, 0.08, 0.7))
            style = {"fill": False, "ec": BLUE, "lw": 0.9, "alpha": alpha}
            ax.add_patch(optional("matplotlib.patches").PathPatch(pairs, **style))
        arrow = {"arrowstyle": "-|>", "color": BLUE, "lw": 0.8, "alpha": 0.6}
        arrow |= {"shrinkA": 7, "shrinkB": 7}
        for receiver, sender in np.argwhere(receives & ~receives.T)[:_EDGES_DRAWN]:
            ends = tuple(positions[receiver]), tuple(positions[sender])
            ax.annotate("", *ends, arrowprops=arrow)
        size = float(np.clip(90 / len(positions) ** 0.5, 4, 20))
        ax.plot(*positions.T, "o", ms=size, color=BLUE, mec=PAPER, mew=1.2)
        tips: list[Tip] = []
        centred: Any = {"ha": "center", "va": "center_baseline"}
        for peer, (x, y) in enumerate(positions):
            if len(positions) <= 40:
                ax.text(x, y, str(peer), color=PAPER, fontsize=8, **centred)
            count = int(receives[peer].sum())
            tips.append(Tip(x, y, f"peer {peer}: receives from {count} peers"))
        ax.set_aspect("equal")
        ax.set_xlim(-1.15, 1.15)
        ax.set_ylim(-1.15, 1.15)
        ax.axis("off")
        return tips

    return draw(name, f"{title}: {describe_network(adjacency)}", paint, (3.4, 3.4))


def describe_network(adjacency: Sequence[Sequence[float]]) -> str:
    """One sentence on a network: size, links, density, whether it is connected."""
    from scipy.sparse import csgraph

    links_to = _edges(adjacency).astype(float)
    peers, links = len(links_to), int(links_to.sum())
    if not links:
        return f"{peers} peers and no links."
    density = links / (peers * (peers - 1))
    words = f"{peers} peers, {links} one-way links, density {density:.2f}"
    parts, _ = csgraph.connected_components(links_to, connection="strong")
    if parts > 1:
        return f"{words}; {parts} groups that do not all reach one another."
    hops = int(csgraph.shortest_path(links_to, unweighted=True).max())
    if hops == 1:
        return f"{words}: every peer receives from every other."
    return f"{words}; a message passes between any two in at most {hops} hops."


def _edges(adjacency: Sequence[Sequence[float]]) -> Array:
    """[P, P] whether the peer of a row receives from that of a column."""
    receives = np.array(adjacency, float) > 0
    np.fill_diagonal(receives, val=False)
    return receives


def _rows_axis(ax: Axes, rows: Sequence[str], unit: str, x_label: str) -> None:
    ax.set_yticks(np.arange(len(rows))[::-1], rows, fontsize=9)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.xaxis.set_major_formatter(lambda value, _: labels.tick(unit, value))
    ax.set_xlabel(x_label)


def _limits(marks: Sequence[Mark]) -> tuple[float, float]:
    """Horizontal limits that show zero and all but what lies far beyond the focus."""
    ends = np.array([(mark.low, mark.high) for mark in marks])
    sizes = np.abs(ends).max(axis=1)
    focus = np.array([mark.focus for mark in marks])
    scale = sizes[focus].max() if focus.any() else sizes.max()
    near = ends[sizes <= 3.0 * max(scale, _SMALLEST)]
    low = min(near.min(initial=0.0), -_SMALLEST)
    high = max(near.max(initial=0.0), _SMALLEST)
    margin = 0.8 * (high - low)  # for the text at an edge
    middles = np.array([mark.middle for mark in marks])
    low -= margin * bool((middles < low).any())
    return low, high + margin * bool((middles > high).any())
