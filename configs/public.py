"""An open market: sixteen sellers of different brands, no store twice."""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import pricing


def get_config() -> ConfigDict:
    """The public population; what may be shared stays as in a private network."""
    config = pricing.get_config()
    config.population.name = "public"
    return config
