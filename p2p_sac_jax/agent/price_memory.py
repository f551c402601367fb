"""The price memory of one store, with what the network says of demand as its prior."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.core import AgentParams, Step, make_core
from p2p_sac_jax.agent.history import (
    PriceHistory,
    action_price,
    check_history,
    past_steps,
    price_action,
)
from p2p_sac_jax.agent.latest_messages import MARKET, LatestMessages
from p2p_sac_jax.agent.protocol.checks import vector
from p2p_sac_jax.agent.protocol.peer_network import Delivery, Network
from p2p_sac_jax.agent.settings import agent_config, make_agent_setup, named_environment
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.demand.base import Regions
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import POOLINGS
from p2p_sac_jax.exchange.sanitize import sanitize_demand
from p2p_sac_jax.exchange.screening import screen_demand
from p2p_sac_jax.peer.behaviour import candidates_of
from p2p_sac_jax.peer.components import PeerComponents
from p2p_sac_jax.peer.stages import make_experience
from p2p_sac_jax.types import Array


class PromisingRegion(NamedTuple):
    """A range of prices worth trying."""

    low: float  # relative to the usual price
    high: float
    probability: float  # that the best price of the week lies here
    mean: float  # expected profit of the week, over a usual week's
    std: float  # its posterior standard deviation


class _Programs(NamedTuple):
    """What is asked of a memory, compiled at the first call."""

    update: Any  # (memory, step, place) -> memory
    belief: Any  # (memory, wires [J, ...], place) -> posterior
    bonus: Any  # (belief, obs [D], action [A], place) -> []
    std: Any  # the same
    regions: Any  # (belief, obs [D], place) -> Regions


@functools.cache
def _make_programs(config: TrainConfig, environment: Environment) -> _Programs:
    components = make_core(config, environment).components
    functions = (_update, _belief, _bonus, _std, _regions)
    return _Programs(*(jax.jit(functools.partial(f, components)) for f in functions))


class P2PPriceMemory:
    """What one store remembers of its demand, helped by the network's insight.

    Alone it learns by ``update``. The one that belongs to an agent learns by the
    agent's ``observe`` and holds what the agent believes.
    """

    def __init__(
        self,
        price_history: PriceHistory | None,
        network: Network | None,
        config: TrainConfig | None = None,
        *,
        environment: Environment | None = None,
        params: Any = None,
        peer_id: int | None = None,
    ) -> None:
        """Fills the memory with past weeks and listens for market insight.

        Args:
          price_history: past weeks of this store, or None.
          network: None is a store alone.
          config: sections memory, exchange and privacy are read.
          environment: by default the one that ``config`` names.
          params: of the environment; by default those of peer ``peer_id`` of the
            population that ``config`` names.
          peer_id: by default the number in the roster.

        Raises:
          ConfigError: anything of this does not fit together.
        """
        config = config or TrainConfig()
        environment = environment or named_environment(config.environment)
        config = agent_config(config, environment)
        weeks = check_history(price_history, environment)
        self.agent_setup = make_agent_setup(
            config, environment, network, params, peer_id
        )
        self.latest_messages = LatestMessages(
            self.agent_setup.core.wire(), self.agent_setup.peers, self.agent_setup.name
        )
        self._network = network
        self._programs = _make_programs(config, environment)
        self._memory = self.agent_setup.core.components.memory.init()
        self._believed = None  # until somebody asks
        self._owned = False
        if weeks and price_history is not None:
            self._learn(price_history)
        if network is not None:
            network.register_message_handler(MARKET, self._handle_market_insight)

    def update(self, observation: Any, price: float, units: float) -> None:
        """Remembers one week.

        Args:
          observation: [11] at its start, as ``p2p_sac_jax.observation`` makes it.
          price: charged, relative to the usual price.
          units: sold, relative to a usual week.

        Raises:
          ConfigError: a figure cannot be, or the memory belongs to an agent.
        """
        if self._owned:
            raise ConfigError("an agent's price_memory learns by the agent's observe")
        week = PriceHistory(np.asarray(observation)[None], [price], [units])
        check_history(week, self.agent_setup.core.components.environment)
        self._learn(week)

    def get_exploration_bonus(self, observation: Any, price: float) -> float:
        """How little is known of demand at this price, in [0, 1]; 1 is nothing."""
        return self._ask(self._programs.bonus, observation, price)

    def get_optimal_exploration_std(self, observation: Any, price: float) -> float:
        """How far the best price may be from this one, in action units."""
        return self._ask(self._programs.std, observation, price)

    def get_promising_regions(self, observation: Any) -> list[PromisingRegion]:
        """Where the best price of the week most likely lies, best first.

        Args:
          observation: [11] of the week.

        Returns:
          Regions; none where the environment sells nothing.

        Raises:
          ConfigError: the observation is not one.
        """
        if self.agent_setup.core.components.environment.demand is None:
            return []
        obs = self._observed(observation)
        found = self._programs.regions(
            self._belief(), obs, self.agent_setup.agent_params
        )
        low, high = action_price(found.lo), action_price(found.hi)
        columns = (low, high, found.probability, found.mean, found.std)
        return [PromisingRegion(*map(float, row)) for row in zip(*columns, strict=True)]

    def hold(self, memory: Any, belief: Any) -> None:
        """Takes over what the agent that owns this memory has learned."""
        self._owned, self._memory, self._believed = True, memory, belief

    def _learn(self, history: PriceHistory) -> None:
        agent_params, environment = (
            self.agent_setup.agent_params,
            self.agent_setup.core.components.environment,
        )
        for step in past_steps(history, environment, agent_params.params):
            self._memory = self._programs.update(self._memory, step, agent_params)
        self._believed = None

    def _ask(self, program: Any, observation: Any, price: float) -> float:
        """An answer about one price; 0 where the environment sells nothing."""
        if self.agent_setup.core.components.environment.demand is None:
            return 0.0
        obs = self._observed(observation)
        action = price_action(price)
        return float(
            program(self._belief(), obs, action, self.agent_setup.agent_params)
        )

    def _observed(self, observation: Any) -> np.ndarray:
        size = self.agent_setup.core.components.environment.observation_dim
        return vector("observation", observation, size)

    def _belief(self) -> Any:
        if self._believed is None:
            self._believed = self._programs.belief(
                self._memory,
                self.latest_messages.wires(),
                self.agent_setup.agent_params,
            )
        return self._believed

    def _handle_market_insight(self, delivery: Delivery) -> None:
        refusal = self.latest_messages.take(delivery)
        if refusal is not None and self._network is not None:
            self._network.refuse(delivery.sender, refusal)
        elif not self._owned:
            self._believed = None


def _update(
    components: PeerComponents, memory: Any, step: Step, agent_params: AgentParams
) -> Any:
    experience = make_experience(components, step.transition, step.log_sales)
    decay = agent_params.hyper.memory.decay
    return components.memory.update(memory, experience, decay, jnp.ones(()))


def _belief(
    components: PeerComponents, memory: Any, wires: Any, agent_params: AgentParams
) -> Any:
    """The posterior under the prior that neighbours' demand makes, as in a round.

    A memory alone trusts all alike and knows no clock but the length of a run.
    """
    config, base = components.config, components.memory.base_prior
    received = components.mode.bound(components.mode.inbound(wires))
    told = sanitize_demand(received.demand, config.steps)
    listening = agent_params.hyper.exchange.network_weight > 0.0
    mixing_weights = agent_params.edges[None] * jnp.where(listening, 1.0, 0.0)
    pool = components.mode.pool
    if pool is None:
        pool, rules = POOLINGS[config.memory.pooling], config.exchange
        own = jax.tree.map(lambda leaf: leaf[None], components.memory.summary(memory))
        mixing_weights = screen_demand(
            mixing_weights, told, own, base, rules.aggregator, rules.byzantine_fraction
        )
    prior, _ = pool(mixing_weights, told, base)
    return components.memory.posterior(
        memory, jax.tree.map(lambda leaf: leaf[0], prior)
    )


def _bonus(
    components: PeerComponents,
    belief: Any,
    obs: Array,
    action: Array,
    agent_params: AgentParams,
) -> Array:
    options = candidates_of(components, obs, agent_params.params)
    return components.memory.exploration_bonus(belief, options, action)


def _std(
    components: PeerComponents,
    belief: Any,
    obs: Array,
    action: Array,
    agent_params: AgentParams,
) -> Array:
    options = candidates_of(components, obs, agent_params.params)
    key = jax.random.key(0)
    return components.memory.optimal_exploration_std(belief, options, action, key)


def _regions(
    components: PeerComponents, belief: Any, obs: Array, agent_params: AgentParams
) -> Regions:
    options = candidates_of(components, obs, agent_params.params)
    return components.memory.promising_regions(belief, options, jax.random.key(0))
