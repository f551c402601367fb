"""Settings for byzantine peers: medians, and trust weights that are earned."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """The pricing market with the settings recommended outside one's own chain."""
    config = pricing.get_config()
    config.exchange.aggregator = "median"
    config.weights.trust_rate = 0.3
    return config
