"""Ten peers with little to compile, for runs on many devices and processes."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import lqr


def get_config() -> ConfigDict:
    """One networked arm, twelve chunks of two steps, three checkpoints."""
    config = lqr.get_config()
    config.arms = "network"
    config.steps = 24
    config.evaluate_every = 2
    config.checkpoint_every = 8
    config.evaluation_weeks = 4
    config.population.peers = 10  # no multiple of 8 or 4
    config.exchange.interval = 2
    config.sac.hidden = 8
    config.sac.batch_size = 8
    config.sac.updates_per_step = 4
    config.sac.learning_starts = 2
    return config
