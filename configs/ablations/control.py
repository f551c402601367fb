"""Control tasks without a demand model: do shared values help or harm?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pendulum

ARMS = {
    "memory": {"exchange.topology": "empty"},
    "precision": {},
    "shaping": {"exchange.value_sharing": "shaping"},
    "seed scalar": {"exchange.value_sharing": "scalar"},
}
SWEEP = {"environment.name": ["pendulum", "lqr"]}


def get_config() -> ConfigDict:
    """Four learners of each task."""
    config = pendulum.get_config()
    config.steps = 5_000
    config.seed = 1000
    config.seeds = 5
    return config
