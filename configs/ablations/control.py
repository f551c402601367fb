"""Control tasks, where nothing is known of demand: do shared values help or harm?"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import pendulum

_MODES = ("none", "seed_scalar", "keyed", "precision", "shaping", "max")
ARMS = {"memory": {"exchange.topology": "empty"}} | {
    mode.replace("_", " "): {"exchange.estimation": mode} for mode in _MODES[1:]
}
SWEEP = {"environment.name": ["pendulum", "lqr"]}


def get_config() -> ConfigDict:
    """Four learners of each task."""
    config = pendulum.get_config()
    config.steps = 5_000
    config.seed = 1000
    config.seeds = 5
    return config
