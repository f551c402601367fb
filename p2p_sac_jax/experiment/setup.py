"""From a configuration to programs and their inputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.registry import World, make_world
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.hyper import ISOLATED, arm_config, arm_names, make_hyper
from p2p_sac_jax.population import (
    Members,
    Population,
    Runs,
    make_population,
    place,
)

NEVER = np.iinfo(np.int32).max  # joining step of a peer that only pads


class Setup(NamedTuple):
    """Everything a training loop needs before its first step."""

    config: TrainConfig
    world: World
    population: Population
    members: Members  # padded and placed
    runs: Runs
    labels: list[tuple[str, int]]  # arm and seed of each run
    adjacency: np.ndarray  # [P, P] of the networked arm, without padding


def make_setup(config: TrainConfig, placement: Placement) -> Setup:
    """Builds population and inputs; every arm at every seed is one run.

    Raises:
      ConfigError: arms, population or adjacency cannot be built.
    """
    world = make_world(config.environment, config.population)
    peers = config.population.peers
    adjacency = _adjacency(config)
    seeds = range(config.seed, config.seed + config.seeds)
    labels = [(arm, seed) for arm in arm_names(config) for seed in seeds]
    edges = np.zeros((placement.peers, len(labels), placement.peers), np.float32)
    for run, (arm, _) in enumerate(labels):
        if arm not in ISOLATED:
            edges[:peers, run, :peers] = adjacency
    hypers = [make_hyper(arm_config(config, arm)) for arm, _ in labels]
    joins = _joins(config, placement.peers)
    members = Members(
        ids=np.arange(placement.peers, dtype=np.int32),
        params=jax.tree.map(lambda leaf: _pad(leaf, placement.peers), world.params),
        joins=joins,
        adjacency=edges,
    )
    runs = Runs(
        seeds=np.array([seed for _, seed in labels], np.int32),
        hyper=jax.tree.map(lambda *leaves: np.stack(leaves), *hypers),
        sender_joins=joins,
    )
    return Setup(
        config=config,
        world=world,
        population=make_population(
            config, world.environment, placement.layout, placement.mesh
        ),
        members=place(jax.tree.map(jax.numpy.asarray, members), placement.mesh),
        runs=jax.tree.map(jax.numpy.asarray, runs),
        labels=labels,
        adjacency=adjacency,
    )


def _adjacency(config: TrainConfig) -> np.ndarray:
    peers, exchange = config.population.peers, config.exchange
    if exchange.topology == "matrix":
        matrix = topology.load_matrix(exchange.matrix, peers)
        return topology.adjacency("matrix", peers, matrix)
    return topology.adjacency(exchange.topology, peers)


def _joins(config: TrainConfig, padded: int) -> np.ndarray:
    peers, newcomers = config.population.peers, config.population.newcomers
    joins = np.full(padded, NEVER, np.int32)
    joins[:peers] = 0
    joins[peers - newcomers : peers] = config.population.join_step
    return joins


def _pad(leaf: Any, padded: int) -> np.ndarray:
    """Repeats the last peer's parameters for peers that only pad."""
    return np.concatenate([leaf, np.repeat(leaf[-1:], padded - len(leaf), axis=0)])
