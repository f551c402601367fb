"""Agents for tests: a small configuration, stores outside the population, a hub."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.agent.agent import P2PSACAgent
from p2p_sac_jax.agent.price_history import PriceHistory
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.settings import named_environment
from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.registry import World, make_world
from p2p_sac_jax.peer.context import MARKET, RESET, stream
from tests.helpers.configs import in_sections
from tests.helpers.populations import small_config

PEERS = 3
NAMES = tuple(f"store-{number}" for number in range(PEERS))


def agent_config(mode: str = "private", **sections: dict[str, Any]) -> TrainConfig:
    """Three stores in rounds of two weeks, with an exchange strong enough to matter."""
    defaults = {
        "root": {"arms": "network", "steps": 16},
        "population": {"peers": PEERS},
        "sac": {
            "hidden": 8,
            "batch_size": 32,
            "updates_per_step": 4,
            "discount": 0.9,
            "learning_starts": 1,
        },
        "exchange": {
            "interval": 2,
            "recency_tau_s": 1e7,
            "mode": mode,
            "n0": 1.0,
        },
        "weights": {"trust_rate": 0.3},
    }
    if mode != "private":
        defaults["privacy"] = {"min_count": 1, "min_weeks": 2, "value_noise": 0.1}
    return in_sections(small_config(**defaults), sections)


@functools.cache
def volatile_world(config: TrainConfig) -> World:
    """The stores of the population with costs that change every week.

    Within a few weeks every store so sees several context cells.
    """
    world = make_world(config.environment, config.population)
    params = world.params._replace(
        cost_vol=np.full(PEERS, 0.15, np.float32),
        cost_persistence=np.zeros(PEERS, np.float32),
    )
    environment = named_environment(config.environment)
    return world._replace(environment=environment, params=params)


class Week(NamedTuple):
    """What a market answers to an action."""

    obs: np.ndarray  # [D] of the next week
    reward: float
    log_sales: float


class Store:
    """The market of one store of the population, on the draws of the simulation."""

    def __init__(self, config: TrainConfig, number: int, seed: int = 0) -> None:
        params = volatile_world(config).params
        self.params = jax.tree.map(lambda leaf: leaf[number], params)
        key = jax.random.fold_in(jax.random.key(seed), number)
        self._key = np.asarray(jax.random.key_data(key))
        self._environment = named_environment(config.environment)
        self._state, obs = _reset(self._environment)(self._key, self.params)
        self.obs, self._clock = np.asarray(obs), 0

    def step(self, action: np.ndarray) -> Week:
        """One week at this price."""
        step = _step(self._environment)
        result = step(self._key, self._clock, self._state, action, self.params)
        self._clock += 1
        self._state, self.obs = result.state, np.asarray(result.obs)
        return Week(self.obs, float(result.reward), float(result.info.log_sales))


@functools.cache
def _reset(environment: Any) -> Any:
    def reset(key: Any, params: Any) -> Any:
        return environment.reset(
            stream(jax.random.wrap_key_data(key), RESET, 0), params
        )

    return jax.jit(reset)


@functools.cache
def _step(environment: Any) -> Any:
    def step(key: Any, clock: Any, state: Any, action: Any, params: Any) -> Any:
        key = stream(jax.random.wrap_key_data(key), MARKET, clock)
        return environment.step(key, state, action, params)

    return jax.jit(step)


def make_agent(
    config: TrainConfig, network: PeerNetwork, **options: Any
) -> P2PSACAgent:
    """The agent of one store, on the draws of the simulation."""
    number = NAMES.index(network.name)
    params = jax.tree.map(lambda leaf: leaf[number], volatile_world(config).params)
    settings = {"network": network, "params": params, "seed": 0} | options
    return P2PSACAgent(11, 1, config, **settings)


def make_history(config: TrainConfig, weeks: int, number: int = 0) -> PriceHistory:
    """Weeks of one store at prices here and there, and what was sold."""
    store, rng = Store(config, number, seed=1), np.random.default_rng(0)
    observations, prices, units = [], [], []
    for action in rng.uniform(-0.9, 0.9, (weeks, 1)).astype(np.float32):
        observations.append(store.obs)
        prices.append(1.5 ** float(action[0]))
        units.append(np.exp(store.step(action).log_sales))
    return PriceHistory(np.array(observations), np.array(prices), np.array(units))


async def run_weeks(agent: P2PSACAgent, store: Store, weeks: int = 1) -> list[Any]:
    """Some weeks of one agent; returns actions and what training reported."""
    results = []
    for _ in range(weeks):
        action = await agent.select_action(store.obs)
        week = store.step(action)
        agent.observe(action, week.reward, week.obs, log_sales=week.log_sales)
        results.append((action, await agent.train()))
    return results


async def networks(hub: Hub) -> list[PeerNetwork]:
    """The connected networks of all peers of a hub."""
    opened = [in_process_network(hub, name) for name in hub.identities]
    for network in opened:
        await network.connect()
    return opened
