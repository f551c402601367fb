"""Builds an experiment from a configuration: its programs and their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.arms import RunSpec, planned_runs
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.environments.conformance import check_protocol
from p2p_sac_jax.environments.registry import ENVIRONMENTS, World, make_world
from p2p_sac_jax.exchange import mixing, topology
from p2p_sac_jax.exchange.adjacency_file import load_matrix
from p2p_sac_jax.exchange.similarity import context_similarity
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.experiment.input_files import MATRIX, Inputs
from p2p_sac_jax.experiment.privacy_budget import build_accountant
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.privacy.accountant import PrivacyAccountant
from p2p_sac_jax.simulation.faults import make_fault_plan
from p2p_sac_jax.simulation.network import Participation
from p2p_sac_jax.simulation.peer_axis import PEERS
from p2p_sac_jax.simulation.population import (
    PeerInputs,
    Population,
    RunInputs,
    make_population,
)

NEVER = np.iinfo(np.int32).max  # joining step of a padding peer


class Experiment(NamedTuple):
    """Everything a training loop needs before its first step."""

    config: TrainConfig
    worlds: dict[int, World]  # by seed; the environment is the same
    population: Population
    peer_inputs: PeerInputs  # padded, sharded over the devices
    run_inputs: RunInputs  # replicated on every device
    labels: list[tuple[str, int]]  # arm and seed of each run
    adjacency: np.ndarray  # [P, P] of the networked arm, without padding
    partners: np.ndarray | None  # [P, C] sender by round, in a time-varying network
    byzantine: np.ndarray  # [P] bool
    accountant: PrivacyAccountant

    @property
    def environment(self) -> Environment:
        """Of every peer."""
        return self.worlds[self.labels[0][1]].environment

    def params(self, peer: int, run: int) -> Any:
        """Environment parameters of one peer in one run."""
        drawn = self.config.population.drawn_by_seed
        place = (peer, run) if drawn else peer
        return jax.tree.map(lambda leaf: leaf[place], self.peer_inputs.params)


def build_experiment(
    config: TrainConfig,
    placement: Placement,
    world: World | None = None,
    runs: Sequence[RunSpec] | None = None,
    inputs: Inputs | None = None,
) -> Experiment:
    """Builds population and inputs; every arm at every seed is one run.

    Args:
      config: a validated configuration.
      placement: the devices that hold the peers.
      world: environment and peers; None makes those that ``config`` names, at each
        seed its own where ``population.draw`` is ``random``.
      runs: instead of every arm at every seed. They may differ from ``config`` in
        traced fields and in a topology that does not change with time.
      inputs: content of the files that ``config`` names; None reads them.

    Raises:
      ConfigError: arms, population, adjacency or privacy budget are impossible, or
        the environment does not follow its protocol.
    """
    peers, padded = config.population.peers, placement.peers
    runs = planned_runs(config) if runs is None else runs
    worlds = _worlds(config, {run.seed for run in runs}, world)
    environment = worlds[runs[0].seed].environment
    if config.environment.name not in ENVIRONMENTS:
        check_protocol(worlds[runs[0].seed])
    adjacency = adjacency_of(config, inputs)
    schedule = _schedule(config)
    _check_min_peers(config, adjacency, schedule)
    accountant = build_accountant(config, environment)
    edges = np.zeros((padded, len(runs), padded), np.float32)
    for index, run in enumerate(runs):
        if not run.isolated:
            edges[:peers, index, :peers] = _mixing_weights(
                run.config, worlds[run.seed], inputs
            )
    hypers = [make_hyper(run.config) for run in runs]
    senders = _participation(config, padded)
    peer_inputs = PeerInputs(
        params=jax.tree.map(
            lambda leaf: _pad(leaf, padded), _params(config, worlds, runs)
        ),
        adjacency=edges,
        partners=() if schedule is None else _pad(schedule, padded),
        connected=(edges > 0.0).any(axis=0).T.astype(np.float32),
        participation=senders,
    )
    run_inputs = RunInputs(
        seeds=np.array([run.seed for run in runs], np.int32),
        hyper=jax.tree.map(lambda *leaves: np.stack(leaves), *hypers),
        allowed=np.full(len(runs), min(accountant.allowed, NEVER), np.int32),
        senders=senders,
    )
    return Experiment(
        config=config,
        worlds=worlds,
        population=make_population(
            config, environment, placement.map_batch_size, placement.mesh
        ),
        peer_inputs=_place(peer_inputs, placement.mesh, P(PEERS)),
        run_inputs=_place(run_inputs, placement.mesh, P()),
        labels=[(run.label, run.seed) for run in runs],
        adjacency=adjacency,
        partners=schedule,
        byzantine=senders.byzantine[:peers] > 0.0,
        accountant=accountant,
    )


def _worlds(
    config: TrainConfig, seeds: Iterable[int], world: World | None
) -> dict[int, World]:
    """Environment and peers of each seed."""
    if world is None and config.population.drawn_by_seed:
        environment, population = config.environment, config.population
        return {seed: make_world(environment, population, seed) for seed in seeds}
    return dict.fromkeys(
        seeds, world or make_world(config.environment, config.population)
    )


def _params(
    config: TrainConfig, worlds: dict[int, World], runs: Sequence[RunSpec]
) -> Any:
    """Environment parameters, leaves [P, ...]; [P, R, ...] if drawn by seed."""
    if not config.population.drawn_by_seed:
        return worlds[runs[0].seed].params
    by_run = [worlds[run.seed].params for run in runs]
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *by_run)


def _mixing_weights(
    config: TrainConfig, world: World, inputs: Inputs | None
) -> np.ndarray:
    """[P, P] weight of each sender for each receiver, before trust and filters."""
    weights = mixing.mixing_weights(
        config.exchange.mixing, adjacency_of(config, inputs)
    )
    width = config.weights.similarity_width
    return weights * context_similarity(world.context, width)


def adjacency_of(config: TrainConfig, inputs: Inputs | None = None) -> np.ndarray:
    """[P, P] receiver, sender; 1 where there is an edge. Without padding.

    Args:
      config: of the run.
      inputs: content of the files that ``config`` names; None reads them.
    """
    peers, exchange = config.population.peers, config.exchange
    matrix = None
    if exchange.topology == "matrix":
        content = None if inputs is None else inputs[MATRIX]
        matrix = load_matrix(exchange.matrix, peers, content)
    return topology.adjacency(
        exchange.topology,
        peers,
        matrix,
        degree=exchange.degree,
        edge_chance=exchange.edge_chance,
        seed=config.seed,
    )


def _schedule(config: TrainConfig) -> np.ndarray | None:
    rounds = config.steps // config.exchange.interval
    peers = config.population.peers
    return topology.partners(config.exchange.topology, peers, rounds, config.seed)


def _check_min_peers(
    config: TrainConfig, adjacency: np.ndarray, schedule: np.ndarray | None
) -> None:
    """Mode public releases means over peers: some receiver needs enough senders."""
    most = int((adjacency > 0.0).sum(axis=1).max()) if schedule is None else 1
    needed = config.privacy.min_peers
    if config.exchange.mode == "public" and 0 < most < needed:
        raise ConfigError(
            f"privacy.min_peers={needed} must be at most {most} with"
            f" exchange.mode='public' and exchange.topology="
            f"{config.exchange.topology!r}: no peer receives more messages at once"
        )


def _participation(config: TrainConfig, padded: int) -> Participation:
    """Joining steps, byzantine peers and the fault plan; leaves [padded]."""
    peers, newcomers = config.population.peers, config.population.newcomers
    joins = np.full(padded, NEVER, np.int32)
    joins[:peers] = 0
    joins[peers - newcomers : peers] = config.population.join_step
    byzantine = np.zeros(padded, np.float32)
    veterans = peers - newcomers
    byzantine[veterans - config.attack.byzantine : veterans] = 1.0
    return Participation(joins, byzantine, make_fault_plan(config, padded))


def _place(tree: Any, mesh: Mesh | None, axes: P) -> Any:
    """NumPy leaves as arrays on the mesh, or on the only device."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, axes)
    return jax.tree.map(lambda leaf: distributed.put(leaf, sharding), tree)


def _pad(leaf: Any, padded: int) -> np.ndarray:
    """Repeats the leaf of the last peer for padding peers."""
    return np.concatenate([leaf, np.repeat(leaf[-1:], padded - len(leaf), axis=0)])
