"""Divergence: the first value of a peer that is not finite, or beyond all measure.

It is looked for on the host, in the metrics that a chunk returns anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from p2p_sac_jax.peer import Evaluation, PeerMetrics

LIMIT = 1e12  # rewards are of order one: a loss beyond it means a TD error of a million
_FIRST = ("alpha", "critic_loss", "actor_loss")  # causes before their consequences


class Diverged(Exception):
    """A peer diverged and ``on_divergence`` is ``stop``; earlier results are kept."""

    exit_status = 3


def first_divergences(
    metrics: PeerMetrics, evaluation: Evaluation, end: int
) -> dict[tuple[int, int], str]:
    """Names what diverged first in a chunk, and at which step.

    Args:
      metrics: of the chunk, leaves [rounds, P, R, S, ...], NumPy.
      evaluation: at its end, leaves [P, R, ...], NumPy.
      end: environment steps at the end of the chunk.

    Returns:
      By peer and run, for example ``"alpha at step 5"``; only those that diverged.
    """
    found: dict[tuple[int, int], tuple[int, str]] = {}
    learner = metrics.learner._asdict()
    order = [*_FIRST, *(name for name in learner if name not in _FIRST)]
    last = np.asarray(evaluation.score.achieved)[None, :, :, None]
    for name, leaf, final in (
        *((name, learner[name], 0) for name in order),
        ("reward", metrics.score.achieved, 0),
        ("demand posterior", metrics.belief.mean, 0),
        ("evaluation_reward", last, 1),
    ):
        leaf = np.asarray(leaf)
        beyond: Any = ~(np.abs(leaf) <= LIMIT)
        if not beyond.any():
            continue
        by_step = np.moveaxis(beyond.reshape(*leaf.shape[:4], -1).any(-1), 0, 2)
        by_step = by_step.reshape(*by_step.shape[:2], -1)  # [P, R, steps]
        start = end - by_step.shape[-1] + 1 if not final else end
        for peer, run in zip(*np.nonzero(by_step.any(-1)), strict=True):
            step = start + int(by_step[peer, run].argmax())
            key = int(peer), int(run)
            if key not in found or step < found[key][0]:
                found[key] = step, f"{name} at step {step}"
    return {key: text for key, (_, text) in found.items()}


def divergence_lines(
    rows: Iterable[dict[str, Any]], known: Iterable[dict[str, Any]] = ()
) -> Iterator[str]:
    """One line for each peer that diverges in ``rows`` and did not in ``known``."""
    seen = {_peer(row) for row in known if "diverged" in row}
    for row in rows:
        if "diverged" in row and _peer(row) not in seen:
            seen.add(_peer(row))
            yield f"{row['run']}, seed {row['seed']}: {describe_divergence(row)}"


def describe_divergence(row: dict[str, Any]) -> str:
    """The peer, the quantity and the step, of a row with a column ``diverged``."""
    what = f"{row['diverged']} is not finite or beyond {LIMIT:g}"
    return f"peer {row['peer']} diverged: {what}"


def _peer(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["run"], row["seed"], row["peer"]
