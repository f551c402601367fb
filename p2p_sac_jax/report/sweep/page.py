"""The page of a sweep: its sections, in order."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from p2p_sac_jax.report.document import document, header
from p2p_sac_jax.report.elements import section
from p2p_sac_jax.report.sweep import (
    background,
    challenges,
    costs,
    effects,
    factors,
    headline,
    inside,
    learning,
    maps,
    tables,
)
from p2p_sac_jax.report.sweep.data import Omitted, SweepData, load

Figure = Callable[[SweepData], "str | Omitted"]

# Identifier, title and figures of each section that sets its figures side by side.
_FIGURES: tuple[tuple[str, str, tuple[Figure, ...]], ...] = (
    ("effects", "Against the control arm", (effects.effects,)),
    ("factors", "What was swept", (factors.arrival, factors.swept, maps.maps)),
    ("profiles", "How often it goes well", (effects.profiles,)),
    ("attacks", "Liars", (challenges.attacks,)),
    ("privacy", "Privacy against utility", (challenges.privacy,)),
    ("costs", "What it costs", (costs.throughput, costs.by_bytes)),
    ("inside", "What peers make of each other", (inside.weights, inside.trust)),
    ("network", "Who hears whom", (inside.network,)),
)


def render(folder: pathlib.Path) -> str:
    """The whole page of the sweep in ``folder``.

    Raises:
      ConfigError: there is no finished cell, a file is broken, or the extra `report`
        is not installed.
    """
    data = load(folder)
    omitted: list[Omitted] = []
    sections = {
        "results": section("results", "Results", headline.headline(data)),
        "learning": section("learning", "Learning curves", learning.learning(data)),
    }
    titles = {"results": "Results", "learning": "Learning"}
    for name, title, figures in _FIGURES:
        made = [figure(data) for figure in figures]
        omitted += [one for one in made if isinstance(one, Omitted)]
        html = "".join(one for one in made if isinstance(one, str))
        if html:
            sections[name] = section(name, title, f'<div class="pair">{html}</div>')
            titles[name] = title
    for name, title, html in (
        ("tables", "All points in numbers", tables.tables(data)),
        ("missing", "Failed and missing cells", tables.missing(data)),
        ("limits", "What this cannot say", background.limits(data, omitted)),
        ("provenance", "Provenance", background.provenance(data)),
    ):
        titles[name] = title
        sections[name] = section(name, title, html)
    return document(
        _title(data), _header(data, titles), "\n".join(sections.values()), ""
    )


def _title(data: SweepData) -> str:
    return f"Ablation: {str(data.sweep.meta['name']).replace('_', ' ')}"


def _header(data: SweepData, titles: dict[str, str]) -> str:
    config = data.sweep.meta["config"]
    points = len(data.sweep.points)
    gone = sum(cell is None for point in data.sweep.points for cell in point.runs)
    facts = [
        f"{config['population']['name']} population" if data.unit == "week" else "",
        f"{config['steps']} {data.unit}s",
        f"{len(data.sweep.arms)} arms",
        f"{points} points",
    ]
    badges = ["1 seed: indicative" if data.seeds == 1 else f"{data.seeds} seeds"]
    if gone:
        badges.append(f"{gone} results missing")
    return header(_title(data), facts, badges, titles)
