"""What does a trained network give to stores that open later?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import newcomers
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "plain": arms.PLAIN,
    "memory": arms.MEMORY,
    "memory wide": arms.MEMORY_WIDE,
    "network": arms.NETWORK,
    "bandit network": arms.BANDIT_NETWORK,
}
SWEEP = {"population.name": ["chain", "brands"]}


def get_config() -> ConfigDict:
    """Four held-out stores join twelve after two years, for half a year."""
    return arms.populations(newcomers.get_config(), seeds=10, steps=132)
