"""One of five stores lies about its exploration and its demand: what do others lose?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import peer
from p2p_sac_jax.configs.ablations import arms

ARMS = {"memory": arms.MEMORY, "network": arms.NETWORK, "guarded": arms.GUARDED}
SWEEP = {
    "exchange.mode": ["private", "consortium", "public"],
    "attack.kind": ["none", "insider"],
}


def get_config() -> ConfigDict:
    """The first year of five stores, in every mode; figures are of the honest four."""
    config = arms.populations(peer.get_config(), seeds=10, steps=52)
    config.population.peers = 5
    config.attack.kind = "insider"
    config.attack.byzantine = 1
    return config
