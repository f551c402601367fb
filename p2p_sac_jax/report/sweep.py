"""The report of a sweep: its sections, in order."""

from __future__ import annotations

from p2p_sac_jax.report import (
    background,
    comparisons,
    headline,
    learning_curves,
    neighbours,
)
from p2p_sac_jax.report.page import Page
from p2p_sac_jax.report.sweep_data import SweepData


def sweep_page(data: SweepData) -> Page:
    """Everything that the page of a sweep shows."""
    made = [
        headline.results(data),
        learning_curves.learning(data),
        comparisons.effects(data),
        comparisons.factors(data),
        comparisons.profiles(data),
        comparisons.attacks(data),
        comparisons.privacy(data),
        neighbours.trust(data),
        neighbours.topologies(data),
        headline.tables(data),
        headline.missing(data),
        background.limits(data),
        background.provenance(data),
    ]
    sections = [section for section in made if section]
    runs = [run for point in data.sweep.points for run in point.runs]
    badges = [f"{runs.count(None)} results missing"] if None in runs else []
    steps = data.sweep.meta["config"]["steps"]
    facts = [*background.facts(data, str(steps)), f"{len(data.sweep.points)} points"]
    title = f"Ablation: {str(data.sweep.meta['name']).replace('_', ' ')}"
    return Page(title, facts, [background.badge(data), *badges], sections)
