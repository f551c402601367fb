"""Figures made of rows, and drawings of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.report import labels
from p2p_sac_jax.report.figures import WIDE, Array, Quantity
from p2p_sac_jax.report.page import Figure
from p2p_sac_jax.report.svg import Tip, draw, optional
from p2p_sac_jax.report.theme import BLUE, INK, PAPER, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 2e-4  # a smaller difference is as good as none, and not to be magnified
_EDGES_DRAWN = 4000
_DOT = {"ms": 5.5, "mec": PAPER, "mew": 0.6}


class Mark(NamedTuple):
    """A value with its interval, in one of the rows."""

    row: str
    look: Look
    middle: float
    low: float
    high: float
    focus: bool = True  # whether the scale has to show it well


def rows(
    title: str,
    marks: Sequence[Mark],
    x: Quantity,
    level: tuple[str, float] = ("no difference", 0.0),
) -> Figure:
    """Rows of values with intervals about a level, first row on top.

    What lies so far out that it would squeeze all others stands at the edge, as text.

    Args:
      title: of the figure, unique on the page.
      marks: what is drawn; where rows have several, a legend distinguishes them.
      x: of the horizontal axis.
      level: name and value to compare with.
    """
    names = list(dict.fromkeys(mark.row for mark in marks))
    several = len(names) < len(marks)

    def paint(ax: Axes) -> list[Tip]:
        low, high = _limits(marks, level[1])
        ax.axvline(level[1], color=INK, lw=1.0, zorder=1, label=level[0])
        tips = []
        for mark in marks:
            row, look = len(names) - 1 - names.index(mark.row), mark.look
            shown = labels.tick(x.unit, mark.middle)
            if mark.low < mark.high:
                interval = (labels.tick(x.unit, end) for end in (mark.low, mark.high))
                shown += f" [{', '.join(interval)}]"
            of = f"{mark.row}, {look.label}" if several else mark.row
            tips.append(Tip(mark.middle, row, f"{of}: {shown}"))
            if low <= mark.middle <= high:
                ax.plot([mark.low, mark.high], [row, row], color=look.colour, lw=1.6)
                style = {"color": look.colour, "label": look.label, "ls": "none"}
                ax.plot(mark.middle, row, marker=look.marker, **style, **_DOT)
                continue
            left = mark.middle < low
            text, at = (f"← {shown}", low) if left else (f"{shown} →", high)
            place: Any = {"ha": "left" if left else "right", "va": "center_baseline"}
            ax.text(at, row, text, color=look.text, size=8.5, **place)
        ax.set_yticks(np.arange(len(names))[::-1], names, fontsize=9)
        ax.set_ylim(-0.7, len(names) - 0.3)
        ax.grid(visible=several, axis="y")
        ax.grid(visible=True, axis="x")
        ax.xaxis.set_major_formatter(lambda value, _: labels.tick(x.unit, value))
        ax.set_xlabel(x.label)
        margin = 0.04 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        ax.locator_params(axis="x", nbins=6)
        if several:
            unique = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
            style = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.3}
            above = {"loc": "lower center", "bbox_to_anchor": (0.42, 1.0)}
            handles = list(unique.values()), list(unique)
            ax.legend(*handles, ncols=2, columnspacing=1.2, **above, **style)
        return tips

    label = f"Row chart: {x.label}. {title}, {len(names)} rows."
    svg = draw(label, paint, (WIDE[0], 1.0 + 0.3 * several + 0.21 * len(names)))
    return Figure(svg, title)


def _limits(marks: Sequence[Mark], level: float) -> tuple[float, float]:
    """Horizontal limits that show the level and all but what lies far off the focus."""
    ends = np.array([(mark.low, mark.high) for mark in marks]) - level
    sizes = np.abs(ends).max(axis=1)
    focus = np.array([mark.focus for mark in marks])
    scale = sizes[focus].max() if focus.any() else sizes.max()
    near = ends[sizes <= 3.0 * max(scale, _SMALLEST)]
    low = min(near.min(initial=0.0), -_SMALLEST)
    high = max(near.max(initial=0.0), _SMALLEST)
    margin = 0.8 * (high - low)  # for the text at an edge
    middles = np.array([mark.middle for mark in marks]) - level
    low, high = (
        low - margin * bool((middles < low).any()),
        high + margin * bool((middles > high).any()),
    )
    return level + low, level + high


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
