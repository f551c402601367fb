"""The report of a sweep: its sections, in order."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.report import (
    background,
    figures,
    labels,
    sweep_factors,
    sweep_network,
    sweep_results,
)
from p2p_sac_jax.report import learning_curves as curves
from p2p_sac_jax.report.figures import SMALL, WIDE, Quantity, Trace
from p2p_sac_jax.report.learning_curves import CostAxis
from p2p_sac_jax.report.page import Figure, Page, Section
from p2p_sac_jax.report.sweep_data import (
    PEERS,
    FinishedPoint,
    Omitted,
    PointPanel,
    SweepData,
)
from p2p_sac_jax.report.theme import other_look

Made = tuple[Section | None, list[Omitted]]


def sweep_page(data: SweepData) -> Page:
    """Everything that the page of a sweep shows."""
    sections = [sweep_results.results(data), _learning(data)]
    omitted: list[Omitted] = []
    for make in (
        sweep_factors.effects,
        sweep_factors.factors,
        sweep_factors.profiles,
        sweep_factors.attacks,
        sweep_factors.privacy,
        sweep_network.costs,
        sweep_network.weights,
        sweep_network.topologies,
    ):
        section, missing = make(data)
        sections += [section] if section else []
        omitted += missing
    limits = {"seeds": data.seeds, "step": data.step, "omitted": omitted}
    sections += [
        sweep_results.tables(data),
        sweep_results.missing(data),
        Section("limits", "What this cannot say", limits),
        background.sweep_provenance(data),
    ]
    config = data.sweep.meta["config"]
    runs = [run for point in data.sweep.points for run in point.runs]
    facts = [
        f"{config['steps']} {data.step}s",
        f"{len(data.sweep.arms)} arms",
        f"{len(data.sweep.points)} points",
    ]
    if data.step == "week":
        facts.insert(0, f"{config['population']['name']} population")
    badges = ["1 seed: indicative" if data.seeds == 1 else f"{data.seeds} seeds"]
    if None in runs:
        badges.append(f"{runs.count(None)} results missing")
    title = f"Ablation: {str(data.sweep.meta['name']).replace('_', ' ')}"
    return Page(title, facts, badges, sections)


def _learning(data: SweepData) -> Section:
    """Every panel against every axis, one axis at a time."""
    first, *rest = data.panels()
    panes = []
    for axis in curves.cost_axes(data.step):
        made = [_panel(data, axis, first, "score")]
        if data.has_oracle:
            made.append(_panel(data, axis, first, "earned"))
        if PEERS in data.factors:
            made.append(_by_peers(data, axis, "score"))
        if PEERS in data.factors and data.has_oracle:
            made.append(_by_peers(data, axis, "earned"))
        small = [_panel(data, axis, panel, "score", SMALL) for panel in rest]
        panes.append({"title": axis.title, "figures": made, "small": small})
    content = {
        "panes": panes,
        "field": labels.field(data.panel_field),
        "omitted": first.omitted,
        "has_oracle": data.has_oracle,
        "seeds": data.seeds,
    }
    return Section("learning", "Learning curves", content, "Learning")


def _trace(data: SweepData, point: FinishedPoint, axis: CostAxis, curve: str) -> Trace:
    """IQM over seeds of the score, or of what was earned so far, against an axis."""
    x = np.median([axis.of(run) for run in point.runs], axis=0)
    values = []
    for run in point.runs:
        one, config = run.curves, run.meta["config"]
        if curve == "earned":
            values.append(curves.earned(one, one.achieved))
        else:
            evaluated = curves.by_peer(one, config["evaluation_weeks"])
            values.append(curves.over_peers(one, evaluated))
    return curves.band_trace(point.look, x, np.array(values))


def _panel(
    data: SweepData,
    axis: CostAxis,
    panel: PointPanel,
    curve: str,
    size: tuple[float, float] = WIDE,
) -> Figure:
    traces = [_trace(data, point, axis, curve) for point in panel.points]
    place = panel.title
    return _figure(data, axis, curve, place, traces, panel.points[0], size)


def _by_peers(data: SweepData, axis: CostAxis, curve: str) -> Figure:
    """The arm of the headline at every number of peers, other factors alike."""
    chosen = data.headline()
    others = {name: v for name, v in chosen.values.items() if name != PEERS}
    traces = []
    for point in data.of_arm(chosen.arm):
        if {name: v for name, v in point.values.items() if name != PEERS} != others:
            continue
        label = labels.setting(PEERS, point.peers)
        look = point.look if point is chosen else other_look(label, len(traces))
        trace = _trace(data, point, axis, curve)
        traces.append(trace._replace(label=label, look=look))
    place = f"{chosen.look.label}, by number of peers"
    return _figure(data, axis, curve, place, traces, chosen, WIDE)


def _figure(
    data: SweepData,
    axis: CostAxis,
    curve: str,
    place: str,
    traces: list[Trace],
    market: FinishedPoint,
    size: tuple[float, float],
) -> Figure:
    """One panel, with the prices of the market of one of its points beside it."""
    y = Quantity("return of an episode", "return")
    if data.has_oracle:
        y = Quantity("share of the best profit", "share")
    name = "Learned policy" if curve == "score" else "Earned so far"
    title = ", ".join(filter(None, (name, place)))
    svg = figures.lines(
        labels.identifier("curve", axis.title, title),
        f"Line chart: {y.label} against {axis.quantity.label}. {title}."
        f" {figures.ends(traces, y.unit)}",
        traces,
        axis.quantity,
        y,
        levels=data.levels(market, "earned" if curve == "earned" else data.final),
        size=size,
    )
    return Figure(svg, title)
