"""The columns of ``metrics.jsonl``, each declared once.

``docs/runs.md`` shows them as a table:
``python -m p2p_sac_jax.experiment.metrics_columns`` prints it.
"""

from __future__ import annotations

import sys
from typing import NamedTuple


class Column(NamedTuple):
    """One column; a row leaves out what its environment or mode does not have."""

    name: str
    unit: str
    meaning: str
    shape: str = ""  # "" is one number; S steps of the chunk, P peers


KEY = (
    Column("run", "name", "arm; in a sweep, key of the run"),
    Column("seed", "", "of the population"),
    Column("step", "steps", "environment steps at the end of the chunk"),
)

POPULATION = (
    Column("population", "true", "marks the row of a whole population"),
    Column("evaluation_reward", "reward", "mean of the honest peers'"),
    Column("episode_return", "reward", "mean of the honest peers'"),
    Column("oracle_fraction", "share", "mean of the honest peers' shares"),
    Column("oracle_fraction_worst", "share", "lowest of the honest peers' shares"),
    Column("baseline_fraction", "share", "mean of the baseline's shares"),
    Column("gap_closed", "share", "where the baseline is 0 and the oracle 1"),
    Column(
        "confidence_calibration",
        "correlation",
        "of confidence and value error over all visited cells; below 0 is calibrated",
    ),
)

PEER = (
    Column("peer", "", "index of the peer"),
    Column("byzantine", "true", "marks a byzantine peer"),
    Column(
        "evaluation_reward", "reward", "greedy policy, mean per step; **not a share**"
    ),
    Column("episode_return", "reward", "sum over an episode, mean of those that ended"),
    Column("oracle_fraction", "share", "evaluation reward over the oracle's"),
    Column("baseline_fraction", "share", "the baseline's over the oracle's"),
    Column("achieved", "reward", "expected reward in training", "S"),
    Column("oracle", "reward", "the oracle's, on the same noise", "S"),
    Column("baseline", "reward", "the baseline's, on the same noise", "S"),
    Column("price", "usual price", "charged", "S"),
    Column("oracle_price", "usual price", "of the oracle", "S"),
    Column("cost", "usual price", "of one unit", "S"),
    Column("behaviour_std", "action", "standard deviation of exploration, mean"),
    Column("model_rollout_fraction", "share", "model rows in the batches, mean"),
    Column("value_weight", "weight", "of the network in the bootstrap value, mean"),
    Column("std_weight", "weight", "of the network in exploration, mean"),
    Column("critic_loss", "reward²", "mean over the chunk's updates"),
    Column("actor_loss", "reward", "mean over the chunk's updates"),
    Column("alpha_loss", "nats", "mean over the chunk's updates"),
    Column("alpha", "reward/nat", "entropy temperature, mean"),
    Column("entropy", "nats", "of the squashed policy, mean"),
    Column("q_mean", "reward", "Q of the batch's actions, mean"),
    Column("td_error", "reward", "absolute TD error, mean"),
    Column("demand_slope", "log units", "posterior mean at the end of the chunk"),
    Column("demand_slope_std", "log units", "posterior standard deviation there"),
    Column("coverage", "share", "context cells with any message, mean over rounds"),
    Column("neighbours", "peers", "effective number (Σw)²/Σw², mean over rounds"),
    Column("largest_share", "share", "largest weight of one sender, mean over rounds"),
    Column("lowest_trust", "share", "lowest trust over the highest, mean over rounds"),
    Column("has_prior", "share", "rounds in which the demand prior came from peers"),
    Column("bytes_received", "bytes", "in the chunk"),
    Column("sent", "messages", "in the chunk"),
    Column("releases", "messages", "since the start"),
    Column("epsilon", "nats", "privacy loss so far; null where there is no bound"),
    Column("trust", "share", "in each other peer, over the highest", "P"),
    Column("diverged", "text", "what was not finite or beyond 1e12, and at which step"),
)


def columns_table() -> str:
    """All columns as a Markdown table."""
    lines = ["| row | column | unit | shape | meaning |", "| --- " * 5 + "|"]
    for row, columns in (("all", KEY), ("population", POPULATION), ("peer", PEER)):
        for column in columns:
            shape = f"[{column.shape}]" if column.shape else ""
            lines.append(
                f"| {row} | `{column.name}` | {column.unit} | {shape} |"
                f" {column.meaning} |"
            )
    return "\n".join(line.replace("|  |", "| |") for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(columns_table())
