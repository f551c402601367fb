"""Rows of ``metrics.jsonl``: made after every chunk, truncated on resume.

A row is keyed by run (the arm), seed, step, and either ``peer`` or
``"population": true``. Everything a report or a summary needs is in the rows, so
both can be remade from the file alone.
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
from p2p_sac_jax.simulation.network import ExchangeMetrics
from p2p_sac_jax.simulation.population import RoundMetrics
from p2p_sac_jax.types import Score

Row = dict[str, Any]

_MEANS = (
    "behaviour_std",
    "model_rollout_fraction",
    "value_weight",
    "std_weight",
)
_BY_STEP = ("price", "oracle_price", "cost")  # where an environment has them


def fraction(achieved: Any, oracle: Any) -> Any:
    """Share of the attainable: 1 is the oracle, also where rewards are costs."""
    return 1.0 - (oracle - achieved) / np.abs(oracle)


def chunk_rows(
    setup: Experiment,
    step: int,
    metrics: RoundMetrics,
    evaluation: Evaluation,
    trust: Any,
) -> list[Row]:
    """Rows of one chunk that ended at ``step``.

    Args:
      setup: names the runs and the peers.
      step: environment steps taken by the clock.
      metrics: of the chunk, leaves [rounds, P, R, ...].
      evaluation: leaves [P, R, ...], of the greedy policies.
      trust: [P, R, J] opinions at the end of the chunk.

    Returns:
      For every run one row of the population and one of each peer that has joined.
    """
    metrics, evaluation, trust = distributed.gather((metrics, evaluation, trust))
    joins = np.asarray(setup.run_inputs.senders.joins)
    peers = [p for p in range(setup.config.population.peers) if joins[p] < step]
    rows: list[Row] = []
    for run, (arm, seed) in enumerate(setup.labels):
        key = {"run": arm, "seed": seed, "step": step}
        peer_rows = [
            {
                **key,
                "peer": peer,
                **_evaluated(setup, evaluation.score, peer, run),
                **_trained(setup, metrics.peer, peer, run),
                **_exchanged(setup, metrics.exchange, trust, peer, run),
            }
            for peer in peers
        ]
        honest = [row for row in peer_rows if not row.get("byzantine")]
        summary = _population(honest) | _rated(evaluation, honest, run)
        rows.append({**key, "population": True, **summary})
        rows.extend(peer_rows)
    return rows


def _evaluated(setup: Experiment, evaluation: Score, peer: int, run: int) -> Row:
    achieved, oracle, baseline = (float(leaf[peer, run]) for leaf in evaluation)
    row = {"score": achieved}
    if setup.world.environment.has_oracle:
        row["oracle_fraction"] = float(fraction(achieved, oracle))
        row["baseline_fraction"] = float(fraction(baseline, oracle))
    return row


def _trained(setup: Experiment, metrics: PeerMetrics, peer: int, run: int) -> Row:
    """One peer's training in this chunk: lists by step, means of diagnostics."""

    def by_step(leaf: Any) -> np.ndarray:
        return np.concatenate(leaf[:, peer, run])

    def listed(leaf: Any) -> list[float]:
        return [round(float(value), 6) for value in by_step(leaf)]

    row: Row = {"achieved": listed(metrics.score.achieved)}
    if setup.world.environment.has_oracle:
        row["oracle"] = listed(metrics.score.oracle)
        row["baseline"] = listed(metrics.score.baseline)
    for name in _BY_STEP:
        if hasattr(metrics.info, name):
            row[name] = listed(getattr(metrics.info, name))
    for name in _MEANS:
        row[name] = float(by_step(getattr(metrics, name)).mean())
    if setup.config.learner == "sac":
        for name, leaf in metrics.learner._asdict().items():
            row[name] = float(by_step(leaf).mean())
    belief = metrics.belief
    if belief.mean.shape[-1] > 1:
        mean, covariance = by_step(belief.mean)[-1], by_step(belief.covariance)[-1]
        row["demand_slope"] = float(mean[1])
        row["demand_slope_std"] = float(np.sqrt(covariance[1, 1]))
    return row


def _exchanged(
    setup: Experiment, report: ExchangeMetrics, trust: Any, peer: int, run: int
) -> Row:
    """What one peer sent and heard in this chunk, and at what price in privacy."""
    weighing = report.weighing._asdict()
    row: Row = {
        name: float(leaf[:, peer, run].mean()) for name, leaf in weighing.items()
    }
    releases = int(report.releases[-1, peer, run])
    row |= {
        "has_prior": float(report.has_prior[:, peer, run].mean()),
        "bytes_received": float(report.bytes_received[:, peer, run].sum()),
        "sent": float(report.sent[:, peer, run].sum()),
        "releases": releases,
    }
    if setup.config.exchange.mode != "private":
        epsilon = setup.accountant.epsilon(releases)
        row["epsilon"] = epsilon if math.isfinite(epsilon) else None
    if setup.config.weights.trust_rate > 0:
        opinion = trust[peer, run, : setup.config.population.peers]
        row["trust"] = [round(float(x), 4) for x in opinion / opinion.max()]
    if setup.byzantine[peer]:
        row["byzantine"] = True
    return row


def _rated(evaluation: Evaluation, rows: list[Row], run: int) -> Row:
    """Correlation of confidence with error, over all cells of the peers in ``rows``.

    Well below 0 where confidence means something: what is claimed with confidence is
    nearer to the return that follows.
    """
    peers = [row["peer"] for row in rows]
    confidence, error, visits = (
        leaf[peers, run].ravel() for leaf in evaluation.confidence_error
    )
    confidence, error = confidence[visits > 0], error[visits > 0]
    if confidence.size < 3 or not (confidence.std() > 0 and error.std() > 0):
        return {}
    return {"confidence_calibration": float(np.corrcoef(confidence, error)[0, 1])}


def _population(rows: list[Row]) -> Row:
    """Means of the honest peers: what a liar earns is no concern of the network."""
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
    """The rows of one run: in memory in every process, on disk by the writer."""

    def __init__(self, path: Path, step: int) -> None:
        """Opens the file and forgets every row after ``step``.

        Raises:
          ConfigError: the rows do not reach ``step``.
        """
        self._path = path
        self.rows = distributed.broadcast_from_main(lambda: _rows_until(path, step))

    def append(self, rows: Iterable[Row]) -> None:
        """Adds rows and hands them to the operating system."""
        rows = list(rows)
        self.rows.extend(rows)
        if distributed.is_main():
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, rows)))


def _rows_until(path: Path, step: int) -> list[Row]:
    """Rows up to ``step``, which are all that the file holds from now on."""
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
    """Rows of a metrics file; a last line cut short by a crash is left out."""
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
