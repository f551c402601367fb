"""How similar must stores be? From identical stores to twice the differences."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing
from p2p_sac_jax.configs.ablations import arms

ARMS = {"memory": arms.MEMORY, "network": arms.NETWORK}
SWEEP = {"population.heterogeneity": [0.0, 0.5, 2.0]}


def get_config() -> ConfigDict:
    """Two years of the population ``chain``."""
    return arms.populations(pricing.get_config(), seeds=10, steps=104)
