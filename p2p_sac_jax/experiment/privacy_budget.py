"""The privacy budget of an experiment: its accountant, its description, its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.peer import make_peer_components
from p2p_sac_jax.privacy.accountant import (
    UNLIMITED,
    PrivacyAccountant,
    make_accountant,
)


def build_accountant(
    config: TrainConfig, environment: Environment
) -> PrivacyAccountant:
    """The accountant of every peer.

    Raises:
      ConfigError: as ``privacy.accountant.make_accountant``.
    """
    mode = make_peer_components(config, environment).mode
    return make_accountant(config, mode.releases())


def describe_privacy(
    config: TrainConfig, accountant: PrivacyAccountant
) -> dict[str, Any]:
    """Which channels carry a privacy guarantee, for ``run.json``."""
    allowed = accountant.allowed
    return {
        "mode": config.exchange.mode,
        "adjacency": accountant.adjacency,
        "channels": accountant.channels,
        "epsilon_budget": config.privacy.epsilon,
        "messages_allowed": None if allowed == UNLIMITED else allowed,
    }


def exhausted_budgets(
    accountant: PrivacyAccountant,
    names: Mapping[int, Sequence[str]],
    before: Iterable[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
) -> list[str]:
    """One log line for every peer whose budget ended in the last chunk.

    Args:
      accountant: of the experiment.
      names: of the peers, by seed.
      before: rows of ``metrics.jsonl`` of all earlier chunks.
      rows: rows of the last chunk.
    """
    allowed = accountant.allowed
    if accountant.budget == 0:
        return []

    def exhausted(rows: Iterable[dict[str, Any]]) -> set[tuple[int, int]]:
        return {
            (row["seed"], row["peer"])
            for row in rows
            if "peer" in row and row["run"] == "network" and row["releases"] >= allowed
        }

    step = rows[0]["step"]
    return [
        f"step {step}: peer {peer} ({names[seed][peer]}, seed {seed}) has spent its"
        f" privacy budget of epsilon {accountant.budget:g} in {allowed} messages and"
        " sends no more"
        for seed, peer in sorted(exhausted(rows) - exhausted(before))
    ]
