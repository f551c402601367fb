"""How messages were weighted and trusted, and which peer receives from which."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.ablation.measures import BYTES
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.report import figures, labels, row_figures
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import Array, Quantity
from p2p_sac_jax.report.page import Section, Table
from p2p_sac_jax.report.peers import charts
from p2p_sac_jax.report.run_data import RunData
from p2p_sac_jax.report.sweep_data import SweepData

_WEIGHTS = {
    "coverage": ("Coverage", Quantity("share of contexts")),
    "neighbours": ("Effective neighbours", Quantity("effective number")),
    "lowest_trust": ("Least trusted neighbour", Quantity("most trusted = 1")),
}


def trust(data: SweepData) -> Section | None:
    """Trust of honest peers in honest and in byzantine ones, where most are byzantine.

    Of several such points, that of the most peers is shown.
    """
    known = [point for point in data.points if len(point.runs[0].curves.trust)]
    if not known:
        return None

    def size(of: Curves) -> tuple[int, int]:
        return int(of.byzantine.sum()), len(of.byzantine)

    shown = max(known, key=lambda point: size(point.runs[0].curves))
    attacked, _ = size(shown.runs[0].curves)
    traces = []
    for kind, dashes in (("honest", "solid"), ("byzantine", (0, (1, 1)))):
        if kind == "honest" or attacked:
            values = [_opinion(run.curves, kind == "byzantine") for run in shown.runs]
            trace = curves.over_seeds(data, shown, curves.steps, np.array(values))
            look = shown.look._replace(dashes=dashes, label=kind)
            traces.append(trace._replace(look=look))
    title, y = "Trust over time", Quantity("trust, most trusted = 1")
    figure = figures.lines(title, traces, data.time, y, limits=(0.0, 1.05))
    return Section("trust", "Trust", {"figure": figure, "point": shown.label})


def exchange(run: RunData) -> Section | None:
    """Topology, channels, weights over time, and what leaves a peer."""
    adjacency, data = run.run.get("adjacency"), run.data
    if not adjacency:
        return None
    privacy = run.run.get("privacy") or {}
    channels = run.summary.get("channels") or run.run.get("channels") or {}
    _, epsilon = run.field(data.main, "epsilon")
    sent = data.row(data.headline(), BYTES)
    leaves = list((privacy.get("channels") or {}).items())
    content = {
        "topology": row_figures.network("Topology", adjacency),
        "channels": Table(
            "Channels", ["channel", "status"], [*channels.items()], "words"
        ),
        "interval": run.run["config"]["exchange"]["interval"],
        "sent": sent and labels.estimate(sent),
        "shape": run.run.get("network") or {},
        "weights": charts(run, _WEIGHTS, "network"),
        "privacy": privacy,
        "epsilon": float(np.nanmax(epsilon)) if epsilon.size else None,
        "leaves": Table("What leaves a peer", ["what", "guarantee"], leaves, "words"),
    }
    return Section("network", "The network", content, "Network")


def _opinion(of: Curves, byzantine: bool) -> Array:
    """[E] mean trust of honest peers in the other honest, or the byzantine, peers."""
    honest = ~of.byzantine
    about = of.byzantine if byzantine else honest
    pairs = honest[:, None] & about[None, :] & ~np.eye(len(about), dtype=bool)
    known = pairs & np.isfinite(of.trust)
    values = np.where(known, of.trust, 0.0)
    return values.sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
