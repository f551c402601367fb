"""Control task with a known optimum: a linear system with quadratic cost."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pendulum


def get_config() -> ConfigDict:
    """The settings of the pendulum; a Riccati equation gives the best policy."""
    config = pendulum.get_config()
    config.environment.name = "lqr"
    return config
