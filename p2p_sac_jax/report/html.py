"""The page of a run: order of the sections, title, writing the file."""

from __future__ import annotations

import pathlib

from p2p_sac_jax.ablation.results import is_sweep
from p2p_sac_jax.report import background, exchange, results, sections
from p2p_sac_jax.report.data import RunData, load_run
from p2p_sac_jax.report.document import document, header, save
from p2p_sac_jax.report.elements import cell
from p2p_sac_jax.report.sweep import page as sweep

_SECTIONS = {
    "results": "Results",
    "learning": "Learning",
    "worst": "Worst peer",
    "prices": "Prices",
    "demand": "Demand",
    "network": "Network",
    "diagnostics": "Diagnostics",
    "limits": "Limits",
    "provenance": "Provenance",
}


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes ``report.html`` of the run or sweep in ``workdir`` anew.

    The page holds everything it shows and asks the network for nothing. The same
    files give the same bytes.

    Args:
      workdir: folder of a run or of a sweep, finished or not.

    Returns:
      The path of the page.

    Raises:
      ConfigError: the folder holds neither or no results, a file is broken, or the
        extra `report` is not installed.
    """
    workdir = pathlib.Path(workdir)
    page = sweep.render(workdir) if is_sweep(workdir) else render(load_run(workdir))
    return save(page, workdir)


def render(data: RunData) -> str:
    """The whole page as text."""
    parts = [
        results.results(data),
        sections.learning(data),
        sections.worst(data),
        sections.prices(data),
        sections.beliefs(data),
        exchange.network(data),
        background.diagnostics(data),
        background.limits(data),
        background.provenance(data),
    ]
    title = _title(data)
    return document(
        title,
        _header(data, title, parts),
        "\n".join(part for part in parts if part),
        f"Configuration {cell(data.run.get('config_hash'))}.",
    )


def _title(data: RunData) -> str:
    config = data.run.get("config", {})
    problem = config.get("environment", {}).get("name", "run")
    peers = len(data.run.get("peers", [])) or "?"
    if problem == "pricing":
        return f"{peers} sellers learning to price together"
    return f"{peers} peers learning {problem} together"


def _header(data: RunData, title: str, parts: list[str]) -> str:
    links = {
        name: words
        for name, words in _SECTIONS.items()
        if any(part.startswith(f'<section id="{name}"') for part in parts)
    }
    seeds = len(data.seeds)
    config = data.run.get("config", {})
    kind = config.get("population", {}).get("name", "")
    started = str(data.run.get("started") or "")[:16].replace("T", " ")
    facts = [
        f"{kind} population" if data.has_oracle and kind else "",
        f"{data.last_step} of {config.get('steps', data.last_step)} {data.unit}s",
        f"{len(data.arms)} arms" if len(data.arms) != 1 else "1 arm",
        f"started {started}" if started else "",
    ]
    badges = ["1 seed: indicative" if seeds == 1 else f"{seeds} seeds"]
    if not data.summary:
        badges.append("unfinished run")
    return header(title, facts, badges, links)
