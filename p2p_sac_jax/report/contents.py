"""What the pages of a run and of a sweep show, in order."""

from __future__ import annotations

from p2p_sac_jax.report import (
    background,
    comparisons,
    headline,
    learning_curves,
    neighbours,
    peers,
)
from p2p_sac_jax.report.page import Page
from p2p_sac_jax.report.run_data import RunData
from p2p_sac_jax.report.sweep_data import SweepData


def run_page(run: RunData) -> Page:
    """The sections that a run shares with a sweep, and its single peers."""
    data, config = run.data, run.run["config"]
    sections = [
        headline.results(data),
        learning_curves.learning(data),
        comparisons.effects(data),
        peers.worst(run),
        peers.prices(run),
        peers.demand(run),
        neighbours.exchange(run),
        neighbours.trust(data),
        peers.diagnostics(run),
        *background.sections(data, run),
    ]
    problem, count = config["environment"]["name"], data.headline().peers
    title = f"{count} peers learning {problem} together"
    if problem == "pricing":
        title = f"{count} sellers learning to price together"
    reached = data.headline().runs[0].curves.steps[-1]
    facts = [
        f"{reached} of {config['steps']} {data.step}s",
        f"started {str(run.run.get('started') or '')[:16].replace('T', ' ')}",
    ]
    badges = ["unfinished run"] * (not run.summary)
    footer = f"Configuration {run.run.get('config_hash')}."
    return Page(title, facts, badges, sections, data, footer)


def sweep_page(data: SweepData) -> Page:
    """Everything that is known of all points."""
    sections = [
        headline.results(data),
        learning_curves.learning(data),
        comparisons.effects(data),
        comparisons.factors(data),
        neighbours.trust(data),
        headline.tables(data),
        headline.missing(data),
        *background.sections(data),
    ]
    sweep = data.sweep
    badges = [f"{len(sweep.missing)} results missing"] if sweep.missing else []
    steps = sweep.meta["config"]["steps"]
    facts = [f"{steps} {data.step}s", f"{len(sweep.points)} points"]
    title = f"Ablation: {str(sweep.meta['name']).replace('_', ' ')}"
    return Page(title, facts, badges, sections, data)
