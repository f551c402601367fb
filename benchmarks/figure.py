"""The benchmark as a picture: updates a second and share of the limit against P."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.bench_results import Row, line_of
from p2p_sac_jax.report.picture import stand_alone
from p2p_sac_jax.report.svg import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = (3.7, 2.8)  # inches
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vX"


def draw_benchmark(rows: Sequence[Row]) -> str:
    """A stand-alone SVG, a row of two panels for each size.

    Left the gradient updates of all peers a second, both axes logarithmic; right
    their share of the best matrix product. Lines are medians, areas ranges over the
    turns; both panels share one line for each layout.

    Args:
      rows: as ``session_rows`` makes them, at least one.

    Raises:
      ConfigError: matplotlib is not installed.
    """
    sizes = list(dict.fromkeys(row["size"] for row in rows))

    def paint(ax: Axes) -> None:
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        figure: Any = ax.figure
        ax.remove()
        panels = figure.subplots(len(sizes), 2, squeeze=False)
        for size, (left, right) in zip(sizes, panels, strict=True):
            mine = [row for row in rows if row["size"] == size]
            _panel(left, mine, "updates_per_s", 1.0)
            _panel(right, mine, "share_of_gemm", 100.0)
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
            left.minorticks_off()
            left.set_ylabel("updates a second, log scale")
            right.set_ylim(bottom=0.0)
            right.set_ylabel("% of best float32 product")
            left.set_title(f"{size}: speed", loc="left", fontsize=10)
            right.set_title(f"{size}: share of the limit", loc="left", fontsize=10)
            left.legend(frameon=False, fontsize=9)

    description = _description(rows)
    size = (2 * _PANEL[0], len(sizes) * _PANEL[1])
    svg = stand_alone(draw(description, paint, size))
    head, body = svg.split(">", 1)
    return f"{head}><title>{html.escape(description)}</title>{body}"


def _panel(ax: Axes, rows: Sequence[Row], name: str, unit: float) -> None:
    for index, line in enumerate(_lines(rows)):
        peers = [row["peers"] for row in line]
        low, middle, high = (
            [unit * row[name][of] for row in line] for of in ("min", "median", "max")
        )
        colour = _COLOURS[index % len(_COLOURS)]
        ax.fill_between(peers, low, high, color=colour, alpha=0.16, lw=0)
        marker = _MARKERS[index % len(_MARKERS)]
        ax.plot(
            peers, middle, color=colour, marker=marker, ms=4.5, label=_label(line[-1])
        )
    ticks = sorted({row["peers"] for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("peers P, log scale")


def _lines(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of each line, by number of peers."""
    lines: dict[Any, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["peers"]):
        lines.setdefault(line_of(row), []).append(row)
    return list(lines.values())


def _label(row: Row) -> str:
    count = row["devices"]
    label = f"{row['layout']}, {count} device{'s' if count > 1 else ''}"
    if row["updates_per_step"] > 1:
        label += f", {row['updates_per_step']} updates a step"
    return label


def _description(rows: Sequence[Row]) -> str:
    """What the picture shows, as alternative text."""
    described = []
    for line in _lines(rows):
        values = ", ".join(
            f"{row['updates_per_s']['median']:.0f}"
            f" ({row['share_of_gemm']['median']:.0%}) at P={row['peers']}"
            for row in line
        )
        described.append(f"{line[0]['size']}, {_label(line[-1])}: {values}")
    text = "; ".join(described)
    return (
        "Line charts: gradient updates of all peers a second, and their share of the"
        f" machine's best float32 matrix product, against peers P. {text}."
    )
