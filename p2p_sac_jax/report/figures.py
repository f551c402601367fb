"""The figures of the report, each returned as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.report import data as d
from p2p_sac_jax.report.style import (
    COST,
    FAINT,
    INK,
    MUTED,
    PAPER,
    draw,
    end_labels,
    look,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_EDGES_DRAWN = 4000

# Inches; text keeps its size where a page sets three figures in a row.
SMALL = (3.7, 2.5)
WIDE = (4.7, 2.9)


def curves(
    data: d.RunData,
    name: str,
    label: str,
    y_label: str,
    by_arm: dict[str, d.Curves],
    bands: dict[str, d.Band] | None = None,
    references: Sequence[tuple[str, d.Curves | float]] = (),
    log: bool = False,
    share: bool = False,
    size: tuple[float, float] = WIDE,
) -> str:
    """One line for each arm against time, named at its right end.

    Args:
      data: the run.
      name: identifier, unique on the page.
      label: words for a screen reader.
      y_label: quantity and unit of the vertical axis.
      by_arm: curves of the seeds; the mean is drawn, and thin lines for several.
      bands: areas shaded behind the lines.
      references: words and height of comparisons: a level, or curves whose mean
        is drawn dashed.
      log: whether the vertical axis is logarithmic, where values are positive and
        span more than a factor of three.
      share: whether values are shares, written as per cent.
      size: width and height in inches.
    """

    def paint(ax: Axes) -> None:
        labels = [
            (_reference(ax, height), words, MUTED) for words, height in references
        ]
        low, high = np.inf, 0.0
        for arm, lines in by_arm.items():
            style = look(arm, data.arms)
            middle = d.mean(lines.values)
            if lines.steps.size:
                low, high = min(low, middle.min()), max(high, middle.max())
            if bands and arm in bands:
                ax.fill_between(*bands[arm], color=style.colour, alpha=0.14, lw=0)
            if len(lines.values) > 1:
                for row in lines.values:
                    ax.plot(lines.steps, row, color=style.colour, lw=0.6, alpha=0.55)
            ax.plot(lines.steps, middle, color=style.colour, ls=style.dashes)
            if lines.steps.size:
                labels.append((middle[-1], style.label, style.text))
        logarithmic = log and 0.0 < low < high / 3.0
        if logarithmic:
            ax.set_yscale("log")
            plain_logarithm(ax.yaxis, low, high)
        elif share:
            ax.yaxis.set_major_formatter(percent_tick)
        _time_axis(ax, data)
        ax.set_ylabel(f"{y_label}, log scale" if logarithmic else y_label)
        end_labels(ax, labels)

    return draw(name, label, paint, size)


def peers_at_end(data: d.RunData, name: str, label: str, y_label: str) -> str:
    """Final score of every peer and arm, the hardest peers of the main arm on top."""
    final = {arm: d.final_by_peer(data, arm) for arm in data.arms}
    main = final[data.main_arm]
    shown = sorted(main, key=lambda peer: (main[peer], peer))[:20]
    baseline = [d.last(data, data.main_arm, "baseline_fraction")]

    def paint(ax: Axes) -> None:
        rows = np.arange(len(shown))[::-1]
        places = list(zip(rows, shown, strict=True))
        for row, peer in places:
            values = [scores[peer] for scores in final.values() if peer in scores]
            ax.plot([min(values), max(values)], [row, row], color=FAINT, lw=1.2)
        for arm, scores in final.items():
            style = look(arm, data.arms)
            points = [(scores[peer], row) for row, peer in places if peer in scores]
            ax.plot(
                *zip(*points, strict=True),
                style.marker,
                color=style.colour,
                ms=5.5,
                mec=PAPER,
                mew=0.6,
                label=style.label,
            )
        if data.has_oracle and baseline[0] is not None:
            ax.axvline(
                baseline[0],
                color=INK,
                lw=1.0,
                ls=(0, (2, 2)),
                zorder=0,
                label="historical price (mean)",
            )
        ax.set_yticks(rows, [data.peer_name(peer) for peer in shown], fontsize=8.5)
        ax.set_ylim(-0.7, len(shown) - 0.3)
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.set_xlabel(y_label)
        if data.has_oracle:
            ax.xaxis.set_major_formatter(percent_tick)
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.42, 1.0),
            ncols=2,
            frameon=False,
            fontsize=8.5,
            handletextpad=0.3,
            columnspacing=1.2,
        )

    return draw(name, label, paint, (4.7, 1.3 + 0.2 * len(shown)))


def price_paths(
    data: d.RunData,
    name: str,
    label: str,
    path: d.PricePath,
    arm: str,
    limits: tuple[float, float],
) -> str:
    """Price charged, best price and cost of one peer, week by week."""

    def paint(ax: Axes) -> None:
        style = look(arm, data.arms)
        ax.plot(path.weeks, path.cost, color=COST, lw=1.0)
        ax.plot(path.weeks, path.price, color=style.colour, lw=1.1)
        ax.plot(path.weeks, path.oracle, color=INK, lw=1.3)
        _time_axis(ax, data)
        ax.set_ylim(*limits)
        ax.set_ylabel("price (usual price = 1)")
        tail = slice(-8, None)
        end_labels(
            ax,
            [
                (_tail_mean(path.price[tail]), "charged", style.text),
                (_tail_mean(path.oracle[tail]), "best price", INK),
                (_tail_mean(path.cost[tail]), "unit cost", COST),
            ],
        )

    return draw(name, label, paint, (4.7, 2.4))


def price_limits(paths: Sequence[d.PricePath]) -> tuple[float, float]:
    """Common vertical limits, so that arms can be compared side by side."""
    values = np.concatenate([np.concatenate(path[1:]) for path in paths])
    values = values[np.isfinite(values)]
    margin = 0.06 * (values.max() - values.min() + 1e-3)
    return float(values.min() - margin), float(values.max() + margin)


def demand(data: d.RunData, name: str, label: str, beliefs: Sequence[d.Row]) -> str:
    """Demand one peer believes in, by arm, against the truth."""

    def paint(ax: Axes) -> None:
        for belief in beliefs:
            style = look(belief["run"], data.arms)
            price, believed, low, high = (
                np.array(belief[key], float)
                for key in ("price", "believed", "low", "high")
            )
            ax.fill_between(price, low, high, color=style.colour, alpha=0.16, lw=0)
            ax.plot(
                price, believed, color=style.colour, ls=style.dashes, label=style.label
            )
        truth = np.array(beliefs[0]["true"], float)
        ax.plot(price, truth, color=INK, lw=1.1, label="truth")
        ax.set_xlim(price[0], price[-1])
        ax.set_ylim(0.0, min(ax.get_ylim()[1], 2.5 * float(truth.max())))
        ax.set_xlabel("price (usual price = 1)")
        ax.set_ylabel("demand (usual units = 1)")
        ax.legend(loc="upper right", frameon=False)

    return draw(name, label, paint, SMALL)


def network(adjacency: Sequence[Sequence[float]], name: str, label: str) -> str:
    """Who hears whom: peers on a circle, an arrow where only one of two listens."""
    hears = np.array(adjacency, float) > 0
    np.fill_diagonal(hears, val=False)
    positions = circle(hears)

    def paint(ax: Axes) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        mutual = np.argwhere(np.triu(hears & hears.T))
        mutual = mutual[:: max(1, -(-len(mutual) // _EDGES_DRAWN))]
        if len(mutual):
            ends = positions[mutual].reshape(-1, 2)
            codes = [Path.MOVETO, Path.LINETO] * len(mutual)
            alpha = float(np.clip(12 / len(mutual) ** 0.6, 0.08, 0.7))
            lines = Path(ends, codes)
            ax.add_patch(
                PathPatch(lines, fill=False, ec="#0072b2", lw=0.9, alpha=alpha)
            )
        one_way = np.argwhere(hears & ~hears.T)[:_EDGES_DRAWN]
        for receiver, sender in one_way:
            ax.annotate(
                "",
                tuple(positions[receiver]),
                tuple(positions[sender]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "#0072b2",
                    "lw": 0.8,
                    "alpha": 0.6,
                    "shrinkA": 7,
                    "shrinkB": 7,
                },
            )
        size = float(np.clip(90 / len(positions) ** 0.5, 4, 20))
        ax.plot(*positions.T, "o", ms=size, color="#0072b2", mec=PAPER, mew=1.2)
        if len(positions) <= 40:
            for peer, (x, y) in enumerate(positions):
                ax.text(
                    x,
                    y,
                    str(peer),
                    color=PAPER,
                    fontsize=8,
                    ha="center",
                    va="center_baseline",
                )
        ax.set_aspect("equal")
        ax.set_xlim(-1.15, 1.15)
        ax.set_ylim(-1.15, 1.15)
        ax.axis("off")

    return draw(name, label, paint, (3.4, 3.4))


def circle(hears: np.ndarray) -> np.ndarray:
    """Positions of the peers on the unit circle, first peer on top. ``[P, 2]``."""
    layout: dict[int, Any] = _networkx().circular_layout(range(len(hears)))
    points = np.array([layout[peer] for peer in range(len(hears))])
    return points[:, ::-1]


def describe_network(adjacency: Sequence[Sequence[float]]) -> str:
    """One sentence on a network: size, links, density, whether news reaches all."""
    nx = _networkx()
    hears = np.array(adjacency, float) > 0
    np.fill_diagonal(hears, val=False)
    graph = nx.from_numpy_array(hears.T.astype(int), create_using=nx.DiGraph)
    links = graph.number_of_edges()
    if not links:
        return f"{len(hears)} peers and no links: nobody hears anybody."
    words = (
        f"{len(hears)} peers, {links} one-way links, density {nx.density(graph):.2f}"
    )
    if nx.is_strongly_connected(graph):
        hops = nx.diameter(graph)
        if hops == 1:
            return f"{words}: everybody hears everybody."
        return f"{words}; news travels between any two in at most {hops} hops."
    parts = nx.number_strongly_connected_components(graph)
    return f"{words}; {parts} groups that do not all hear one another."


def _networkx() -> Any:
    try:
        import networkx
    except ImportError as error:
        raise ConfigError(
            "drawing the report needs matplotlib and networkx:"
            " install the extra `report` (pip install 'p2p_sac_jax[report]')"
        ) from error
    return networkx


def _time_axis(ax: Axes, data: d.RunData) -> None:
    ax.set_xlim(0, data.last_step)
    ax.set_xlabel(f"{data.unit} of training")
    if data.has_oracle and data.last_step > 26:
        years = data.last_step / 52
        ax.set_xticks(np.arange(0, data.last_step + 1, 26 * max(1, round(years / 2.5))))


def _reference(ax: Axes, height: d.Curves | float) -> float:
    """Presampled one comparison; returns its height at the right edge."""
    if not isinstance(height, d.Curves):
        ax.axhline(height, color=INK, lw=1.0, zorder=1)
        return height
    level = d.mean(height.values)
    ax.plot(height.steps, level, color=INK, lw=1.0, ls=(0, (2, 2)), zorder=1)
    return float(level[-1])


def percent_tick(value: float, _: float) -> str:
    """A share as per cent, for the ticks of an axis."""
    return f"{100 * value:.3g}\u00a0%".replace("-", "−")


def plain_logarithm(axis: Axis, low: float, high: float) -> None:
    """Logarithmic axis with plain numbers, more of them where it is short."""
    from matplotlib.ticker import FixedLocator

    digits = (1, 2, 5) if high / low < 100 else (1,)
    if high / low < 8:
        digits = (1, 1.5, 2, 3, 4, 5, 7)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    limits = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(short_tick)
    axis.set_minor_locator(FixedLocator([]))
    axis.set_view_interval(*limits, ignore=True)


def short_tick(value: float, _: float) -> str:
    """A number, large ones by their thousands, for the ticks of an axis."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _tail_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
