"""The report of one run: what it shares with that of a sweep, and its single peers."""

from __future__ import annotations

from p2p_sac_jax.report import background, headline, learning_curves, neighbours, peers
from p2p_sac_jax.report.comparisons import effects
from p2p_sac_jax.report.page import Page, Section
from p2p_sac_jax.report.run_data import RunData


def run_page(run: RunData) -> Page:
    """Everything that the page of a run shows."""
    data, config = run.data, run.run["config"]
    made = [
        headline.results(data),
        learning_curves.learning(data),
        effects(data),
        peers.worst(run),
        peers.prices(run),
        peers.demand(run),
        neighbours.exchange(run),
        neighbours.trust(data),
        peers.diagnostics(run),
        background.limits(data),
        background.provenance(data, run),
    ]
    sections: list[Section] = [section for section in made if section]
    problem, count = config["environment"]["name"], data.headline().peers
    title = f"{count} peers learning {problem} together"
    if problem == "pricing":
        title = f"{count} sellers learning to price together"
    reached = data.headline().runs[0].curves.steps[-1]
    facts = [
        *background.facts(data, f"{reached} of {config['steps']}"),
        f"started {str(run.run.get('started') or '')[:16].replace('T', ' ')}",
    ]
    badges = ["unfinished run"] if not run.summary else []
    footer = f"Configuration {run.run.get('config_hash')}."
    return Page(title, facts, [background.badge(data), *badges], sections, footer)
