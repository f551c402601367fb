"""Colours of a page by day and by night, and how each arm is drawn.

Colours of arms follow Okabe and Ito (2008), which colour-blind readers can
distinguish; every arm also has a dash pattern and a marker of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

from p2p_sac_jax.report import labels

SHEET = (
    resources.files("p2p_sac_jax.report")
    .joinpath("templates/style.css")
    .read_text("utf-8")
)
# Name of a CSS variable: colour on a light ground, colour on a dark one.
PALETTE = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\);", SHEET
    )
}
_NAMES = {light: name for name, (light, _) in PALETTE.items()}
INK, MUTED, RULE, EDGE, FAINT, PAPER, BLUE = (
    PALETTE[name][0]
    for name in ("ink", "muted", "rule", "edge", "faint", "paper", "blue")
)


class Look(NamedTuple):
    """How one arm is drawn and called."""

    label: str
    colour: str  # of lines and areas
    text: str  # of text: darker, for contrast on white
    dashes: Any = "solid"  # matplotlib line style
    marker: str = "o"


def _look(label: str, hue: str, dashes: Any, marker: str) -> Look:
    return Look(label, PALETTE[hue][0], PALETTE[f"{hue}-text"][0], dashes, marker)


LOOKS = {
    "plain": _look(labels.arm("plain"), "orange", (0, (1.2, 1.4)), "X"),
    "memory": _look(labels.arm("memory"), "green", (0, (5, 1.8)), "s"),
    "network": _look(labels.arm("network"), "blue", "solid", "o"),
}
BEST_PRICE = Look("best price", INK, INK)
TRUTH = Look("truth", INK, INK)
COST = Look("unit cost", PALETTE["cost"][0], PALETTE["cost"][0])
_HUES = ("purple", "amber", "sky", "indigo", "brown", "olive", "grey")
_DASHES = ((0, (3, 1, 1, 1)), (0, (7, 1.5)), (0, (2, 1)))
_MARKERS = ("D", "^", "v", "P", "d", "<", ">")


def look(arm: str, label: str, taken: Sequence[Look] = ()) -> Look:
    """An arm's own look where it is free, else the next; the first twenty differ."""
    used = [one.colour for one in taken]
    if arm in LOOKS and LOOKS[arm].colour not in used:
        return LOOKS[arm]._replace(label=label)
    reserved = [one.colour for one in LOOKS.values()]
    index = sum(colour not in reserved for colour in used)
    hue = _HUES[index % len(_HUES)]
    dashes = _DASHES[index // len(_HUES) % len(_DASHES)]
    return _look(label, hue, dashes, _MARKERS[index % len(_MARKERS)])


def themed(svg: str) -> str:
    """``svg`` with the names of the palette in place of its colours."""

    def name(found: re.Match[str]) -> str:
        known = _NAMES.get(found[0])
        return f"var(--{known})" if known else found[0]

    return re.sub(r"#[0-9a-f]{6}\b", name, svg)
