"""Figures made of rows, and drawings of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.figures import WIDE, Array, Quantity
from p2p_sac_jax.report.frame import frame, outside
from p2p_sac_jax.report.page import Figure
from p2p_sac_jax.report.svg import Tip, draw, optional
from p2p_sac_jax.report.theme import BLUE, INK, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 2e-4  # a smaller difference is as good as none, not to be magnified
_EDGES_DRAWN = 4000
_DOT = {"ms": 5.5, "mec": PAPER, "mew": 0.6}


class Mark(NamedTuple):
    """A value with its interval, in one of the rows."""

    row: str
    look: Look
    middle: float
    low: float
    high: float
    seeds: Sequence[float] = ()  # shown where they are too few for an interval
    compared: bool = True  # whether the frame has to show it


def rows(
    title: str,
    marks: Sequence[Mark],
    x: Quantity,
    level: tuple[str, float] = ("no difference", 0.0),
) -> Figure:
    """Rows of values with intervals about a level, first row on top.

    What would squeeze all that is compared stands at the edge.

    Args:
      title: of the figure, unique on the page.
      marks: what is drawn; where rows have several, a legend distinguishes them.
      x: of the horizontal axis.
      level: name and value to compare with.
    """
    names = list(dict.fromkeys(mark.row for mark in marks))
    several = len(names) < len(marks)
    focus = [mark for mark in marks if mark.compared] or marks
    least = _SMALLEST * (x.unit == "points")
    inside = [v for m in focus for v in (m.middle, m.low, m.high, *m.seeds)]
    low, high = limits = frame(
        [np.array([level[1] - least, level[1] + least, *inside])],
        [np.array(mark[2:5]) for mark in marks],
    )
    by_name: dict[str, list[float]] = {}
    for mark in marks:
        by_name.setdefault(mark.look.label, []).append(mark.middle)

    def row_name(name: str) -> str:
        """With the value, where it is the only one and outside."""
        (value, *others) = (mark.middle for mark in marks if mark.row == name)
        beyond = not others and not low <= value <= high
        return f"{name} ({labels.tick(x.unit, value)})" if beyond else name

    def paint(ax: Axes) -> list[Tip]:
        ax.axvline(level[1], color=INK, lw=1.0, zorder=1, label=level[0])
        style: dict[str, Any]
        for look in {mark.look.label: mark.look for mark in marks}.values():
            style = {"color": look.colour, "label": look.label, "ls": "none"}
            ax.plot([], [], look.marker, **style, **_DOT)
        tips = []
        for mark in marks:
            row, look = len(names) - 1 - names.index(mark.row), mark.look
            middle = float(np.clip(mark.middle, low, high))
            shown = labels.band(x.unit, mark.middle, mark.low, mark.high)
            of = f"{mark.row}, {look.label}" if several else mark.row
            tips.append(Tip(middle, row, f"{of}: {shown}"))
            style = {"color": look.colour, "ls": "none"}
            if middle == mark.middle:
                ax.plot([mark.low, mark.high], [row, row], color=look.colour, lw=1.6)
                ax.plot(mark.seeds, [row] * len(mark.seeds), "|", ms=8, **style)
                ax.plot(middle, row, look.marker, **style, **_DOT)
            else:
                arrow = "<" if mark.middle < low else ">"
                ax.plot(middle, row, arrow, ms=5, clip_on=False, **style)
        at = np.arange(len(names))[::-1]
        ax.set_yticks(at, list(map(row_name, names)), fontsize=9)
        ax.set_ylim(-0.7, len(names) - 0.3)
        ax.grid(visible=several, axis="y")
        ax.grid(visible=True, axis="x")
        ax.xaxis.set_major_formatter(lambda value, _: labels.tick(x.unit, value))
        ax.set_xlabel(x.label)
        ax.set_xlim(*limits)
        ax.locator_params(axis="x", nbins=6)
        if several:
            style = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.3}
            above = {"loc": "lower center", "bbox_to_anchor": (0.42, 1.0)}
            ax.legend(ncols=2, columnspacing=1.2, **above, **style)
        return tips

    named = [(name, np.array(values)) for name, values in by_name.items() if several]
    label = f"Row chart: {x.label}. {title}, {len(names)} rows."
    svg = draw(label, paint, (WIDE[0], 1.0 + 0.3 * several + 0.21 * len(names)))
    return Figure(svg, title, outside=outside(named, limits, x.unit))


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
        ax.set(aspect="equal", xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
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
