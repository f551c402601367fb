"""A grid with little to compile: plants, two arms, one or two peers."""

from __future__ import annotations

from ml_collections import ConfigDict

from tests.configs import scale

ARMS = {"memory": {"exchange.topology": "empty"}, "network": {}}
SWEEP = {"population.peers": [1, 2]}


def get_config() -> ConfigDict:
    """Three chunks of two steps."""
    config = scale.get_config()
    config.steps = 6
    config.checkpoint_every = 6
    return config
