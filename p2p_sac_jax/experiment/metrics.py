"""Rows of ``metrics.jsonl``, made after every chunk and truncated on resume.

A row is keyed by run (the arm), seed, step, and either ``peer`` or
``"population": true``; ``metrics_columns`` declares its columns. Summaries and reports
read nothing but rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.experiment.divergence import first_divergences
from p2p_sac_jax.files import strict_json, write_atomic
from p2p_sac_jax.peer import Evaluation, PeerMetrics
from p2p_sac_jax.simulation.population import RoundMetrics

Row = dict[str, Any]
_log = logging.getLogger(__name__)

_STEP_MEANS = (
    "behaviour_std",
    "model_rollout_fraction",
    "value_weight",
    "std_weight",
)
_STEP_LISTS = ("price", "oracle_price", "cost")  # where an environment has them


def oracle_fraction(achieved: Any, oracle: Any) -> Any:
    """Share of the oracle's reward: 1 is the oracle, also where rewards are costs.

    NaN where the oracle earns nothing either.
    """
    whole = np.where(np.equal(oracle, 0.0), np.nan, np.abs(oracle))
    return 1.0 - np.subtract(oracle, achieved) / whole


@np.errstate(invalid="ignore", over="ignore")  # what diverged is named in the rows
def chunk_rows(
    experiment: Experiment,
    step: int,
    metrics: RoundMetrics,
    evaluation: Evaluation,
    trust: Any,
) -> list[Row]:
    """Rows of the chunk that ended at ``step``.

    Args:
      experiment: names the runs and the peers.
      step: environment steps at the end of the chunk.
      metrics: of the chunk, leaves [rounds, P, R, ...].
      evaluation: of the greedy policies, leaves [P, R, ...].
      trust: [P, R, J] at the end of the chunk.

    Returns:
      For every run one row of the population and one of each peer that has joined.
    """
    metrics, evaluation, trust = distributed.gather((metrics, evaluation, trust))
    joins = np.asarray(experiment.run_inputs.senders.joins)
    peers = [p for p in range(experiment.config.population.peers) if joins[p] < step]
    diverged = first_divergences(metrics.peer, evaluation, step)
    rows: list[Row] = []
    for run, (arm, seed) in enumerate(experiment.labels):
        key = {"run": arm, "seed": seed, "step": step}
        peer_rows = [
            {
                **key,
                "peer": peer,
                **_evaluation_columns(experiment, evaluation, peer, run),
                **_training_columns(experiment, metrics.peer, peer, run),
                **_exchange_columns(experiment, metrics, peer, run),
                **_trust_column(experiment, trust[peer, run]),
                **_divergence_column(diverged.get((peer, run))),
            }
            for peer in peers
        ]
        honest = [row for row in peer_rows if not row.get("byzantine")]
        summary = _population_columns(honest)
        summary |= _calibration_column(evaluation, honest, run)
        rows.append({**key, "population": True, **summary})
        rows.extend(peer_rows)
    return rows


def _divergence_column(text: str | None) -> Row:
    return {} if text is None else {"diverged": text}


def _evaluation_columns(
    experiment: Experiment, evaluation: Evaluation, peer: int, run: int
) -> Row:
    achieved, oracle, baseline = (float(x[peer, run]) for x in evaluation.score)
    row = {"evaluation_reward": achieved}
    if experiment.environment.has_oracle:
        row["oracle_fraction"] = float(oracle_fraction(achieved, oracle))
        row["baseline_fraction"] = float(oracle_fraction(baseline, oracle))
    else:
        row["episode_return"] = float(evaluation.episode_return[peer, run])
    return row


def _training_columns(
    experiment: Experiment, metrics: PeerMetrics, peer: int, run: int
) -> Row:
    """One peer's training in the chunk: lists over steps, means of diagnostics."""

    def by_step(leaf: Any) -> np.ndarray:
        return np.concatenate(leaf[:, peer, run])

    def listed(leaf: Any) -> list[float]:
        return [round(float(value), 6) for value in by_step(leaf)]

    row: Row = {"achieved": listed(metrics.score.achieved)}
    if experiment.environment.has_oracle:
        row["oracle"] = listed(metrics.score.oracle)
        row["baseline"] = listed(metrics.score.baseline)
    for name in _STEP_LISTS:
        if hasattr(metrics.info, name):
            row[name] = listed(getattr(metrics.info, name))
    for name in _STEP_MEANS:
        row[name] = float(by_step(getattr(metrics, name)).mean())
    if experiment.config.learner == "sac":
        for name, leaf in metrics.learner._asdict().items():
            row[name] = float(by_step(leaf).mean())
    belief, demand = metrics.belief, experiment.environment.demand
    slope = None if demand is None else demand.price_slope
    if belief.mean.shape[-1] > 1 and slope is not None:
        mean, covariance = by_step(belief.mean)[-1], by_step(belief.covariance)[-1]
        row["demand_slope"] = float(mean[slope])
        row["demand_slope_std"] = float(np.sqrt(covariance[slope, slope]))
    return row


def _exchange_columns(
    experiment: Experiment, metrics: RoundMetrics, peer: int, run: int
) -> Row:
    """What one peer sent and received in the chunk, and its privacy loss."""
    row: Row = {
        name: float(leaf[:, peer, run].mean())
        for name, leaf in metrics.exchange._asdict().items()
    }
    traffic = metrics.traffic
    releases = int(traffic.releases[-1, peer, run])
    row |= {
        "bytes_received": float(traffic.bytes_received[:, peer, run].sum()),
        "sent": float(traffic.sent[:, peer, run].sum()),
        "releases": releases,
    }
    if experiment.config.exchange.mode != "private":
        epsilon = experiment.accountant.epsilon(releases)
        row["epsilon"] = epsilon if math.isfinite(epsilon) else None
    if experiment.byzantine[peer]:
        row["byzantine"] = True
    return row


def _trust_column(experiment: Experiment, trust: np.ndarray) -> Row:
    if experiment.config.weights.trust_rate == 0:
        return {}
    trust = trust[: experiment.config.population.peers]
    return {"trust": [round(float(x), 4) for x in trust / trust.max()]}


def _calibration_column(evaluation: Evaluation, rows: list[Row], run: int) -> Row:
    """Correlation of confidence and error, over all visited cells of the peers."""
    peers = [row["peer"] for row in rows]
    confidence, error, visits = (
        leaf[peers, run].ravel() for leaf in evaluation.confidence_error
    )
    confidence, error = confidence[visits > 0], error[visits > 0]
    if confidence.size < 3 or not (confidence.std() > 0 and error.std() > 0):
        return {}
    return {"confidence_calibration": float(np.corrcoef(confidence, error)[0, 1])}


def _population_columns(rows: list[Row]) -> Row:
    """Means over the honest peers."""
    result = {
        name: float(np.mean([row[name] for row in rows]))
        for name in ("evaluation_reward", "episode_return")
        if name in rows[0]
    }
    if "oracle_fraction" in rows[0]:
        fractions = np.array([row["oracle_fraction"] for row in rows])
        baseline = np.mean([row["baseline_fraction"] for row in rows])
        result["oracle_fraction"] = float(fractions.mean())
        result["oracle_fraction_worst"] = float(fractions.min())
        result["baseline_fraction"] = float(baseline)
        result["gap_closed"] = float((fractions.mean() - baseline) / (1.0 - baseline))
    return result


class FileMark(NamedTuple):
    """A place in a file that only grows, and what stands before it."""

    size: int  # bytes
    sha256: str  # of these bytes


class MetricsFile:
    """The rows of one run: in memory in every process, on disk by process 0.

    Attributes:
      rows: of the run so far.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file of a run; ``resume`` reads its rows."""
        self._path = path
        self.rows: list[Row] = []
        self._size, self._digest = 0, hashlib.sha256()

    def holds(self, mark: FileMark) -> bool:
        """Whether the file still begins as it did when ``mark`` was taken."""
        try:
            with self._path.open("rb") as file:
                content = file.read(mark.size)
        except FileNotFoundError:
            content = b""
        same = hashlib.sha256(content).hexdigest() == mark.sha256
        return same and len(content) == mark.size

    def resume(self, mark: FileMark | None) -> None:
        """Drops everything behind ``mark``, everything if it is None."""

        def keep() -> bytes:
            content = self._path.read_bytes()[: mark.size] if mark else b""
            write_atomic(self._path, content)
            return content

        content = distributed.broadcast_from_main(keep)
        self._size, self._digest = len(content), hashlib.sha256(content)
        self.rows = [_with_nan(json.loads(line)) for line in content.splitlines()]

    def append(self, rows: Iterable[Row]) -> None:
        """Adds rows and writes them."""
        rows = list(rows)
        self.rows.extend(rows)
        if not distributed.is_main():
            return
        content = "".join(strict_json(row) + "\n" for row in rows).encode()
        self._size += len(content)
        self._digest.update(content)
        try:
            with self._path.open("ab") as file:
                file.write(content)
        except OSError as error:  # names no file where the disk is full
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def mark(self) -> FileMark:
        """The end of the file."""
        return FileMark(self._size, self._digest.hexdigest())


def read_rows(path: Path) -> list[Row]:
    """Rows of a metrics file, without damaged lines, which are logged.

    A last line that was cut short by a crash, or is being written, is no damage.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    rows, damaged = [], []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append(_with_nan({**row, "step": row["step"]}))
        except (ValueError, TypeError, KeyError):
            damaged.append(number)
    if damaged:
        _log.warning(
            "%s: %d damaged lines are left out, the first is line %d",
            *(path, len(damaged), damaged[0]),
        )
    return rows


def _with_nan(row: Row) -> Row:
    """A null stands for a number that is not finite; in ``epsilon``, for no bound."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    return {
        name: [*map(number, value)] if isinstance(value, list) else number(value)
        for name, value in row.items()
        if name != "epsilon"
    } | {name: row[name] for name in ("epsilon",) if name in row}
