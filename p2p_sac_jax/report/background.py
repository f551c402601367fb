"""What stands behind the results: diagnostics, provenance, limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.report import data as d
from p2p_sac_jax.report import figures
from p2p_sac_jax.report.elements import (
    figure,
    paragraph,
    section,
    table,
)
from p2p_sac_jax.report.style import look

_DIAGNOSTICS = (
    (
        "behaviour_std",
        "Exploration",
        "behaviour std (action units)",
        False,
        "Spread of the prices tried; it should shrink as the peer grows sure.",
    ),
    (
        "alpha",
        "Temperature",
        "alpha",
        True,
        "Weight of entropy in the objective, learned to hold the target entropy.",
    ),
    (
        "critic_loss",
        "Critic loss",
        "loss (reward²)",
        True,
        "Squared error of the critics' targets; noise in sales keeps it above zero.",
    ),
    (
        "demand_slope",
        "Belief in price sensitivity",
        "slope (per unit of price)",
        False,
        "Slope of log demand, posterior mean; shaded: one posterior standard"
        " deviation, mean over peers.",
    ),
    (
        "confidence",
        "Confidence",
        "confidence, 0 to 1",
        False,
        "Computed from a peer's own data; it weighs what the peer tells others.",
    ),
    (
        "td_error",
        "TD error",
        "TD error (reward)",
        False,
        "How badly the critic predicts the peer's own experience.",
    ),
)


def diagnostics(data: d.RunData) -> str:
    """Small charts of how learning went inside."""
    panels = []
    for field, title, y_label, log, words in _DIAGNOSTICS:
        found = {arm: d.peer_curves(data, arm, field) for arm in data.arms}
        found = {arm: curves for arm, curves in found.items() if curves.values.size}
        if not found:
            continue
        by_arm = {
            arm: d.Curves(curves.steps, d.mean(curves.values)[None])
            for arm, curves in found.items()
        }
        if field == "demand_slope":
            bands = dict(_slope_bands(data, by_arm))
        else:
            bands = {arm: d.middle_half(curves) for arm, curves in found.items()}
        label = f"Line chart: {title.lower()} of each arm, mean over peers."
        svg = figures.curves(
            data,
            f"diagnostic-{field}",
            label,
            y_label,
            by_arm,
            bands,
            log=log,
            size=figures.SMALL,
        )
        panels.append(figure(svg, words, title))
    if not panels:
        return ""
    return section(
        "diagnostics",
        "Diagnostics",
        f'<div class="three">{"".join(panels)}</div>',
        paragraph(
            "<b>How measured.</b> Means over all peers"
            f"{' and seeds' if len(data.seeds) > 1 else ''}, recorded at each"
            " evaluation from the training before it. Shaded, unless said otherwise:"
            " the middle half of the peers.",
            "caption",
        ),
    )


def limits(data: d.RunData) -> str:
    """What this run can and cannot say."""
    items = []
    if len(data.seeds) == 1:
        items.append(
            "<b>1 seed: indicative.</b> Another seed draws other costs, shocks and"
            " networks. A claim needs at least ten seeds and confidence intervals."
        )
    else:
        items.append(
            f"{len(data.seeds)} seeds: means over seeds, thin lines for single ones."
            " The sampling unit is the population, never the peer."
        )
    if data.has_oracle:
        items += [
            "<b>A calibrated simulator, not the world.</b> Demand follows a logit model"
            " whose parameters come from scanner data; competitors do not react.",
            "<b>Elasticities by ordinary least squares without instruments</b>, mostly"
            " from promotions: short-run responses, possibly biased. Annual swings of"
            " price sensitivity are assumed, not estimated.",
            "<b>The best price</b> knows each peer's true demand. No learner can"
            " reach it from the first week; it is a yardstick, not a rival.",
            "<b>Two steps lie between the arms.</b> From plain SAC to own memory: what"
            " remembering and imagining prices brings. From own memory to network: what"
            " the neighbours bring. Only the second is the network's merit.",
        ]
    inner = "".join(f"<li>{item}</li>" for item in items)
    return section("limits", "What this run can and cannot say", f"<ul>{inner}</ul>")


def provenance(data: d.RunData) -> str:
    """Where the numbers come from: code, machine, configuration."""
    run, summary = data.run, data.summary
    commit = str(run.get("git_commit") or "unknown")
    if run.get("git_dirty"):
        commit += " (with uncommitted changes)"
    rows: list[tuple[str, Any]] = [
        ("started", run.get("started")),
        ("code", commit),
        ("configuration", run.get("config_hash")),
        ("seeds", ", ".join(map(str, run.get("seeds", [])))),
        ("platform", run.get("platform")),
        ("devices", ", ".join(map(str, run.get("devices", [])))),
        ("layout", run.get("layout")),
        ("versions", ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items())),
    ]
    for field, words in (
        ("compile_s", "compile time (s)"),
        ("wall_s", "wall time (s)"),
        ("resumed_at", "resumed at step"),
        ("env_steps_per_s", "environment steps per second, all runs"),
        ("updates_per_s", "gradient updates per second, all runs"),
    ):
        if field in summary:
            rows.append((words, summary[field]))
    arms = [[look(arm, data.arms).label, _arm_words(arm)] for arm in data.arms]
    return section(
        "provenance",
        "Provenance",
        '<div class="pair"><div class="card"><h3>Run</h3>',
        table(["what", "value"], rows, "Provenance", "words"),
        '</div><div class="card"><h3>Arms</h3>',
        table(["arm", "what it is"], arms, "Arms", "words"),
        "<h3>Differences from the defaults</h3>",
        _differences(run.get("config", {})),
        "</div></div>",
    )


def _differences(config: dict[str, Any]) -> str:
    default = dict(_flat(dataclasses.asdict(TrainConfig())))
    used = dict(_flat(config))
    rows = [
        [name, value if value != "" else "(empty)", default.get(name)]
        for name, value in used.items()
        if default.get(name) != value
    ]
    everything = table(["field", "this run"], used.items(), "Configuration", "words")
    details = (
        f"<details><summary>Whole configuration ({len(used)} fields)</summary>"
        f"{everything}</details>"
    )
    if not rows:
        return paragraph("None: every field has its default value.") + details
    columns = ["field", "this run", "default"]
    return table(columns, rows, "Configuration changed", "words") + details


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, f"{value:.10g}" if isinstance(value, float) else value


def _arm_words(arm: str) -> str:
    return {
        "plain": "Soft Actor-Critic alone: real weeks only, hears nobody",
        "memory": "with a price memory of its own and imagined prices, hears nobody",
        "network": "the same, and it hears its neighbours",
    }.get(arm, "as configured")


def _slope_bands(
    data: d.RunData, by_arm: dict[str, d.Curves]
) -> Iterator[tuple[str, d.Band]]:
    for arm, curves in by_arm.items():
        spread = d.peer_curves(data, arm, "demand_slope_std")
        if np.array_equal(spread.steps, curves.steps):
            deviation = d.mean(spread.values)
            middle = curves.values[0]
            yield arm, d.Band(curves.steps, middle - deviation, middle + deviation)
