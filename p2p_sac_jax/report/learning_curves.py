"""Curves of populations against what learning costs, and their figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.ablation.measures import present
from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.report import figures, labels
from p2p_sac_jax.report.figures import SMALL, WIDE, Array, Quantity, Trace
from p2p_sac_jax.report.page import Figure, Section
from p2p_sac_jax.report.sweep_data import MOST_LINES, FinishedPoint, SweepData

Curve = Callable[[RunResult], Array]  # [E] of one population
_RESAMPLES = 1000  # a band is looked at, not quoted
_MOST_POINTS = 150  # of a line: more cannot be seen


class CostAxis(NamedTuple):
    """A way to count what learning has cost by an evaluation."""

    title: str
    quantity: Quantity
    of: Curve


def steps(run: RunResult) -> Array:
    """[E] steps that each peer has taken by each evaluation."""
    return run.curves.steps.astype(float)


def cost_axes(data: SweepData) -> list[CostAxis]:
    """The axes to choose from.

    There is none of time: what runs side by side in one program takes equally long.
    """

    def sent(run: RunResult) -> Array:
        # Every byte that reached a peer had left another one.
        received = np.nansum(run.curves.bytes_received, axis=1)
        return np.cumsum(received) / len(run.curves.joins)

    step = data.step
    return [
        CostAxis(f"{step}s per peer", data.time, steps),
        CostAxis(
            f"total {step}s",
            Quantity(f"{step}s of training, all peers together"),
            lambda run: steps(run) * len(run.curves.joins),
        ),
        CostAxis("bytes", Quantity("bytes sent per peer"), sent),
    ]


def learning(data: SweepData) -> Section:
    """Every panel against every axis, one axis at a time."""
    first, *rest = panels = data.panels()
    curves = ("score", "earned") if data.has_oracle else ("score",)
    panes = []
    for axis in cost_axes(data):
        made = [panel_figure(data, axis, first, curve) for curve in curves]
        small = [panel_figure(data, axis, panel, "score", SMALL) for panel in rest]
        panes.append({"title": axis.title, "figures": made, "small": small})
    omitted = max(0, len(panels[first]) - MOST_LINES)
    content = {
        "panes": panes,
        "field": labels.field(data.panel_field),
        "omitted": omitted,
    }
    return Section("learning", "Learning curves", content, "Learning")


def panel_figure(
    data: SweepData,
    axis: CostAxis,
    panel: str,
    curve: str,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Lines of the points of a panel, with constant prices in the same market.

    Args:
      data: the sweep.
      axis: horizontal axis.
      panel: key of ``data.panels()``.
      curve: "score" of evaluations, or what was "earned" so far.
      size: width and height in inches.
    """
    points = data.panels()[panel][:MOST_LINES]
    name = "Learned policy" if curve == "score" else "Earned so far"
    return figures.lines(
        f"{name}, {panel}" if panel else name,
        [_trace(data, point, axis, curve) for point in points],
        axis.quantity,
        data.score,
        levels=data.levels(points[0], "earned" if curve == "earned" else data.final),
        size=size,
    )


def _trace(data: SweepData, point: FinishedPoint, axis: CostAxis, curve: str) -> Trace:
    """A curve over seeds; of one seed the band is the middle half of peers."""
    values = [
        earned(run.curves)
        if curve == "earned"
        else over_peers(run.curves, by_peer(run))
        for run in point.runs
    ]
    trace = over_seeds(data, point, axis.of, np.array(values))
    if curve == "score" and len(point.runs) == 1:
        (run,) = point.runs
        there = np.where(present(run.curves, run.curves.steps), by_peer(run), np.nan)
        _, low, high = middle_half(there.T)
        kept = np.isin(axis.of(run), trace.x)
        return trace._replace(low=low[kept], high=high[kept])
    return trace


def over_seeds(data: SweepData, point: FinishedPoint, x: Curve, values: Array) -> Trace:
    """Curves [S, E] over seeds against an axis, with a band or single seeds."""
    across = np.median([x(run) for run in point.runs], axis=0)
    count = min(len(across), _MOST_POINTS)
    chosen = np.linspace(0, len(across) - 1, count).round().astype(int)
    shown = values[:, chosen]
    few = 1 < len(shown) < statistics.FEWEST_SEEDS
    return Trace(
        point.look,
        across[chosen],
        *band(shown, data.statistic),
        seeds=shown if few else shown[:0],
        compared=data.compared(point),
    )


def by_peer(run: RunResult) -> Array:
    """[E, P] evaluations: shares of the oracle's, or returns where none is known."""
    if np.isfinite(run.curves.oracle).any():
        return run.curves.oracle_fraction
    return run.curves.episode_return


def over_peers(curves: Curves, values: Array) -> Array:
    """[E] mean of ``values`` [E, P] over the honest peers that have joined."""
    return values.mean(axis=1, dtype=float, where=present(curves, curves.steps))


def earned(curves: Curves) -> Array:
    """[E] mean over the honest peers that have joined of what each has earned."""
    return over_peers(curves, earned_by_peer(curves))


def earned_by_peer(curves: Curves) -> Array:
    """[E, P] share of the oracle's earned since the start, exploration included.

    NaN where a peer is byzantine or has not joined.
    """
    counted = present(curves, np.arange(1, len(curves.achieved) + 1))
    there = counted[curves.steps - 1]
    total, oracle = (
        np.where(counted, values, 0.0).cumsum(axis=0)[curves.steps - 1]
        for values in (curves.achieved, curves.oracle)
    )
    share = oracle_fraction(total, np.where(there, oracle, 1.0))
    return np.where(there, share, np.nan)


def band(
    values: Array, statistic: statistics.Statistic = statistics.iqm
) -> tuple[Array, Array, Array]:
    """A statistic over S seeds at each of N places, and its 95 % percentile interval.

    Whole curves are resampled, as one seed's places belong together.

    Args:
      values: [S, N].
      statistic: called with values and ``axis``.

    Returns:
      Middle, low and high, [N] each; all the same below ``FEWEST_SEEDS`` seeds.
    """
    middle = statistic(values, axis=0)
    seeds = len(values)
    if seeds < statistics.FEWEST_SEEDS:
        return middle, middle, middle
    picks = np.random.default_rng(0).integers(seeds, size=(_RESAMPLES, seeds))
    drawn = statistic(values[picks], axis=1)
    tail = (1.0 - statistics.CONFIDENCE) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return middle, low, high


def middle_half(values: Array) -> tuple[Array, Array, Array]:
    """Mean and quartiles of [N, T] over what is there, NaN where nothing is."""
    columns = [column[np.isfinite(column)] for column in values.T]
    found = [
        (c.mean(), *np.quantile(c, (0.25, 0.75))) if c.size else (np.nan,) * 3
        for c in columns
    ]
    middle, low, high = np.array(found, float).reshape(-1, 3).T
    return middle, low, high
