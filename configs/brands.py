"""An open market: sixteen sellers of different brands, no store twice."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """The population ``brands``; what may be shared stays as in mode private."""
    config = pricing.get_config()
    config.population.name = "brands"
    return config
