"""Curves of one population against what learning costs, and their bands over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.report.figures import Array, Quantity, Trace
from p2p_sac_jax.report.theme import Look

Curve = Callable[[RunResult], Array]  # [E] of one population
_RESAMPLES = 1000  # a band is looked at, not quoted
_MOST_POINTS = 150  # of a line: more cannot be seen


class CostAxis(NamedTuple):
    """A way to count what learning has cost by an evaluation."""

    title: str
    quantity: Quantity
    of: Curve


def cost_axes(step: str) -> list[CostAxis]:
    """The axes to choose from.

    Args:
      step: what one environment step is called.
    """

    def steps(run: RunResult) -> Array:
        return run.curves.steps.astype(float)

    def seconds(run: RunResult) -> Array:
        return run.meta["run_s"] * steps(run) / run.curves.steps[-1]

    def sent(run: RunResult) -> Array:
        # Every byte that reached a peer had left another one.
        received = np.nansum(run.curves.bytes_received, axis=1)
        return np.cumsum(received) / len(run.curves.joins)

    return [
        CostAxis(f"{step}s per peer", Quantity(f"{step} of training", step), steps),
        CostAxis(
            f"total {step}s",
            Quantity(f"{step}s of training, all peers together"),
            lambda run: steps(run) * len(run.curves.joins),
        ),
        CostAxis(
            "wall clock",
            Quantity("seconds, share of its batch, without compiling"),
            seconds,
        ),
        CostAxis("bytes", Quantity("bytes sent per peer"), sent),
    ]


def has_oracle(curves: Curves) -> bool:
    """Whether the best attainable reward is known."""
    return bool(np.isfinite(curves.oracle).any())


def by_peer(curves: Curves, evaluation_weeks: int) -> Array:
    """[E, P] evaluations: shares of the oracle's, or returns where none is known."""
    if has_oracle(curves):
        return curves.oracle_fraction
    return curves.score * evaluation_weeks


def over_peers(curves: Curves, values: Array) -> Array:
    """[E] mean of ``values`` [E, P] over the honest peers that have joined."""
    return values.mean(axis=1, dtype=float, where=present(curves, curves.steps))


def lowest(curves: Curves, values: Array) -> Array:
    """[E] lowest of ``values`` [E, P] among the same peers."""
    there = present(curves, curves.steps)
    return values.min(axis=1, where=there, initial=np.inf)


def earned(curves: Curves, achieved: Array) -> Array:
    """[E] share of the oracle's earned since the start, exploration included.

    Args:
      curves: of the population.
      achieved: [T, P] reward of each training step, its own or another price's.
    """
    counted = present(curves, np.arange(1, len(achieved) + 1))
    there = counted[curves.steps - 1]
    total, oracle = (
        np.where(counted, values, 0.0).cumsum(axis=0)[curves.steps - 1]
        for values in (achieved, curves.oracle)
    )
    share = oracle_fraction(total, np.where(there, oracle, 1.0))
    return share.mean(axis=1, where=there)


def present(curves: Curves, clock: Array) -> Array:
    """[N, P] which peers count in a step that ends at each of N times."""
    return ~curves.byzantine & (curves.joins < clock[:, None])


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


def band_trace(look: Look, x: Array, values: Array, label: str = "") -> Trace:
    """IQM of curves [S, E] with its band, against ``x`` [E]."""
    count = min(len(x), _MOST_POINTS)
    chosen = np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))
    return Trace(label or look.label, look, x[chosen], *band(values[:, chosen]))
