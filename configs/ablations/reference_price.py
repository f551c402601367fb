"""Where shoppers remember prices, does looking ahead beat a myopic bandit?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import reference_price
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "plain": arms.PLAIN,
    "memory": arms.MEMORY,
    "network": arms.NETWORK,
    "network, no values": {"exchange.value_sharing": "none"},
    # One value per peer: .7 of its own, .3 of the mean of all others.
    "network, seed scalar": {
        "exchange.value_sharing": "scalar",
        "exchange.network_weight": 0.3,
    },
    "network, myopic": {"sac.discount": 0.0},
    "bandit network": arms.BANDIT_NETWORK,
}


def get_config() -> ConfigDict:
    """Four years of the population ``chain`` with a reference effect."""
    return arms.populations(reference_price.get_config(), seeds=10)
