"""A peer of a consortium on a real network, see ``commands.run_peer``."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """The market's settings, in the mode of an industry group."""
    config = pricing.get_config()
    config.exchange.mode = "consortium"
    # Demand is noised once a release; at 1 that of fifteen others is worth nothing.
    config.privacy.demand_noise = 0.3
    return config
