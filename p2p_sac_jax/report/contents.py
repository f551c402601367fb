"""What the page of a run or of a sweep shows, in order."""

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


def make_page(data: SweepData, run: RunData | None = None) -> Page:
    """The sections that runs and sweeps share, and what only rows of a run hold."""
    sections = [
        headline.results(data),
        learning_curves.learning(data),
        comparisons.effects(data),
        comparisons.factors(data),
        peers.worst(data),
        run and peers.prices(run),
        run and peers.demand(run),
        run and neighbours.exchange(run),
        neighbours.trust(data),
        run and peers.diagnostics(run),
        headline.tables(data),
        headline.missing(data),
        *background.sections(data, run),
    ]
    sweep, config = data.sweep, data.sweep.meta["config"]
    steps = f"{config['steps']} {data.step}s"
    market = []
    if data.worlds not in ([], ["logit"]):
        market.append(f"demand world {', '.join(data.worlds)}")
    if data.draws == ["random"]:
        market.append(f"{data.peer}s drawn at random by each seed")
    if run is None:
        badges = [f"{len(sweep.missing)} results missing"] if sweep.missing else []
        title = f"Ablation: {str(sweep.meta['name']).replace('_', ' ')}"
        return Page(
            title,
            [steps, f"{len(sweep.points)} points", *market],
            badges,
            sections,
            data,
        )
    problem, count = config["environment"]["name"], data.headline().peers
    title = f"{count} peers learning {problem} together"
    if problem == "pricing":
        title = f"{count} sellers learning to price together"
    started = str(run.run.get("started") or "")[:16].replace("T", " ")
    reached = data.headline().runs[0].curves.steps[-1]
    facts = [f"{reached} of {steps}", *market, f"started {started}"]
    badges = ["unfinished run"] * (not run.summary)
    footer = f"Configuration {run.run.get('config_hash')}."
    return Page(title, facts, badges, sections, data, footer)
