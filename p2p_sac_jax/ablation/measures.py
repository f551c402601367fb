"""What one population at one seed is judged by: its curves as named figures.

Liars, and peers that have not joined yet, count nowhere. A figure that a population
cannot have, such as earnings in more steps than it was trained, has no name in the
result; NaN is one that was lost because learning diverged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.experiment.metrics import fraction
from p2p_sac_jax.experiment.summary import NEWCOMER_STEPS

THRESHOLD = 0.95  # share of the oracle that counts as learned
PERIODS = (25, 50, 100, 200)  # steps at which early figures are taken
# Prefixes of the same figures of prices that never move: the usual one, and the best.
HISTORICAL, UNIFORM = "historical_", "uniform_"
STEPS_TO, RETURN = "steps_to_", "return_"  # how names of these figures begin
BYTES, CALIBRATION = "bytes_per_peer", "confidence_calibration"

Array = np.ndarray
Figures = dict[str, float]


def measure(
    curves: Curves,
    *,
    evaluation_weeks: int,
    uniform_fraction: ArrayLike | None = None,
    threshold: float = THRESHOLD,
) -> Figures:
    """The figures of one population.

    Where the oracle is known, everything earned is a share of it:

    * ``final`` and ``worst``: the last evaluation, mean over peers and the lowest;
    * ``score_25``, ``worst_25`` and so on: the same two at the evaluation nearest to
      that step;
    * ``jump_start``: the first evaluation;
    * ``area``: mean height of the learning curve from the first evaluation on;
    * ``gap_closed``: the last evaluation on a scale where the historical price is 0
      and the oracle 1;
    * ``steps_to_0.95``: the evaluation from which on the mean over peers never falls
      below that share, inf if it ends below;
    * ``earned``, ``earned_25`` and so on: in training, in all steps and in the first;
    * ``newcomers_earned``: in the first ``NEWCOMER_STEPS`` steps after joining late.

    All of these exist with the prefix ``historical_`` and, but for earnings, with
    ``uniform_``. Where no oracle is known there are ``return_final``, ``return_worst``
    and so on, of an evaluation episode, up to ``return_area``. ``bytes_per_peer``, of
    the whole run, and ``confidence_calibration``, at its end, are of both.

    Args:
      curves: of the population.
      evaluation_weeks: steps of an evaluation episode.
      uniform_fraction: [P] share of the oracle's that each peer's best constant price
        earns, if known.
      threshold: share of the oracle's to reach and keep.
    """
    if np.isfinite(curves.oracle).any():
        figures = _shares(curves, curves.oracle_fraction, threshold)
        figures |= _earnings(curves, curves.achieved)
        historical = _shares(curves, curves.baseline_fraction, threshold)
        figures |= _named(HISTORICAL, historical | _earnings(curves, curves.baseline))
        if uniform_fraction is not None:
            constant = np.broadcast_to(uniform_fraction, curves.score.shape)
            figures |= _named(UNIFORM, _shares(curves, constant, threshold))
    else:
        figures = _named(RETURN, _scores(curves, curves.score * evaluation_weeks))
    # Every byte that reached a peer had left another one.
    figures[BYTES] = float(np.nansum(curves.bytes_received) / len(curves.joins))
    if np.isfinite(curves.calibration[-1]):
        figures[CALIBRATION] = float(curves.calibration[-1])
    return figures


def lower_is_better(name: str) -> bool:
    """Whether less of this figure is an improvement.

    Confidence is calibrated where its correlation with the error is well below 0.
    """
    name = name.removeprefix(HISTORICAL).removeprefix(UNIFORM)
    return name.startswith(STEPS_TO) or name in (BYTES, CALIBRATION)


def _named(prefix: str, figures: Figures) -> Figures:
    return {prefix + name: value for name, value in figures.items()}


def _present(curves: Curves, clock: Array) -> Array:
    """[N, P] who counts in a step that ends at each of N times of the clock."""
    return ~curves.byzantine & (curves.joins < clock[:, None])


def _scores(curves: Curves, values: Array) -> Figures:
    """Figures of evaluations [E, P] in any unit."""
    values, steps = values.astype(float), curves.steps
    present = _present(curves, steps)
    mean = values.mean(axis=1, where=present)
    lowest = values.min(axis=1, where=present, initial=np.inf)
    span = steps[-1] - steps[0]
    figures = {
        "final": mean[-1],
        "worst": lowest[-1],
        "jump_start": mean[0],
        "area": np.trapezoid(mean, steps) / span if span else mean[0],
    }
    for period in PERIODS:
        nearest = np.abs(steps - period).argmin()
        if abs(steps[nearest] - period) <= steps[0] / 2:  # the first is one chunk
            figures[f"score_{period}"] = mean[nearest]
            figures[f"worst_{period}"] = lowest[nearest]
    return {name: float(value) for name, value in figures.items()}


def _shares(curves: Curves, values: Array, threshold: float) -> Figures:
    """Figures of evaluations [E, P] as shares of the oracle's."""
    present = _present(curves, curves.steps)
    mean = values.mean(axis=1, dtype=float, where=present)
    historical = curves.baseline_fraction[-1].mean(dtype=float, where=present[-1])
    figures = _scores(curves, values)
    if historical < 1.0:
        figures["gap_closed"] = float((mean[-1] - historical) / (1.0 - historical))
    figures[f"{STEPS_TO}{threshold:g}"] = _sustained(curves.steps, mean, threshold)
    return figures


def _sustained(steps: Array, curve: Array, threshold: float) -> float:
    """The step from which on ``curve`` is never below ``threshold``."""
    below = np.flatnonzero(~(curve >= threshold))
    first = below[-1] + 1 if below.size else 0
    return float(steps[first]) if first < len(steps) else np.inf


def _earnings(curves: Curves, values: Array) -> Figures:
    """Shares of the oracle's that ``values`` [T, P] sum up to in training."""
    clock = np.arange(1, len(values) + 1)
    present = _present(curves, clock)

    def share(counted: Array) -> float:
        """Sums over the counted steps [T, P] of each peer, then the mean over peers."""
        peers = counted.any(axis=0)
        earned = values.sum(axis=0, dtype=float, where=counted)[peers]
        attainable = curves.oracle.sum(axis=0, dtype=float, where=counted)[peers]
        return float(fraction(earned, attainable).mean())

    figures = {"earned": share(present)}
    for period in PERIODS:
        if period <= len(values):
            figures[f"earned_{period}"] = share(present & (clock <= period)[:, None])
    joins = np.where(curves.byzantine, 0, curves.joins).astype(np.int64)
    if joins.any() and joins.max() + NEWCOMER_STEPS <= len(values):
        fresh = (joins > 0) & (clock[:, None] <= joins + NEWCOMER_STEPS)
        figures["newcomers_earned"] = share(present & fresh)
    return figures
