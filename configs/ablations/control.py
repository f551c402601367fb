"""Control tasks without a demand model: do shared values help or harm?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pendulum
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "memory": {"exchange.topology": "empty"},
    "precision": {},
    "shaping": {"exchange.value_sharing": "shaping"},
    "seed scalar": {"exchange.value_sharing": "scalar"},
}
SWEEP = {"environment.name": ["pendulum", "lqr"]}


def get_config() -> ConfigDict:
    """Four learners of each task."""
    return arms.populations(pendulum.get_config(), seeds=5, steps=5_000)
