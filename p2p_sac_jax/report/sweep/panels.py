"""Points that meet in one figure."""

from __future__ import annotations

from typing import NamedTuple

from p2p_sac_jax.report.sweep import words
from p2p_sac_jax.report.sweep.data import Seen, SweepData, panel_field

MOST_LINES = 8  # more could not be told apart


class Panel(NamedTuple):
    """Points that differ in anything but the value that has the panel."""

    title: str
    points: list[Seen]
    left: int  # points that would be too many


def panels(data: SweepData) -> list[Panel]:
    """Points by the value of the panels' factor, that of the headline first.

    An arm that sets the factor itself is in every panel.
    """
    field = panel_field(data.factors)
    if field is None:
        return [_panel(data, "", data.seen)]
    first = data.headline().settings.get(field)
    values = sorted(data.factors[field], key=lambda value: value != first)
    by_value = {
        words.setting(field, value): [
            seen for seen in data.seen if seen.values.get(field, value) == value
        ]
        for value in values
    }
    return [_panel(data, title, points) for title, points in by_value.items() if points]


def _panel(data: SweepData, title: str, points: list[Seen]) -> Panel:
    """What is compared comes first, should there be too many."""
    compared = data.control, data.main
    points = sorted(points, key=lambda seen: seen.arm not in compared)
    return Panel(title, points[:MOST_LINES], len(points[MOST_LINES:]))
