"""Seconds of training: every arm, every file, nothing worth looking at."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """Four stores, three arms, six chunks, a checkpoint after every second."""
    config = pricing.get_config()
    config.steps = 24
    config.checkpoint_every = 8
    config.evaluation_weeks = 8
    config.population.peers = 4
    config.sac.hidden = 8
    config.sac.batch_size = 8
    config.sac.updates_per_step = 2
    return config
