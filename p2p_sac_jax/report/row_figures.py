"""Figures made of rows, and drawings of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.figures import WIDE, Array, Quantity
from p2p_sac_jax.report.page import Figure
from p2p_sac_jax.report.svg import Tip, draw, optional
from p2p_sac_jax.report.theme import BLUE, FAINT, INK, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 2e-4  # a smaller difference is as good as none, and not to be magnified
_EDGES_DRAWN = 4000
_DOT = {"ms": 5.5, "mec": PAPER, "mew": 0.6}


class Mark(NamedTuple):
    """One row of a forest: a difference with its interval."""

    label: str
    look: Look
    middle: float
    low: float
    high: float
    focus: bool = True  # whether the scale has to show it well


def dots(
    title: str,
    rows: Sequence[str],
    columns: Mapping[Look, Array],
    x: Quantity,
    level: tuple[str, float] | None = None,
) -> Figure:
    """A row of dots for each name, one dot for each look, first row on top.

    Args:
      title: of the figure, unique on the page.
      rows: names of the R rows.
      columns: [R] values of each look, NaN where it has none.
      x: of the horizontal axis.
      level: name and value to compare with.
    """
    values = np.array(list(columns.values()))

    def paint(ax: Axes) -> list[Tip]:
        places, tips = np.arange(len(rows))[::-1], []
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        ax.hlines(places, low, high, color=FAINT, lw=1.2)
        for look, of in columns.items():
            style = {"color": look.colour, "label": look.label, **_DOT}
            ax.plot(of, places, look.marker, **style)
            for row, place, value in zip(rows, places, of, strict=True):
                shown = labels.quantity(x.unit, value)
                tips.append(Tip(value, place, f"{row}, {look.label}: {shown}"))
        if level:
            style = {"color": INK, "lw": 1.0, "ls": (0, (2, 2)), "zorder": 0}
            ax.axvline(level[1], label=level[0], **style)
        _rows_axis(ax, rows, x)
        style = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.3}
        above = {"loc": "lower center", "bbox_to_anchor": (0.42, 1.0)}
        ax.legend(ncols=2, columnspacing=1.2, **above, **style)
        return tips

    label = f"Dot plot: {x.label} of {len(rows)} peers. {title}."
    return Figure(draw(label, paint, (WIDE[0], 1.3 + 0.2 * len(rows))), title)


def forest(title: str, marks: Sequence[Mark], x: Quantity) -> Figure:
    """Rows of differences with intervals about zero, first row on top.

    What lies so far out that it would squeeze all others stands at the edge, as text.
    The facts of the figure count intervals above and below 0.

    Args:
      title: of the figure, unique on the page.
      marks: the rows.
      x: of the horizontal axis.
    """
    low, high = _limits(marks)

    def paint(ax: Axes) -> list[Tip]:
        ax.axvline(0.0, color=INK, lw=1.0, zorder=1)
        tips = []
        for index, mark in enumerate(marks):
            row, look = len(marks) - 1 - index, mark.look
            shown = labels.tick(x.unit, mark.middle)
            if mark.low < mark.high:
                interval = (labels.tick(x.unit, end) for end in (mark.low, mark.high))
                shown += f" [{', '.join(interval)}]"
            tips.append(Tip(mark.middle, row, f"{mark.label}: {shown}"))
            if low <= mark.middle <= high:
                ax.plot([mark.low, mark.high], [row, row], color=look.colour, lw=1.6)
                ax.plot(mark.middle, row, look.marker, color=look.colour, **_DOT)
                continue
            left = mark.middle < low
            text = f"← {shown}" if left else f"{shown} →"
            place: Any = {"ha": "left" if left else "right", "va": "center_baseline"}
            ax.text(
                low if left else high, row, text, color=look.text, size=8.5, **place
            )
        _rows_axis(ax, [mark.label for mark in marks], x)
        margin = 0.04 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        ax.locator_params(axis="x", nbins=6)
        return tips

    above, below = sum(m.low > 0 for m in marks), sum(m.high < 0 for m in marks)
    facts = {"points": len(marks), "above": above, "below": below}
    label = f"Forest plot: {title}, {len(marks)} points; the interval lies above 0 in"
    label += f" {above} and below 0 in {below}."
    svg = draw(label, paint, (WIDE[0], 1.0 + 0.21 * len(marks)))
    return Figure(svg, title, facts)


def network(title: str, adjacency: Sequence[Sequence[float]]) -> Figure:
    """Peers on a circle; a line for both directions, an arrow for one."""
    receives = _edges(adjacency)
    peers = len(receives)
    angles = 2 * np.pi * np.arange(peers) / peers
    positions = np.stack([np.sin(angles), np.cos(angles)], axis=1)

    def paint(ax: Axes) -> list[Tip]:
        path = optional("matplotlib.path").Path
        mutual = np.argwhere(np.triu(receives & receives.T))
        mutual = mutual[:: max(1, -(-len(mutual) // _EDGES_DRAWN))]
        if len(mutual):
            codes = [path.MOVETO, path.LINETO] * len(mutual)
            pairs = path(positions[mutual].reshape(-1, 2), codes)
            alpha = float(np.clip(12 / len(mutual) ** 0.6, 0.08, 0.7))
            style = {"fill": False, "ec": BLUE, "lw": 0.9, "alpha": alpha}
            ax.add_patch(optional("matplotlib.patches").PathPatch(pairs, **style))
        arrow = {"arrowstyle": "-|>", "color": BLUE, "lw": 0.8, "alpha": 0.6}
        arrow |= {"shrinkA": 7, "shrinkB": 7}
        for receiver, sender in np.argwhere(receives & ~receives.T)[:_EDGES_DRAWN]:
            ends = tuple(positions[receiver]), tuple(positions[sender])
            ax.annotate("", *ends, arrowprops=arrow)
        size = float(np.clip(90 / peers**0.5, 4, 20))
        ax.plot(*positions.T, "o", ms=size, color=BLUE, mec=PAPER, mew=1.2)
        centred: Any = {"ha": "center", "va": "center_baseline", "size": 8}
        for peer, (x, y) in enumerate(positions if peers <= 40 else ()):
            ax.text(x, y, str(peer), color=PAPER, **centred)
        ax.set_aspect("equal")
        ax.set_xlim(-1.15, 1.15)
        ax.set_ylim(-1.15, 1.15)
        ax.axis("off")
        counts = receives.sum(axis=1)
        return [
            Tip(x, y, f"peer {peer}: receives from {counts[peer]} peers")
            for peer, (x, y) in enumerate(positions)
        ]

    text = describe_network(adjacency)
    svg = draw(f"Network diagram, {title}: {text}", paint, (3.4, 3.4))
    return Figure(svg, title, {"text": text})


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


def _rows_axis(ax: Axes, rows: Sequence[str], x: Quantity) -> None:
    ax.set_yticks(np.arange(len(rows))[::-1], rows, fontsize=9)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.xaxis.set_major_formatter(lambda value, _: labels.tick(x.unit, value))
    ax.set_xlabel(x.label)


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
