"""Environments by name; the names are the choices of ``environment.name``.

To add an environment, write a file with an ``EnvironmentFactory`` and add one line to
``ENVIRONMENTS``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments.base import Environment, EnvironmentFactory
from p2p_sac_jax.environments.control import LQR, PENDULUM
from p2p_sac_jax.environments.pricing import PRICING

ENVIRONMENTS: dict[str, EnvironmentFactory] = {
    "pricing": PRICING,
    "pendulum": PENDULUM,
    "lqr": LQR,
}


class World(NamedTuple):
    """One environment and the peers that act in it."""

    environment: Environment
    params: Any  # [P, ...] NumPy leaves
    names: list[str]  # P, label of each peer in reports
    context: np.ndarray  # [P, C] public descriptors of each peer, standardised


def make_world(config: EnvironmentConfig, population: PopulationConfig) -> World:
    """Builds the environment and draws the peers' parameters.

    Raises:
      ConfigError: the population cannot be drawn.
    """
    factory = ENVIRONMENTS[config.name]
    return World(factory.make(config), *factory.draw_peers(config, population))
