"""Rows of ``metrics.jsonl``, made after every chunk and truncated on resume.

A row is keyed by run (the arm), seed, step, and either ``peer`` or
``"population": true``; ``metrics_columns`` declares its columns. Summaries and reports
read nothing but rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.peer import Evaluation, PeerMetrics
from p2p_sac_jax.simulation.population import RoundMetrics
from p2p_sac_jax.types import Score

Row = dict[str, Any]

_STEP_MEANS = (
    "behaviour_std",
    "model_rollout_fraction",
    "value_weight",
    "std_weight",
)
_STEP_LISTS = ("price", "oracle_price", "cost")  # where an environment has them


def oracle_fraction(achieved: Any, oracle: Any) -> Any:
    """Share of the oracle's reward: 1 is the oracle, also where rewards are costs."""
    return 1.0 - (oracle - achieved) / np.abs(oracle)


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
    rows: list[Row] = []
    for run, (arm, seed) in enumerate(experiment.labels):
        key = {"run": arm, "seed": seed, "step": step}
        peer_rows = [
            {
                **key,
                "peer": peer,
                **_evaluation_columns(experiment, evaluation.score, peer, run),
                **_training_columns(experiment, metrics.peer, peer, run),
                **_exchange_columns(experiment, metrics, peer, run),
                **_trust_column(experiment, trust[peer, run]),
            }
            for peer in peers
        ]
        honest = [row for row in peer_rows if not row.get("byzantine")]
        summary = _population_columns(honest)
        summary |= _calibration_column(evaluation, honest, run)
        rows.append({**key, "population": True, **summary})
        rows.extend(peer_rows)
    return rows


def _evaluation_columns(
    experiment: Experiment, score: Score, peer: int, run: int
) -> Row:
    achieved, oracle, baseline = (float(leaf[peer, run]) for leaf in score)
    row = {"score": achieved}
    if experiment.world.environment.has_oracle:
        row["oracle_fraction"] = float(oracle_fraction(achieved, oracle))
        row["baseline_fraction"] = float(oracle_fraction(baseline, oracle))
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
    if experiment.world.environment.has_oracle:
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
    belief, demand = metrics.belief, experiment.world.environment.demand
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
    result = {"score": float(np.mean([row["score"] for row in rows]))}
    if "oracle_fraction" in rows[0]:
        fractions = np.array([row["oracle_fraction"] for row in rows])
        baseline = np.mean([row["baseline_fraction"] for row in rows])
        result["oracle_fraction"] = float(fractions.mean())
        result["oracle_fraction_worst"] = float(fractions.min())
        result["baseline_fraction"] = float(baseline)
        result["gap_closed"] = float((fractions.mean() - baseline) / (1.0 - baseline))
    return result


class MetricsFile:
    """The rows of one run: in memory in every process, on disk by process 0."""

    def __init__(self, path: Path, step: int) -> None:
        """Opens the file and drops every row after ``step``.

        Raises:
          ConfigError: the rows end before ``step``.
        """
        self._path = path
        self.rows = distributed.broadcast_from_main(lambda: _truncate(path, step))

    def append(self, rows: Iterable[Row]) -> None:
        """Adds rows and writes them."""
        rows = list(rows)
        self.rows.extend(rows)
        if distributed.is_main():
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, rows)))


def _truncate(path: Path, step: int) -> list[Row]:
    """Rows up to ``step``; the file keeps no others."""
    rows = [row for row in read_rows(path) if row["step"] <= step]
    reached = max((row["step"] for row in rows), default=0)
    if reached != step:
        raise ConfigError(
            f"{path} ends at step {reached}, but the checkpoint is of step {step};"
            " --overwrite starts the run anew"
        )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(map(_line, rows)), encoding="utf-8")
    temporary.replace(path)
    return rows


def read_rows(path: Path) -> list[Row]:
    """Rows of a metrics file, without a last line cut short by a crash."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        rows.append(json.loads(line))
    return rows


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
