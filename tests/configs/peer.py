"""A peer of a consortium with little to compile, in rounds of two weeks."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import peer


def get_config() -> ConfigDict:
    """A thousand weeks of a small learner."""
    config = peer.get_config()
    config.steps = 1000
    config.population.peers = 4
    config.sac.hidden = 8
    config.sac.batch_size = 8
    config.sac.updates_per_step = 2
    config.exchange.interval = 2
    config.privacy.min_weeks = 2
    return config
