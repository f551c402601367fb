"""Matplotlib figures as small, self-contained SVG with tooltips."""

from __future__ import annotations

import html
import importlib
import io
import re
import zlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.report.theme import COST, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_STYLE = resources.files("p2p_sac_jax.report").joinpath("templates/figures.mplstyle")


class Tip(NamedTuple):
    """What a pointer over a place of a figure shows."""

    x: float  # in data units
    y: float
    text: str


def optional(module: str) -> Any:
    """A module of the extra `report`, imported when a report is made.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"a report needs {module.partition('.')[0]}: install the extra `report`"
            " (pip install 'p2p-sac-jax[report]')"
        ) from error


def draw(
    label: str,
    paint: Callable[[Axes], Sequence[Tip] | None],
    size: tuple[float, float],
) -> str:
    """Paints one figure and returns it as inline SVG.

    Args:
      label: text for screen readers; unique on the page.
      paint: draws on the axes given to it, and returns its tooltips.
      size: width and height in inches.

    Raises:
      ConfigError: matplotlib is not installed.
    """
    matplotlib, style = optional("matplotlib"), optional("matplotlib.style")
    layouts = optional("matplotlib.layout_engine")
    name = f"f{zlib.crc32(label.encode()):08x}"
    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the reader's own style files change nothing
        style.use(str(_STYLE))
        matplotlib.rcParams["svg.hashsalt"] = name
        layout = layouts.ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        figure = optional("matplotlib.figure").Figure(size, dpi=72, layout=layout)
        ax = figure.subplots()
        tips = paint(ax) or ()
        empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
        spots = _spots(ax, tips) if tips else ""
    return _inline(buffer.getvalue(), name, label).replace("</svg>", f"{spots}</svg>")


def _spots(ax: Axes, tips: Sequence[Tip]) -> str:
    """Invisible circles that carry the tooltips, in the coordinates of the SVG."""
    height = ax.figure.bbox.height
    inside = ax.bbox.padded(4)
    circles = []
    for tip in tips:
        x, y = ax.transData.transform((tip.x, tip.y))
        if np.isfinite([x, y]).all() and inside.contains(x, y):
            title = html.escape(tip.text, quote=False)
            place = f'cx="{x:.1f}" cy="{height - y:.1f}" r="6"'
            circles.append(f"<circle {place}><title>{title}</title></circle>")
    group = '<g class="tips" fill="none" pointer-events="all">'
    return f"{group}{''.join(circles)}</g>" if circles else ""


def end_labels(ax: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names lines at the right edge, moved apart where they would collide.

    Args:
      ax: axes whose limits are final.
      labels: height in data units, words and colour of each.
    """
    low, high = ax.get_ylim()
    scale = np.log10 if ax.get_yscale() == "log" else np.asarray
    span = scale(high) - scale(low)
    wanted = [
        (float((scale(y) - scale(low)) / span), text, colour)
        for y, text, colour in labels
        if np.isfinite(y)
    ]
    wanted.sort()
    inches = ax.figure.bbox.height / ax.figure.dpi
    heights = _spread([height for height, _, _ in wanted], gap=0.235 / inches)
    for height, (_, text, colour) in zip(heights, wanted, strict=True):
        ax.annotate(
            text,
            (1.0, height),
            xytext=(5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize=9.5,
            fontweight="bold" if colour not in (INK, MUTED, COST.colour) else "normal",
            va="center_baseline",
            annotation_clip=False,
        )


def _spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights within [0, 1], at least ``gap`` apart, moved little."""
    placed, below = [], 0.02 - gap  # clear of the tick labels
    for height in heights:
        below = max(height, below + gap)
        placed.append(below)
    above = 1.0 + gap
    for index in reversed(range(len(placed))):
        # Half of an overlap is given way to from either side.
        middle = (heights[index] + placed[index]) / 2
        above = placed[index] = min(middle, above - gap)
    below = 0.02 - gap
    for index, height in enumerate(placed):
        below = placed[index] = max(height, below + gap)
    return placed


def _round(found: re.Match[str]) -> str:
    """Two decimals are a fiftieth of a pixel; words keep all of theirs."""
    return re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", found[0])


def _inline(text: str, name: str, label: str) -> str:
    """Strips what an HTML page does not need and makes every identifier unique."""
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r" ?font-family: [^;\"]*;?", "", body)
    body = body.replace("xlink:href", "href").replace(' transform=""', "")
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', _round, body)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "",
        body,
    )
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    box = view_box[1] if view_box else "0 0 1 1"
    return (
        f'<svg viewBox="{box}" role="img" aria-label="{html.escape(label)}">'
        f"{body.strip()}"
    )
