"""Colours of a page by day and by night, and how each arm is drawn.

Colours of arms follow Okabe and Ito (2008), which colour-blind readers can tell
apart; every arm also has a dash pattern and a marker of its own.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from p2p_sac_jax.report import labels

# Name of the CSS variable, colour on a light ground, colour on a dark one. Figures
# are painted in the light colours and name the variables once they are on a page.
PALETTE = {
    "ground": ("#f6f7f9", "#0e1116"),
    "paper": ("#ffffff", "#171b21"),
    "ink": ("#1b1f24", "#e7eaee"),
    "muted": ("#5d6670", "#a3acb6"),
    "rule": ("#e3e6ea", "#2b3138"),
    "edge": ("#b4bbc2", "#525b66"),
    "faint": ("#d3d8dd", "#3c444e"),
    "cost": ("#a9773f", "#cb9c68"),
    "blue": ("#0072b2", "#3ea0de"),
    "blue-text": ("#005a8e", "#74bdec"),
    "orange": ("#d55e00", "#ef7d38"),
    "orange-text": ("#a64900", "#ff9f66"),
    "green": ("#009e73", "#21b88a"),
    "green-text": ("#00734f", "#4bd2a6"),
    "purple": ("#cc79a7", "#dc92bb"),
    "purple-text": ("#9a4576", "#e6a9ca"),
    "sky": ("#56b4e9", "#7cc7f0"),
    "sky-text": ("#1f749f", "#93d1f4"),
    "amber": ("#e69f00", "#f2b134"),
    "amber-text": ("#8a5f00", "#f5c362"),
    "indigo": ("#5e4fa2", "#9d90e2"),
    "indigo-text": ("#4a3d86", "#b3a8ec"),
    "brown": ("#8c564b", "#c08a7c"),
    "brown-text": ("#6e4339", "#d2a498"),
    "olive": ("#7d8a1a", "#b3c04a"),
    "olive-text": ("#5a640f", "#c6d26a"),
    "grey": ("#777777", "#a0a0a0"),
    "grey-text": ("#5a5a5a", "#b8b8b8"),
    "badge": ("#fff3d6", "#3a2f12"),
    "badge-edge": ("#ecd08a", "#6b5520"),
    "badge-text": ("#6b4e00", "#f3d48a"),
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
HISTORICAL = Look("historical", INK, MUTED, (0, (2, 2)))
BEST_PRICE = Look("best price", INK, INK)
TRUTH = Look("truth", INK, INK)
COST = Look("unit cost", PALETTE["cost"][0], PALETTE["cost"][0])
_HUES = ("purple", "amber", "sky", "indigo", "brown", "olive", "grey")
_DASHES = ((0, (3, 1, 1, 1)), (0, (7, 1.5)), (0, (2, 1)))
_MARKERS = ("D", "^", "v", "P", "d", "<", ">")


def other_look(label: str, index: int) -> Look:
    """Look of what has none of its own; the first twenty differ."""
    return _look(
        label,
        _HUES[index % len(_HUES)],
        _DASHES[index // len(_HUES) % len(_DASHES)],
        _MARKERS[index % len(_MARKERS)],
    )


def look(arm: str, arms: list[str]) -> Look:
    """Look of one arm; arms of other names get the remaining colours."""
    if arm in LOOKS:
        return LOOKS[arm]
    others = [name for name in arms if name not in LOOKS]
    return other_look(labels.arm(arm), others.index(arm))


def variables() -> str:
    """Style sheet that gives every name its colour."""
    light, dark = (
        ";".join(f"--{name}:{pair[column]}" for name, pair in PALETTE.items())
        for column in (0, 1)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        # Paper is white whatever the screen was.
        f"@media print{{:root{{color-scheme:light;{light}}}}}\n"
    )


def themed(svg: str) -> str:
    """``svg`` with the names of the palette in place of its colours."""

    def name(found: re.Match[str]) -> str:
        known = _NAMES.get(found[0])
        return f"var(--{known})" if known else found[0]

    return re.sub(r"#[0-9a-f]{6}\b", name, svg)
