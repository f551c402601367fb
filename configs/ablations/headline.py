"""Does a network of sellers earn more than sellers alone, and than simple baselines?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "plain": arms.PLAIN,
    "pooled replay": arms.POOLED_REPLAY,
    "memory": arms.MEMORY,
    "memory wide": arms.MEMORY_WIDE,
    "network": arms.NETWORK,
    "bandit alone": arms.BANDIT_ALONE,
    "bandit network": arms.BANDIT_NETWORK,
    "bandit pooled": arms.BANDIT_POOLED,
}
SWEEP = {"population.name": ["chain", "brands"]}


def get_config() -> ConfigDict:
    """Sixteen stores, four years, ten populations that no setting was chosen on."""
    return arms.populations(pricing.get_config(), seeds=10)
