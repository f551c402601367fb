"""Curves of a point against what learning costs: steps, time, bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.report.sweep.charts import Trace
from p2p_sac_jax.report.sweep.data import Seen

Array = np.ndarray
Curve = Callable[[RunResult], Array]  # [E], of one population

_RESAMPLES = 1000  # a band is looked at, not quoted
_MOST_POINTS = 150  # of a line: more cannot be seen


class Axis(NamedTuple):
    """A way to count what learning has cost by an evaluation."""

    title: str
    label: str  # quantity and unit
    of: Curve


def axes(unit: str) -> list[Axis]:
    """The axes to choose from.

    Args:
      unit: what one environment step is called.
    """
    return [
        Axis(f"{unit}s per peer", f"{unit} of training", _steps),
        Axis(
            f"total {unit}s",
            f"{unit}s of training, all peers together",
            lambda cell: _steps(cell) * _peers(cell),
        ),
        Axis("wall clock", "seconds, share of its batch, without compiling", _seconds),
        Axis("bytes", "bytes sent per peer", _bytes),
    ]


def score(cell: RunResult) -> Array:
    """Mean over peers of the greedy policy's share of the oracle's, or its return."""
    curves = cell.curves
    if np.isfinite(curves.oracle).any():
        return _mean(curves, curves.oracle_fraction)
    return _mean(curves, curves.score) * cell.meta["config"]["evaluation_weeks"]


def earned(cell: RunResult) -> Array:
    """Share of the oracle's earned since the start, exploration included."""
    curves = cell.curves
    present = _present(curves, np.arange(1, len(curves.achieved) + 1))
    there = present[curves.steps - 1]
    achieved, oracle = (
        np.where(present, values, 0.0).cumsum(axis=0)[curves.steps - 1]
        for values in (curves.achieved, curves.oracle)
    )
    share = oracle_fraction(achieved, np.where(there, oracle, 1.0))
    return share.mean(axis=1, where=there)


def diagnostic(name: str) -> Curve:
    """Mean over peers of a diagnostic."""
    return lambda cell: _mean(cell.curves, cell.curves.diagnostics[name])


def trace(seen: Seen, axis: Axis, curve: Curve, label: str = "") -> Trace:
    """IQM of a curve over seeds with its band, against an axis."""
    values = np.array([curve(cell) for cell in seen.cells])
    x = np.median([axis.of(cell) for cell in seen.cells], axis=0)
    count = min(len(x), _MOST_POINTS)
    chosen = np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))
    return Trace(
        label or seen.look.label, seen.look, x[chosen], *band(values[:, chosen])
    )


def band(values: Array) -> tuple[Array, Array, Array]:
    """IQM over S seeds at each of N places, and its 95 % percentile interval.

    Whole curves are resampled, as one seed's places belong together.

    Args:
      values: [S, N].

    Returns:
      Middle, low and high, [N] each; all the same where there is one seed.
    """
    middle = statistics.iqm(values, axis=0)
    seeds = len(values)
    if seeds < 2:
        return middle, middle, middle
    picks = np.random.default_rng(0).integers(seeds, size=(_RESAMPLES, seeds))
    drawn = statistics.iqm(values[picks], axis=1)
    tail = (1.0 - statistics.CONFIDENCE) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return middle, low, high


def _mean(curves: Curves, values: Array) -> Array:
    """[E] mean over the honest peers that have joined."""
    return values.mean(axis=1, dtype=float, where=_present(curves, curves.steps))


def _present(curves: Curves, clock: Array) -> Array:
    return ~curves.byzantine & (curves.joins < clock[:, None])


def _steps(cell: RunResult) -> Array:
    return cell.curves.steps.astype(float)


def _peers(cell: RunResult) -> int:
    return len(cell.curves.joins)


def _seconds(cell: RunResult) -> Array:
    return cell.meta["run_s"] * _steps(cell) / cell.curves.steps[-1]


def _bytes(cell: RunResult) -> Array:
    # Every byte that reached a peer had left another one.
    return np.cumsum(np.nansum(cell.curves.bytes_received, axis=1)) / _peers(cell)
