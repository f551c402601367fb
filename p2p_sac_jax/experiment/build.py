"""From a configuration to programs and their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.registry import World, make_world
from p2p_sac_jax.exchange import mixing, topology
from p2p_sac_jax.exchange.similarity import context_similarity
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.hyper import RunSpec, make_hyper, planned_runs
from p2p_sac_jax.privacy.accountant import PrivacyAccountant, make_accountant
from p2p_sac_jax.simulation.faults import make_fault_plan
from p2p_sac_jax.simulation.network import Participation
from p2p_sac_jax.simulation.population import (
    PEERS,
    PeerInputs,
    Population,
    RunInputs,
    make_population,
)
from p2p_sac_jax.simulation.schedules import partners

NEVER = np.iinfo(np.int32).max  # joining step of a peer that only pads


class Experiment(NamedTuple):
    """Everything a training loop needs before its first step."""

    config: TrainConfig
    world: World
    population: Population
    peer_inputs: PeerInputs  # padded; every device has its own peers'
    run_inputs: RunInputs  # every device has all
    labels: list[tuple[str, int]]  # arm and seed of each run
    adjacency: np.ndarray  # [P, P] of the networked arm, without padding
    partners: np.ndarray | None  # [P, C] who is heard when, in a time-varying network
    byzantine: np.ndarray  # [P] bool, who lies
    accountant: PrivacyAccountant  # what privacy costs


def build_experiment(
    config: TrainConfig,
    placement: Placement,
    world: World | None = None,
    planned: Sequence[RunSpec] | None = None,
) -> Experiment:
    """Builds population and inputs; every arm at every seed is one run.

    Args:
      config: a validated configuration.
      placement: where the peers live.
      world: environment and peers, in place of those that ``config`` names.
      planned: runs in place of those arms and seeds. They may differ from ``config``
        in traced fields and in a topology that does not change with time.

    Raises:
      ConfigError: arms, population, adjacency or privacy budget cannot be had.
    """
    if world is None:
        world = make_world(config.environment, config.population)
    peers, padded = config.population.peers, placement.peers
    planned = planned_runs(config) if planned is None else planned
    adjacency = adjacency_of(config)
    schedule = _schedule(config)
    _check_cohorts(config, adjacency, schedule)
    accountant = _accountant(config, world)
    edges = np.zeros((padded, len(planned), padded), np.float32)
    for index, run in enumerate(planned):
        if not run.isolated:
            edges[:peers, index, :peers] = _mixing_weights(run.config, world)
    hypers = [make_hyper(run.config) for run in planned]
    senders = _senders(config, padded)
    peer_inputs = PeerInputs(
        params=jax.tree.map(lambda leaf: _pad(leaf, padded), world.params),
        adjacency=edges,
        partners=() if schedule is None else _pad(schedule, padded),
        connected=(edges > 0.0).any(axis=0).T.astype(np.float32),
        presence=senders,
    )
    run_inputs = RunInputs(
        seeds=np.array([run.seed for run in planned], np.int32),
        hyper=jax.tree.map(lambda *leaves: np.stack(leaves), *hypers),
        allowed=np.full(len(planned), min(accountant.allowed, NEVER), np.int32),
        senders=senders,
    )
    return Experiment(
        config=config,
        world=world,
        population=make_population(
            config, world.environment, placement.map_batch_size, placement.mesh
        ),
        peer_inputs=_spread(peer_inputs, placement.mesh, P(PEERS)),
        run_inputs=_spread(run_inputs, placement.mesh, P()),
        labels=[(run.label, run.seed) for run in planned],
        adjacency=adjacency,
        partners=schedule,
        byzantine=senders.byzantine[:peers] > 0.0,
        accountant=accountant,
    )


def _mixing_weights(config: TrainConfig, world: World) -> np.ndarray:
    """[P, P] how loud each peer is to each other, trust and filters apart."""
    mixing_weights = mixing.mixing_weights(config.exchange.mixing, adjacency_of(config))
    width = config.weights.similarity_width
    return mixing_weights * context_similarity(world.context, width)


def adjacency_of(config: TrainConfig) -> np.ndarray:
    """[P, P] who can hear whom, without padding."""
    peers, exchange = config.population.peers, config.exchange
    matrix = None
    if exchange.topology == "matrix":
        matrix = topology.load_matrix(exchange.matrix, peers)
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
    return partners(config.exchange.topology, peers, rounds, config.seed)


def _check_cohorts(
    config: TrainConfig, adjacency: np.ndarray, schedule: np.ndarray | None
) -> None:
    """Mode public reads means alone: somebody must hear enough peers at once."""
    most = int((adjacency > 0.0).sum(axis=1).max()) if schedule is None else 1
    needed = config.privacy.min_peers
    if config.exchange.mode == "public" and 0 < most < needed:
        raise ConfigError(
            f"privacy.min_peers={needed} must be at most {most} with"
            f" exchange.mode='public' and exchange.topology="
            f"{config.exchange.topology!r}: nobody hears more at once"
        )


def _accountant(config: TrainConfig, world: World) -> PrivacyAccountant:
    environment = world.environment
    num_cells, in_group = environment.num_cells, environment.cells_per_group
    if config.exchange.value_sharing == "scalar" or config.learner == "thompson":
        num_cells = in_group = 1
    return make_accountant(
        config,
        num_cells=num_cells,
        num_groups=-(-num_cells // in_group),
        has_demand=config.memory.kind == "demand"
        and config.memory.pooling != "none"
        and environment.demand is not None,
    )


def _senders(config: TrainConfig, padded: int) -> Participation:
    """Who joins when, who lies, and whom faults strike; leaves [padded]."""
    peers, newcomers = config.population.peers, config.population.newcomers
    joins = np.full(padded, NEVER, np.int32)
    joins[:peers] = 0
    joins[peers - newcomers : peers] = config.population.join_step
    byzantine = np.zeros(padded, np.float32)
    veterans = peers - newcomers
    byzantine[veterans - config.attack.byzantine : veterans] = 1.0
    return Participation(joins, byzantine, make_fault_plan(config, padded))


def _spread(tree: Any, mesh: Mesh | None, axes: P) -> Any:
    """NumPy leaves as arrays on the mesh, or on the only device."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, axes)
    return jax.tree.map(lambda leaf: distributed.put(leaf, sharding), tree)


def _pad(leaf: Any, padded: int) -> np.ndarray:
    """Repeats the last peer's leaf for peers that only pad."""
    return np.concatenate([leaf, np.repeat(leaf[-1:], padded - len(leaf), axis=0)])
