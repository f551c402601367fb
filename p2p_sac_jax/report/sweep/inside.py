"""What the peers made of each other: weights, trust, who hears whom."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.report import figures
from p2p_sac_jax.report.elements import figure, text
from p2p_sac_jax.report.figures import SMALL
from p2p_sac_jax.report.sweep import charts, curves, words
from p2p_sac_jax.report.sweep.data import (
    PEERS,
    Omitted,
    Seen,
    SweepData,
    panel_field,
)
from p2p_sac_jax.report.sweep.panels import panels

_MOST_NETWORKS = 6
_WEIGHTS = (
    ("has_prior", "Peers with a prior from others", "share of rounds"),
    ("std_weight", "Weight of others' spread", "weight in own exploration"),
    ("value_weight", "Weight of others' values", "weight in own targets"),
)


def weights(data: SweepData) -> str | Omitted:
    """How much of what peers do comes from others, over time."""
    axis, found = curves.axes(data.unit)[0], []
    panel = panels(data)[0]
    for name, title, y_label in _WEIGHTS:
        curve = curves.diagnostic(name)
        traces = [curves.trace(seen, axis, curve) for seen in panel.points]
        heard = [trace for trace in traces if np.nanmax(trace.high, initial=0.0) > 0]
        if not heard:
            continue
        svg = charts.lines(
            words.identifier("weight", name),
            f"Line chart: {title.lower()} against {axis.label}. {charts.ends(heard)}",
            heard,
            (axis.label, y_label),
            from_zero=True,
            size=SMALL,
        )
        found.append(figure(svg, text(panel.title), title))
    if not found:
        return Omitted("weights over time", "no peer ever took anything from another")
    return f'<div class="three wide">{"".join(found)}</div>'


def trust(data: SweepData) -> str | Omitted:
    """Opinion that honest peers have of the honest and of the liars, over time."""
    what = "trust over time"
    axis = curves.axes(data.unit)[0]
    known = [seen for seen in data.seen if len(seen.cells[0].curves.trust)]
    if not known:
        return Omitted(what, "weights.trust_rate is 0 wherever somebody is heard")
    byzantine_peers = [int(seen.cells[0].curves.byzantine.sum()) for seen in known]
    shown = [
        s
        for s, n in zip(known, byzantine_peers, strict=True)
        if n == max(byzantine_peers)
    ]
    largest = max(shown, key=lambda seen: seen.peers)
    field = panel_field(data.factors) or ""
    place = {field: largest.values[field]} if field in largest.values else {}
    shown = [seen for seen in shown if place.items() <= seen.values.items()][:3]
    traces = []
    for seen in shown:
        traces.append(
            curves.trace(seen, axis, _of_honest, f"{seen.look.label}: honest")
        )
        if max(byzantine_peers):
            drawn = seen.look._replace(dashes=(0, (1, 1)))
            lying = curves.trace(seen, axis, _of_liars, f"{seen.look.label}: liars")
            traces.append(lying._replace(look=drawn))
    svg = charts.lines(
        "trust",
        f"Line chart: trust of honest peers in others against {axis.label}."
        f" {charts.ends(traces)}",
        traces,
        (axis.label, "trust, most trusted = 1"),
        from_zero=True,
    )
    caption = (
        "<b>How measured.</b> Opinion of every honest peer of every other, relative to"
        " the one it trusts most; means over peers, interquartile mean over seeds."
        + (f" At {text(words.told(place))}." if place else "")
    )
    return figure(svg, caption, "Trust over time")


def network(data: SweepData) -> str | Omitted:
    """Who hears whom, every topology that meets in the panel of the headline."""
    drawn: dict[str, str] = {}
    for seen in panels(data)[0].points:
        adjacency = seen.cells[0].meta.get("adjacency") or []
        kind = seen.config["exchange"]["topology"]
        if np.any(adjacency) and kind not in drawn and len(drawn) < _MOST_NETWORKS:
            drawn[kind] = _network(seen, kind, adjacency)
    if not drawn:
        return Omitted("network drawing", "nobody hears anybody")
    return f'<div class="three wide">{"".join(drawn.values())}</div>'


def _network(seen: Seen, kind: str, adjacency: list[list[float]]) -> str:
    sentence = figures.describe_network(adjacency)
    svg = figures.network(
        adjacency,
        words.identifier("network", kind),
        f"Network diagram, {kind}: {sentence}",
    )
    caption = f"Seed {seen.cells[0].meta['seed']}. {text(sentence)}"
    title = f"{kind}, {words.setting(PEERS, seen.peers)}"
    return figure(svg, caption, title)


def _of_honest(cell: RunResult) -> np.ndarray:
    return _opinion(cell, ~cell.curves.byzantine)


def _of_liars(cell: RunResult) -> np.ndarray:
    return _opinion(cell, cell.curves.byzantine)


def _opinion(cell: RunResult, about: np.ndarray) -> np.ndarray:
    """[E] mean trust of honest peers in the others of whom ``about`` holds."""
    honest = ~cell.curves.byzantine
    pairs = honest[:, None] & about[None, :] & ~np.eye(len(about), dtype=bool)
    there = pairs & np.isfinite(cell.curves.trust)
    values = np.where(there, cell.curves.trust, 0.0)
    return values.sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1)
