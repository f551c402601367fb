"""What a result costs: time by the number of peers, gain by bytes."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.ablation.measures import BYTES
from p2p_sac_jax.report.elements import figure, text
from p2p_sac_jax.report.sweep import charts, words
from p2p_sac_jax.report.sweep.charts import Trace
from p2p_sac_jax.report.sweep.curves import band
from p2p_sac_jax.report.sweep.data import (
    PEERS,
    Omitted,
    Seen,
    SweepData,
)
from p2p_sac_jax.report.sweep.panels import panels


def throughput(data: SweepData) -> str | Omitted:
    """Steps of all peers a second, against the number of peers."""
    what = "throughput against the number of peers"
    if PEERS not in data.factors:
        return Omitted(what, "population.peers was not swept")
    values = data.factors[PEERS]
    groups: dict[str, list[Seen]] = {}
    for seen in data.seen:
        if PEERS in seen.values:
            groups.setdefault(seen.look.label, []).append(seen)
    traces = [_rates(points, values) for points in groups.values()]
    svg = charts.trend(
        "throughput",
        f"Chart: {data.unit}s of all peers a second, by number of peers."
        f" {charts.ends(traces)}",
        values,
        traces,
        ("number of peers", f"peer-{data.unit}s a second"),
        log=True,
    )
    caption = (
        "<b>How measured.</b> Peers times training steps over a population's share of"
        " the time that its batch ran, evaluation included, compiling not. Populations"
        " of a batch share devices, so this is what a sweep gets, not the speed of one"
        " population alone."
    )
    return figure(svg, caption, "Throughput by number of peers")


def by_bytes(data: SweepData) -> str | Omitted:
    """Gain over the control against bytes sent."""
    what = "return per byte"
    traces = []
    for seen in panels(data)[0].points:
        sent, gain = data.row(seen, BYTES), data.row(seen, data.early)
        if sent and sent["iqm"] and gain and gain["pairs"]:
            ends = ("difference", "difference_low", "difference_high")
            ends = [gain["difference"] if gain[k] is None else gain[k] for k in ends]
            points = [np.array([end], float) for end in (sent["iqm"], *ends)]
            traces.append(Trace(seen.look.label, seen.look, *points))
    if not traces:
        return Omitted(what, "nothing was sent, or there is no control")
    name, share = words.measure(data.early, data.unit), words.is_share(data.early)
    per_byte = ", ".join(
        f"{t.label} {words.gain_per_megabyte(t.middle[0], t.x[0], share)}"
        for t in traces
    )
    svg = charts.scatter(
        "bytes",
        f"Chart with intervals: difference in {name} to {words.arm(data.control)}"
        f" against bytes sent per peer. Per megabyte: {per_byte}.",
        traces,
        ("bytes sent per peer, log scale", "difference" + " (points)" * share),
        share,
    )
    caption = (
        f"<b>What to see.</b> Per megabyte: {text(per_byte)}. <b>How measured.</b>"
        f" Difference in {text(name)} to {text(words.arm(data.control))}, seed by seed,"
        " against the payload that left a peer, counted once for each receiver."
    )
    return figure(svg, caption, words.sentence(f"{name}: gain by bytes"))


def _rates(points: list[Seen], values: list[int]) -> Trace:
    rates = [
        [
            len(cell.curves.joins) * cell.curves.steps[-1] / cell.meta["run_s"]
            for cell in seen.cells
        ]
        for seen in points
    ]
    bands = [band(np.array(rate)[:, None]) for rate in rates]
    x = np.array([values.index(seen.values[PEERS]) for seen in points], int)
    look = points[0].look
    return Trace(look.label, look, x, *np.array(bands)[..., 0].T)
