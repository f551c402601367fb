"""Cold start: four of sixteen stores open after two years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """Newcomers pretrain on the network's demand model before their first week."""
    config = pricing.get_config()
    config.steps = 156
    config.population.newcomers = 4
    config.population.join_step = 104
    return config
