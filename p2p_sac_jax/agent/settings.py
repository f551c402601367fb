"""Setup of an agent from a user's arguments: configuration, environment, parameters.

An agent has no simulated network around it, so settings that only a simulation can
apply are refused here.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.core import AgentParams, Core, make_core
from p2p_sac_jax.agent.price_history import PriceHistory, Weeks, read_history
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.arguments import whole
from p2p_sac_jax.config import ConfigError, EnvironmentConfig, FaultsConfig, TrainConfig
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.environments.registry import make_environment, make_world
from p2p_sac_jax.exchange import mixing
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import Score
from p2p_sac_jax.validation import validate

_log = logging.getLogger(__name__)
_LAST_SEED = 2**31 - 1
_ALONE = "alone"  # name of a peer without network


@functools.cache
def named_environment(config: EnvironmentConfig) -> Environment:
    """The environment of a configuration; the same object at every call.

    Raises:
      ConfigError: it is unknown or does not load.
    """
    return make_environment(config)


@functools.cache
def generic_environment(state_dim: int, action_dim: int) -> Environment:
    """A user's own environment: one context cell, no demand model, never stepped."""
    zero = np.zeros((), np.float32)
    return Environment(
        reset=_elsewhere,
        step=_elsewhere,
        cell=lambda obs: jnp.zeros((), jnp.int32),
        score=lambda info: Score(zero, zero, zero),
        observation_dim=state_dim,
        action_dim=action_dim,
        num_cells=1,
    )


def _elsewhere(*_: Any) -> NoReturn:
    raise TypeError("a user's own environment is stepped by the user")


def choose_environment(
    state_dim: int,
    action_dim: int,
    config: EnvironmentConfig,
    given: Environment | None = None,
) -> Environment:
    """The given environment, that of ``config`` if its sizes fit, or a generic one.

    Raises:
      ConfigError: a size is not a whole number above 0, or not that of ``given``.
    """
    whole("state_dim", state_dim, least=1)
    whole("action_dim", action_dim, least=1)
    chosen = named_environment(config) if given is None else given
    sizes = chosen.observation_dim, chosen.action_dim
    if sizes == (state_dim, action_dim):
        return chosen
    if given is None:
        return generic_environment(state_dim, action_dim)
    raise ConfigError(
        f"state_dim={state_dim}, action_dim={action_dim} must be {sizes[0]} and"
        f" {sizes[1]}, those of the environment"
    )


def _agent_config(config: TrainConfig, environment: Environment) -> TrainConfig:
    """The configuration of an agent in an environment.

    Without a demand model there is no demand memory and no model rollout, and the
    policy's own spread explores.

    Raises:
      ConfigError: ``config`` is invalid, or has a setting that needs a simulation.
    """
    if environment.demand is None and config.memory.kind == "demand":
        config = replace_fields(config, {"memory.kind": "none"})
        if config.exploration.source == "memory":
            config = replace_fields(config, {"exploration.source": "policy"})
    validate(config)
    default = FaultsConfig()
    for field in dataclasses.fields(default):
        value = getattr(config.faults, field.name)
        _only(f"faults.{field.name}", value, getattr(default, field.name))
    _only("attack.kind", config.attack.kind, "none")
    _only("exchange.topology", config.exchange.topology, "complete")
    _only("sac.replay", config.sac.replay, "own")
    _only("weights.similarity_width", config.weights.similarity_width, 0.0)
    return config


def _only(name: str, value: Any, allowed: Any) -> None:
    if value != allowed:
        raise ConfigError(f"{name}={value!r} must be {allowed!r} for an agent")


def _population_params(config: TrainConfig, environment: Environment, peer: int) -> Any:
    """Environment parameters of one peer of the population of ``config``.

    Raises:
      ConfigError: there is no such peer, or ``environment`` is not that of ``config``.
    """
    if environment.demand is None and environment.num_cells == 1:
        return ()
    if environment != named_environment(config.environment):
        raise ConfigError("params=None must be given with your own environment")
    peers = config.population.peers
    if not 0 <= peer < peers:
        raise ConfigError(
            f"peer_id={peer} must be below population.peers={peers}, or params be given"
        )
    world = make_world(config.environment, config.population, config.seed)
    return jax.tree.map(lambda leaf: leaf[peer], world.params)


def _store_params(environment: Environment, observed: np.ndarray) -> Any:
    """Parameters of a store that its past weeks [T, D] alone describe.

    Raises:
      ConfigError: the environment cannot tell.
    """
    demand = environment.demand
    if demand is None:
        return ()
    if demand.store_params is None:
        raise ConfigError("params must be given: this environment cannot derive them")
    if not len(observed):
        _log.warning(
            "a usual unit cost of 0.7 is assumed; give a price_history, or params from"
            " environments.own_store.store_params(unit_cost=...)"
        )
    return demand.store_params(observed)


class AgentSetup(NamedTuple):
    """Programs and constants of one agent, and the roster of its network."""

    config: TrainConfig  # with what an agent needs set
    core: Core
    params: AgentParams
    peers: tuple[str, ...]  # J, the roster, own name included
    name: str
    peer_id: int
    weeks: Weeks  # of the price history


def make_agent_setup(
    config: TrainConfig,
    environment: Environment,
    network: PeerNetwork | None,
    params: Any = None,
    peer_id: int | None = None,
    price_history: PriceHistory | None = None,
) -> AgentSetup:
    """Builds the setup of an agent; for the arguments see ``P2PSACAgent``.

    Raises:
      ConfigError: ``config`` is invalid or has a setting that needs a simulation, or
        config, network and parameters do not fit together.
    """
    config = _agent_config(config, environment)
    weeks = read_history(price_history, environment)
    observed = weeks.obs[weeks.known]
    peers, name = ((_ALONE,), _ALONE) if network is None else _roster(network, config)
    own = peers.index(name)
    peer_id = own if peer_id is None else peer_id
    if params is None and not len(observed):
        params = _population_params(config, environment, peer_id)
    elif params is None or (isinstance(params, tuple) and not params):
        params = _store_params(environment, observed)
    complete = np.ones((len(peers),) * 2, np.float32)
    np.fill_diagonal(complete, 0.0)
    mixing_weights = mixing.mixing_weights(config.exchange.mixing, complete)
    agent_params = AgentParams(params, make_hyper(config), mixing_weights[own])
    return AgentSetup(
        config=config,
        core=make_core(config, environment),
        params=jax.tree.map(jnp.asarray, agent_params),
        peers=peers,
        name=name,
        peer_id=peer_id,
        weeks=weeks,
    )


def _roster(network: PeerNetwork, config: TrainConfig) -> tuple[tuple[str, ...], str]:
    """Names of all peers, and the own name.

    Raises:
      ConfigError: the network has another mode than ``config``, or too few peers.
    """
    mode, needed = config.exchange.mode, config.privacy.min_peers
    if network.mode != mode:
        raise ConfigError(
            f"exchange.mode={mode!r} must be that of the network, {network.mode!r}"
        )
    others = len(network.peers) - 1
    if mode == "public" and 0 < others < needed:
        raise ConfigError(
            f"privacy.min_peers={needed} must be at most {others} in a network of"
            f" {others + 1} peers with exchange.mode='public'"
        )
    return tuple(network.peers), network.name


def shared_settings(setup: AgentSetup) -> dict[str, object]:
    """Settings that all peers of a network share, by name.

    They decide when messages are due, what they hold and how a receiver reads them.
    """
    config, components = setup.config, setup.core.components
    environment, privacy = components.environment, config.privacy
    demand = environment.demand
    noise = (
        *(privacy.clip, privacy.min_count, privacy.min_weeks),
        *(privacy.value_noise, privacy.trend_epsilon),
        config.exchange.entropy_sharing,
    )
    return {
        "interval": config.exchange.interval,
        "environment": (
            *(config.environment.name, config.environment.seconds_per_step),
            *(environment.observation_dim, environment.action_dim),
        ),
        "features": () if demand is None else demand.coefficients,
        "privacy": () if config.exchange.mode == "private" else noise,
    }


def key_data(seed: int | None, peer_id: int) -> np.ndarray:
    """[2] uint32 of the key of this peer in the simulation, or of a secret key."""
    if seed is None:
        return np.frombuffer(os.urandom(8), np.uint32)
    key = jax.random.key(whole("seed", seed, 0, _LAST_SEED))
    return np.asarray(jax.random.key_data(jax.random.fold_in(key, peer_id)))
