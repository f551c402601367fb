"""What exchange costs, how messages were weighted, who receives from whom."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.ablation.measures import BYTES
from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.report import figures, labels, row_figures
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import SMALL, Array, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Section
from p2p_sac_jax.report.sweep_data import PEERS, FinishedPoint, Omitted, SweepData

Made = tuple[Section | None, list[Omitted]]

_MOST_NETWORKS = 6
_WEIGHTS = (
    ("has_prior", "Peers with a prior from others", "share of rounds"),
    ("std_weight", "Weight of others' spread", "weight in own exploration"),
    ("value_weight", "Weight of others' values", "weight in own targets"),
)


def costs(data: SweepData) -> Made:
    """Steps of all peers a second, and gain over the control against bytes."""
    omitted = []
    throughput = _throughput(data) if PEERS in data.factors else None
    if throughput is None:
        what = "throughput against the number of peers"
        omitted.append(Omitted(what, "population.peers was not swept"))
    by_bytes = _by_bytes(data)
    if by_bytes is None:
        why = "nothing was sent, or there is no control"
        omitted.append(Omitted("return per byte", why))
    content = {"throughput": throughput, "by_bytes": by_bytes}
    known = any(content.values())
    return Section("costs", "What it costs", content) if known else None, omitted


def _throughput(data: SweepData) -> Figure:
    values = data.factors[PEERS]
    groups: dict[str, list[FinishedPoint]] = {}
    for point in data.points:
        if PEERS in point.values:
            groups.setdefault(point.look.label, []).append(point)
    traces = []
    for label, points in groups.items():
        bands = []
        for point in points:
            rates = [
                len(run.curves.joins) * run.curves.steps[-1] / run.meta["run_s"]
                for run in point.runs
            ]
            bands.append(curves.band(np.array(rates)[:, None]))
        x = np.array([values.index(point.values[PEERS]) for point in points], int)
        ends = np.array(bands)[..., 0].T
        traces.append(Trace(label, points[0].look, x, *ends))
    svg = figures.trend(
        "throughput",
        f"Chart: {data.step}s of all peers a second, by number of peers."
        f" {figures.ends(traces, '')}",
        PEERS,
        values,
        traces,
        Quantity(f"peer-{data.step}s a second"),
        log=True,
    )
    return Figure(svg, "Throughput by number of peers")


def _by_bytes(data: SweepData) -> Figure | None:
    traces, rates = [], []
    unit = labels.difference_unit(data.early)
    for point in data.panels()[0].points:
        sent, gain = data.row(point, BYTES), data.row(point, data.early)
        if sent and sent["iqm"] and gain and gain["pairs"]:
            middle, low = gain["difference"], gain["difference_low"]
            ends = (middle, middle) if low is None else (low, gain["difference_high"])
            places = [np.array([v], float) for v in (sent["iqm"], middle, *ends)]
            traces.append(Trace(point.look.label, point.look, *places))
            rate = labels.per_megabyte(middle, sent["iqm"], unit)
            rates.append(f"{point.look.label} {rate}")
    if not traces:
        return None
    name, control = data.label(data.early), labels.arm(data.control)
    svg = figures.scatter(
        "bytes",
        f"Chart with intervals: difference in {name} to {control} against bytes sent"
        f" per peer. Per megabyte: {', '.join(rates)}.",
        traces,
        Quantity("bytes sent per peer, log scale"),
        Quantity("difference" + " (points)" * (unit == "points"), unit),
    )
    facts = {"rates": ", ".join(rates), "measure": name, "control": control}
    return Figure(svg, labels.sentence(f"{name}: gain by bytes"), facts)


def weights(data: SweepData) -> Made:
    """How much of what peers do comes from others, and whom they trust, over time."""
    axis, panel, made, omitted = _steps(data), data.panels()[0], [], []
    for name, title, y_label in _WEIGHTS:

        def mean(run: RunResult, name: str = name) -> Array:
            return curves.over_peers(run.curves, run.curves.diagnostics[name])

        traces = [_over_time(point, mean) for point in panel.points]
        used = [trace for trace in traces if np.nanmax(trace.high, initial=0.0) > 0]
        if used:
            svg = figures.lines(
                labels.identifier("weight", name),
                f"Line chart: {title.lower()} against {axis.label}."
                f" {figures.ends(used, '')}",
                used,
                axis,
                Quantity(y_label),
                limits=(0.0, 1.05 * max(np.nanmax(trace.high) for trace in used)),
                size=SMALL,
            )
            made.append(Figure(svg, title, {"text": panel.title}))
    if not made:
        why = "no peer ever used a message of another"
        omitted.append(Omitted("weights over time", why))
    trust = _trust(data)
    if trust is None:
        why = "weights.trust_rate is 0 wherever messages are exchanged"
        omitted.append(Omitted("trust over time", why))
    content = {"weights": made, "trust": trust}
    title = "Weights and trust"
    return Section("weights", title, content) if made or trust else None, omitted


def _trust(data: SweepData) -> Figure | None:
    """Trust that honest peers have in honest and in byzantine peers."""
    known = [point for point in data.points if len(point.runs[0].curves.trust)]
    if not known:
        return None
    attackers = {id(p): int(p.runs[0].curves.byzantine.sum()) for p in known}
    most = max(attackers.values())
    shown = [point for point in known if attackers[id(point)] == most]
    largest = max(shown, key=lambda point: point.peers)
    field = data.panel_field
    place = {field: largest.values[field]} if field in largest.values else {}
    traces = []
    for point in [p for p in shown if place.items() <= p.values.items()][:3]:
        honest = _over_time(point, lambda run: _opinion(run, byzantine=False))
        traces.append(honest._replace(label=f"{point.look.label}: honest"))
        if most:
            other = _over_time(point, lambda run: _opinion(run, byzantine=True))
            look = point.look._replace(dashes=(0, (1, 1)))
            label = f"{point.look.label}: byzantine"
            traces.append(other._replace(label=label, look=look))
    axis = _steps(data)
    svg = figures.lines(
        "trust",
        f"Line chart: trust of honest peers in others against {axis.label}."
        f" {figures.ends(traces, '')}",
        traces,
        axis,
        Quantity("trust, most trusted = 1"),
        limits=(0.0, 1.05 * max(np.nanmax(trace.high) for trace in traces)),
    )
    place = labels.settings(place, named=True)
    return Figure(svg, "Trust over time", {"place": place})


def topologies(data: SweepData) -> Made:
    """Every topology that meets in the panel of the headline."""
    made: dict[str, Figure] = {}
    for point in data.panels()[0].points:
        meta = point.runs[0].meta
        adjacency = meta.get("adjacency") or []
        kind = meta["config"]["exchange"]["topology"]
        if np.any(adjacency) and kind not in made and len(made) < _MOST_NETWORKS:
            name = labels.identifier("topology", kind)
            svg = row_figures.network(adjacency, name, f"Network diagram, {kind}")
            text = row_figures.describe_network(adjacency)
            facts = {"text": f"Seed {meta['seed']}. {text}"}
            title = f"{kind}, {labels.setting(PEERS, point.peers)}"
            made[kind] = Figure(svg, title, facts)
    if not made:
        return None, [Omitted("network drawing", "no messages are exchanged")]
    return Section("network", "Topologies", {"figures": list(made.values())}), []


def _opinion(run: RunResult, byzantine: bool) -> Array:
    """[E] mean trust of honest peers in the other honest, or the byzantine, peers."""
    honest = ~run.curves.byzantine
    about = run.curves.byzantine if byzantine else honest
    pairs = honest[:, None] & about[None, :] & ~np.eye(len(about), dtype=bool)
    known = pairs & np.isfinite(run.curves.trust)
    values = np.where(known, run.curves.trust, 0.0)
    return values.sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)


def _steps(data: SweepData) -> Quantity:
    return curves.cost_axes(data.step)[0].quantity


def _over_time(point: FinishedPoint, curve: curves.Curve) -> Trace:
    x = point.runs[0].curves.steps.astype(float)
    return curves.band_trace(point.look, x, np.array([curve(c) for c in point.runs]))
