"""Privacy budgets that ran out, as lines for the log."""

from __future__ import annotations

from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.experiment.metrics import Row


def exhausted_budgets(
    setup: Experiment, before: list[Row], rows: list[Row]
) -> list[str]:
    """One line for every peer that has just sent the last message it can afford.

    Args:
      setup: its ledger knows how many messages the budget pays for.
      before: rows of all earlier chunks.
      rows: of the chunk that just ended.
    """
    config, allowed = setup.config, setup.accountant.allowed
    if config.privacy.epsilon == 0:
        return []

    def spent(rows: list[Row]) -> set[tuple[str, int, int]]:
        return {
            (row["run"], row["seed"], row["peer"])
            for row in rows
            if "peer" in row and row["run"] == "network" and row["releases"] >= allowed
        }

    step = rows[0]["step"]
    return [
        f"step {step}: peer {peer} ({setup.world.names[peer]}, seed {seed}) has spent"
        f" its privacy budget of epsilon {config.privacy.epsilon:g} in {allowed}"
        " messages and shares no more"
        for _, seed, peer in sorted(spent(rows) - spent(before))
    ]
