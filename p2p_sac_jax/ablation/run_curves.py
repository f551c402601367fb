"""The arrays that a run of a sweep leaves: one population at one seed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.experiment.metrics import Row

Array = np.ndarray
_EVALUATED = (
    "episode_return",
    "oracle_fraction",
    "baseline_fraction",
    "bytes_received",
)


class Curves(NamedTuple):
    """One population, one seed; E evaluations, T environment steps, P peers.

    Values that do not exist are NaN: shares of the oracle where none is known,
    everything of a peer that has not joined yet.
    """

    steps: Array  # [E] int32 environment steps taken at each evaluation
    joins: Array  # [P] int32 step at which each peer joins
    byzantine: Array  # [P] bool
    episode_return: Array  # [E, P] of the greedy policy, where no oracle is known
    oracle_fraction: Array  # [E, P] its reward as a share of the oracle's
    baseline_fraction: Array  # [E, P] historical price as a share of the oracle's
    achieved: Array  # [T, P] expected reward of each training step
    oracle: Array  # [T, P] the oracle's, on the same noise
    baseline: Array  # [T, P] the historical price's
    bytes_received: Array  # [E, P] in each chunk
    calibration: Array  # [E] correlation of confidence and error, whole population
    trust: Array  # [E, P, P] of receiver i in sender j, or [0, P, P]


def curves_of_rows(rows: Sequence[Row], joins: Array, byzantine: Array) -> Curves:
    """Turns the rows of one run (see ``experiment.metrics``) into arrays.

    Args:
      rows: of one run at one seed, all steps.
      joins: [P] step at which each peer joins.
      byzantine: [P] which peers are byzantine.
    """
    steps = sorted({row["step"] for row in rows})
    at = {step: index for index, step in enumerate(steps)}
    chunk = steps[0]
    shape = len(steps), len(joins)
    by_chunk = {name: np.full(shape, np.nan, np.float32) for name in _EVALUATED}
    by_step = {
        name: np.full((steps[-1], len(joins)), np.nan, np.float32)
        for name in ("achieved", "oracle", "baseline")
    }
    calibration = np.full(len(steps), np.nan, np.float32)
    has_trust = any("trust" in row for row in rows)
    trust = np.full((len(steps) if has_trust else 0, len(joins), len(joins)), np.nan)
    for row in rows:
        index = at[row["step"]]
        if "peer" not in row:
            calibration[index] = row.get("confidence_calibration", np.nan)
            continue
        peer, end = row["peer"], row["step"]
        for name, values in by_chunk.items():
            value = row.get(name)
            values[index, peer] = np.nan if value is None else value
        for name, values in by_step.items():
            if name in row:
                values[end - chunk : end, peer] = row[name]
        if "trust" in row:
            trust[index, peer] = row["trust"]
    return Curves(
        steps=np.array(steps, np.int32),
        joins=np.asarray(joins, np.int32),
        byzantine=np.asarray(byzantine, bool),
        **by_chunk,
        **by_step,
        calibration=calibration,
        trust=trust.astype(np.float32),
    )


def curves_bytes(curves: Curves) -> bytes:
    """Content of a compressed ``.npz`` file."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **curves._asdict())
    return stream.getvalue()


def parse_curves(content: bytes) -> Curves:
    """What ``curves_bytes`` wrote."""
    with np.load(io.BytesIO(content)) as file:
        return Curves(**{name: file[name] for name in Curves._fields})
