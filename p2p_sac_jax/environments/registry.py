"""Environments by name: the functions, and the parameters of every peer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import (
    calibration,
    control,
    heterogeneity,
    pricing,
)
from p2p_sac_jax.environments.base import Environment


class World(NamedTuple):
    """One environment and the peers that live in it."""

    environment: Environment
    params: Any  # [P, ...] NumPy leaves
    names: list[str]  # P, how each peer is called in reports
    context: np.ndarray  # [P, C] public descriptors of each peer, standardised


def make_world(config: EnvironmentConfig, population: PopulationConfig) -> World:
    """Builds the environment and draws the peers' parameters.

    To add an environment, write its ``make_x(config) -> Environment`` and give it
    a branch here and a name in ``validation.CHOICES``.

    Raises:
      ConfigError: the population cannot be drawn.
    """
    if config.name == "pricing":
        sellers = calibration.select_population(
            population.name,
            population.peers,
            population.held_out,
            population.newcomers,
        )
        sellers = heterogeneity.rescale(sellers, population.heterogeneity)
        return World(
            pricing.make_pricing(config),
            pricing.make_pricing_params(config, sellers),
            calibration.market_names(sellers),
            sellers.context,
        )
    make = {"pendulum": control.make_pendulum, "lqr": control.make_lqr}[config.name]
    return World(
        make(config),
        control.make_control_params(config, population.peers),
        [f"{config.name} {peer}" for peer in range(population.peers)],
        np.zeros((population.peers, 1), np.float32),
    )
