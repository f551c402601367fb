"""What one population at one seed is judged by: its curves as named quantities.

Byzantine peers, and peers that have not joined yet, count nowhere. A quantity that a
population cannot have, such as earnings in more steps than it was trained, has no
entry in the result; NaN is one that was lost because learning diverged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.experiment.metrics import oracle_fraction
from p2p_sac_jax.experiment.summary import NEWCOMER_STEPS

THRESHOLD = 0.95  # share of the oracle that counts as learned
PERIODS = (25, 50, 100, 200)  # steps at which early quantities are taken
ARRIVAL = f"steps_to_{THRESHOLD:g}"
BYTES, CALIBRATION = "bytes_per_peer", "confidence_calibration"

Array = np.ndarray
Values = dict[str, float]  # by the name of a measure


class Measure(NamedTuple):
    """One quantity of a population, as tables and reports name and write it."""

    name: str  # in tables and files
    label: str  # for a reader; "{step}" is what one environment step is called
    unit: str  # "share" of the oracle's, "return", "steps", "bytes", "correlation"
    better: str = "higher"  # or "lower"
    column: str = ""  # head of a column where the label is too long


_ALL = (
    Measure("final", "final score", "share", column="final"),
    Measure("worst", "final score of the worst peer", "share", column="worst peer"),
    Measure("gap_closed", "gap closed", "share"),
    Measure("jump_start", "first evaluation", "share"),
    Measure("area", "mean score over training", "share"),
    Measure(ARRIVAL, "{step}s to a lasting 95\u00a0%", "steps", "lower"),
    Measure("earned", "earned while learning", "share", column="earned"),
    Measure("newcomers_earned", f"newcomers, first {NEWCOMER_STEPS}", "share"),
    Measure("return_final", "final return", "return"),
    Measure("return_worst", "return of the worst peer", "return"),
    Measure("return_jump_start", "return at the first evaluation", "return"),
    Measure("return_area", "mean return over training", "return"),
    Measure(BYTES, "bytes sent per peer", "bytes", "lower"),
    # Confidence is calibrated where its correlation with the error is well below 0.
    Measure(CALIBRATION, "confidence against error", "correlation", "lower"),
    *(
        measure
        for n in PERIODS
        for measure in (
            Measure(f"score_{n}", f"score after {n} {{step}}s", "share"),
            Measure(f"worst_{n}", f"worst peer after {n} {{step}}s", "share"),
            Measure(
                f"earned_{n}",
                f"earned in the first {n} {{step}}s",
                "share",
                column=f"earned, first {n}",
            ),
            Measure(f"return_score_{n}", f"return after {n} {{step}}s", "return"),
            Measure(
                f"return_worst_{n}",
                f"return of the worst peer after {n} {{step}}s",
                "return",
            ),
        )
    ),
)
MEASURES = {measure.name: measure for measure in _ALL}


class PopulationMeasures(NamedTuple):
    """Measures of one population, and of prices that never move in its market."""

    arm: Values
    historical: Values  # the price before learning, for ever; empty without an oracle
    uniform: Values  # the best constant price; empty where it is not known


def measure(
    curves: Curves,
    *,
    uniform_fraction: ArrayLike | None = None,
) -> PopulationMeasures:
    """The measures of one population.

    Evaluations are means over peers, ``worst`` the lowest peer; ``score_25`` and
    ``worst_25`` are of the evaluation nearest to that step. ``area`` is the mean height
    of the learning curve from the first evaluation (``jump_start``) on; ``gap_closed``
    is 0 at the historical price and 1 at the oracle; ``steps_to_0.95`` is the
    evaluation from which on the mean never falls below that share, inf if it ends
    below. What was ``earned`` is summed over training, in all steps, in the first, or
    since joining late.

    Where the oracle is known, all of these are shares of it and exist for the
    historical price too and, but for earnings, for the best uniform price. Where it is
    not, there are returns of an episode, up to ``return_area``.

    Args:
      curves: of the population.
      uniform_fraction: [P] share of the oracle's that each peer's best constant price
        earns, if known.
    """
    historical: Values = {}
    uniform: Values = {}
    if np.isfinite(curves.oracle).any():
        values = _shares(curves, curves.oracle_fraction)
        values |= _earnings(curves, curves.achieved)
        historical = _shares(curves, curves.baseline_fraction)
        historical |= _earnings(curves, curves.baseline)
        if uniform_fraction is not None:
            constant = np.broadcast_to(uniform_fraction, curves.oracle_fraction.shape)
            uniform = _shares(curves, constant)
    else:
        scores = _scores(curves, curves.episode_return)
        values = {f"return_{name}": value for name, value in scores.items()}
    # Every byte that reached a peer had left another one.
    values[BYTES] = float(np.nansum(curves.bytes_received) / len(curves.joins))
    if np.isfinite(curves.calibration[-1]):
        values[CALIBRATION] = float(curves.calibration[-1])
    return PopulationMeasures(values, historical, uniform)


def present(curves: Curves, clock: Array) -> Array:
    """[N, P] which peers count in a step that ends at each of N times."""
    return ~curves.byzantine & (curves.joins < clock[:, None])


def _scores(curves: Curves, values: Array) -> Values:
    """Measures of evaluations [E, P] in any unit."""
    values, steps = values.astype(float), curves.steps
    there = present(curves, steps)
    mean = values.mean(axis=1, where=there)
    lowest = values.min(axis=1, where=there, initial=np.inf)
    span = steps[-1] - steps[0]
    measured = {
        "final": mean[-1],
        "worst": lowest[-1],
        "jump_start": mean[0],
        "area": np.trapezoid(mean, steps) / span if span else mean[0],
    }
    for period in PERIODS:
        nearest = np.abs(steps - period).argmin()
        if abs(steps[nearest] - period) <= steps[0] / 2:  # the first is one chunk
            measured[f"score_{period}"] = mean[nearest]
            measured[f"worst_{period}"] = lowest[nearest]
    return {name: float(value) for name, value in measured.items()}


def _shares(curves: Curves, values: Array) -> Values:
    """Measures of evaluations [E, P] as shares of the oracle's."""
    there = present(curves, curves.steps)
    mean = values.mean(axis=1, dtype=float, where=there)
    historical = curves.baseline_fraction[-1].mean(dtype=float, where=there[-1])
    measured = _scores(curves, values)
    if historical < 1.0:
        measured["gap_closed"] = float((mean[-1] - historical) / (1.0 - historical))
    measured[ARRIVAL] = _sustained(curves.steps, mean)
    return measured


def _sustained(steps: Array, curve: Array) -> float:
    """The step from which on ``curve`` is never below ``THRESHOLD``."""
    below = np.flatnonzero(~(curve >= THRESHOLD))
    first = below[-1] + 1 if below.size else 0
    return float(steps[first]) if first < len(steps) else np.inf


def _earnings(curves: Curves, values: Array) -> Values:
    """Shares of the oracle's that ``values`` [T, P] sum up to in training."""
    clock = np.arange(1, len(values) + 1)
    there = present(curves, clock)

    def share(counted: Array) -> float:
        """Sums over the counted steps [T, P] of each peer, then the mean over peers."""
        peers = counted.any(axis=0)
        earned = values.sum(axis=0, dtype=float, where=counted)[peers]
        attainable = curves.oracle.sum(axis=0, dtype=float, where=counted)[peers]
        return float(oracle_fraction(earned, attainable).mean())

    measured = {"earned": share(there)}
    for period in PERIODS:
        if period <= len(values):
            measured[f"earned_{period}"] = share(there & (clock <= period)[:, None])
    joins = np.where(curves.byzantine, 0, curves.joins).astype(np.int64)
    if joins.any() and joins.max() + NEWCOMER_STEPS <= len(values):
        fresh = (joins > 0) & (clock[:, None] <= joins + NEWCOMER_STEPS)
        measured["newcomers_earned"] = share(there & fresh)
    return measured
