"""The network of a run, and how learning went inside."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2p_sac_jax.ablation.measures import BYTES
from p2p_sac_jax.report import figures, labels, row_figures
from p2p_sac_jax.report.figures import SMALL, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Section, Table
from p2p_sac_jax.report.run_data import RunData


class Diagnostic(NamedTuple):
    """A field of the rows that gets a small chart."""

    field: str
    title: str
    y_label: str
    text: str
    log: bool = False


_TRAINING = (
    Diagnostic(
        "behaviour_std",
        "Exploration",
        "behaviour std (action units)",
        "Spread of the actions tried; it should shrink as a peer becomes certain.",
    ),
    Diagnostic(
        "alpha",
        "Temperature",
        "alpha",
        "Weight of entropy in the objective, learned to hold the target entropy.",
        log=True,
    ),
    Diagnostic(
        "critic_loss",
        "Critic loss",
        "loss (reward²)",
        "Squared error of the critics' targets; noise in sales keeps it above zero.",
        log=True,
    ),
    Diagnostic(
        "demand_slope",
        "Estimated price sensitivity",
        "slope (per unit of price)",
        "Slope of log demand, posterior mean. Shaded: one posterior standard deviation,"
        " mean over peers.",
    ),
    Diagnostic(
        "td_error",
        "TD error",
        "TD error (reward)",
        "How far the critic's prediction is from the peer's own experience.",
    ),
)
_WEIGHTS = (
    Diagnostic(
        "coverage",
        "Coverage",
        "share of contexts",
        "Share of the public contexts for which a peer has received any message.",
    ),
    Diagnostic(
        "neighbours",
        "Effective neighbours",
        "effective number",
        "Neighbours counted by weight: as many equal weights would be as spread out.",
    ),
    Diagnostic(
        "lowest_trust",
        "Least trusted neighbour",
        "relative to the most trusted",
        "1 while all are trusted alike; near 0 for a peer whose messages proved wrong.",
    ),
)


def network(data: RunData) -> Section | None:
    """Topology, channels, weights over time, what leaves a peer."""
    adjacency = data.run.get("adjacency")
    if not adjacency:
        return None
    shape, privacy = data.run.get("network") or {}, data.run.get("privacy") or {}
    channels = data.summary.get("channels") or data.run.get("channels") or {}
    epsilons = [
        value
        for (arm, _, _), rows in data.rows.items()
        if arm == data.main_arm
        and (value := labels.finite(rows[-1].get("epsilon"))) is not None
    ]
    leaves = list((privacy.get("channels") or {}).items())
    facts = {"text": row_figures.describe_network(adjacency)}
    svg = row_figures.network(adjacency, "topology", "Network diagram")
    content = {
        "topology": Figure(svg, "Topology", facts),
        "channels": Table(
            "Channels", ["channel", "status"], [*channels.items()], "words"
        ),
        "interval": data.config["exchange"].get("interval"),
        "step": data.step,
        "sent": data.mean(data.main_arm, BYTES),
        "gap": labels.finite(shape.get("spectral_gap")),
        "senders": labels.finite(shape.get("heard_per_round")),
        "mixing": shape.get("mixing"),
        "weights": _charts(data, _WEIGHTS, ["network"]),
        "privacy": privacy,
        "epsilon": max(epsilons, default=None),
        "leaves": Table("What leaves a peer", ["what", "guarantee"], leaves, "words"),
    }
    return Section("network", "The network", content, "Network")


def diagnostics(data: RunData) -> Section | None:
    """Small charts of training."""
    content = {
        "figures": _charts(data, _TRAINING, data.arms),
        "seeds": len(data.seeds),
    }
    return (
        Section("diagnostics", "Diagnostics", content) if content["figures"] else None
    )


def _charts(
    data: RunData, wanted: tuple[Diagnostic, ...], arms: list[str]
) -> list[Figure]:
    """A small chart of each field that the rows hold."""
    made = []
    for one in wanted:
        traces = [data.diagnostic(arm, one.field) for arm in arms if arm in data.arms]
        traces = [trace for trace in traces if trace is not None]
        if not traces:
            continue
        if one.field == "demand_slope":
            traces = [_with_deviation(data, trace) for trace in traces]
        svg = figures.lines(
            labels.identifier("diagnostic", one.field),
            f"Line chart: {one.title.lower()} of each arm, mean over peers.",
            traces,
            data.time,
            Quantity(one.y_label),
            log=one.log,
            size=SMALL,
        )
        made.append(Figure(svg, one.title, {"text": one.text}))
    return made


def _with_deviation(data: RunData, trace: Trace) -> Trace:
    arm = next(arm for arm in data.arms if data.look(arm) == trace.look)
    spread = data.diagnostic(arm, "demand_slope_std")
    if spread is None or not np.array_equal(spread.x, trace.x):
        return trace
    low, high = trace.middle - spread.middle, trace.middle + spread.middle
    return trace._replace(low=low, high=high)
