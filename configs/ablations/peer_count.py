"""What do the number of peers and the topology change?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing
from p2p_sac_jax.configs.ablations import arms

ARMS = {"memory": arms.MEMORY, "network": arms.NETWORK}
SWEEP = {
    "population.peers": [1, 2, 4, 8, 16, 32],
    "exchange.topology": ["complete", "ring", "exponential"],
}


def get_config() -> ConfigDict:
    """Two years of the population ``chain``: most of what a network gives is early."""
    return arms.populations(pricing.get_config(), seeds=5, steps=104)
