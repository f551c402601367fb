"""Learning curves, against whichever cost the reader cares about."""

from __future__ import annotations

from p2p_sac_jax.report.elements import figure, paragraph, switch, text
from p2p_sac_jax.report.figures import SMALL, WIDE
from p2p_sac_jax.report.style import other_look
from p2p_sac_jax.report.sweep import charts, curves, words
from p2p_sac_jax.report.sweep.charts import Trace
from p2p_sac_jax.report.sweep.curves import Axis, Curve
from p2p_sac_jax.report.sweep.data import (
    PEERS,
    Seen,
    SweepData,
    panel_field,
)
from p2p_sac_jax.report.sweep.panels import Panel, panels


def learning(sweep: SweepData) -> str:
    """Every panel against every axis, one axis at a time."""
    panes = [(axis.title, _pane(sweep, axis)) for axis in curves.axes(sweep.unit)]
    measured = "Return of an episode"
    if sweep.has_oracle:
        measured = "Share of the best attainable profit, noise-free,"
    spread = ", areas its 95\u00a0% bootstrap interval" if sweep.seeds > 1 else ""
    left = panels(sweep)[0].left
    caption = (
        f"<b>How measured.</b> {measured} of the policies without exploration, mean"
        " over the honest peers of a population; what was earned so far counts"
        " training, exploration included. Lines: interquartile mean over"
        f" seeds{spread}. What sends nothing stands at 0 bytes, with its last score."
        " Wall clock is a population's share of the batch it was computed in."
        + (f" {left} more points are in the tables alone." if left else "")
    )
    return switch("axis", "Horizontal axis", panes) + paragraph(caption, "caption")


def _pane(sweep: SweepData, axis: Axis) -> str:
    first, *rest = panels(sweep)
    pieces = [_learned(sweep, axis, first)]
    if sweep.has_oracle:
        pieces.append(_earned(sweep, axis, first))
    if PEERS in sweep.factors:
        pieces.append(_by_peers(sweep, axis, curves.score, "Learned policy", "final"))
    if PEERS in sweep.factors and sweep.has_oracle:
        pieces.append(_by_peers(sweep, axis, curves.earned, "Earned so far", "earned"))
    html = f'<div class="pair">{"".join(pieces)}</div>'
    if not rest:
        return html
    small = "".join(_learned(sweep, axis, panel, SMALL) for panel in rest)
    field = text(words.field(panel_field(sweep.factors) or ""))
    return (
        f"{html}<details><summary>Learned policy, other values of {field}</summary>"
        f'<div class="three">{small}</div></details>'
    )


def _learned(
    sweep: SweepData, axis: Axis, panel: Panel, size: tuple[float, float] = WIDE
) -> str:
    traces = [curves.trace(seen, axis, curves.score) for seen in panel.points]
    title = f"Learned policy, {panel.title}" if panel.title else "Learned policy"
    return _figure(sweep, axis, title, traces, panel.points[0], size=size)


def _earned(sweep: SweepData, axis: Axis, panel: Panel) -> str:
    traces = [curves.trace(seen, axis, curves.earned) for seen in panel.points]
    title = f"Earned so far, {panel.title}" if panel.title else "Earned so far"
    return _figure(sweep, axis, title, traces, panel.points[0], "earned")


def _by_peers(
    sweep: SweepData, axis: Axis, curve: Curve, title: str, measure: str
) -> str:
    """The arm of the headline at every number of peers, other factors alike."""
    chosen = sweep.headline()
    others = {name: v for name, v in chosen.values.items() if name != PEERS}
    points = [
        seen
        for seen in sweep.of_arm(chosen.arm)
        if {name: v for name, v in seen.values.items() if name != PEERS} == others
    ]
    traces = []
    for index, seen in enumerate(points):
        label = words.setting(PEERS, seen.peers)
        look = chosen.look if seen is chosen else other_look(label, index)
        traces.append(curves.trace(seen, axis, curve)._replace(label=label, look=look))
    title = f"{title}, {chosen.look.label}, by number of peers"
    return _figure(sweep, axis, title, traces, chosen, measure)


def _figure(
    sweep: SweepData,
    axis: Axis,
    title: str,
    traces: list[Trace],
    market: Seen,
    measure: str = "final",
    size: tuple[float, float] = WIDE,
) -> str:
    """One panel, with the prices of the market of one of its points beside it."""
    what = "share of the best profit" if sweep.has_oracle else "return of an episode"
    svg = charts.lines(
        words.identifier("curve", axis.title, title),
        f"Line chart: {what} against {axis.label}. {title}."
        f" {charts.ends(traces, sweep.final)}",
        traces,
        (axis.label, what),
        sweep.references(market, measure),
        share=sweep.has_oracle,
        size=size,
    )
    return figure(svg, "", title)
