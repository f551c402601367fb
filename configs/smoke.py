"""A minute's run: four stores, twenty-four weeks, every arm."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """Tests an installation; far too short to judge learning."""
    config = pricing.get_config()
    config.steps = 24
    config.checkpoint_every = 8
    config.evaluation_weeks = 26
    config.population.peers = 4
    config.sac.updates_per_step = 4
    return config
