"""The price memory of one store, with a demand prior from the network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.core import AgentParams, AgentStep, make_core
from p2p_sac_jax.agent.price_history import (
    PriceHistory,
    Weeks,
    action_price,
    past_steps,
    price_action,
    read_history,
)
from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.latest_messages import LatestMessages
from p2p_sac_jax.agent.protocol.payloads import MARKET
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.settings import (
    AgentSetup,
    make_agent_setup,
    named_environment,
    shared_settings,
)
from p2p_sac_jax.arguments import numbers
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import make_demand_pool
from p2p_sac_jax.exchange.sanitize import sanitize_demand
from p2p_sac_jax.peer.behaviour import candidates_of
from p2p_sac_jax.peer.context import PeerComponents
from p2p_sac_jax.peer.step import make_experience
from p2p_sac_jax.types import Array


class PromisingRegion(NamedTuple):
    """A range of prices worth trying."""

    low: float  # relative to the usual price
    high: float
    probability: float  # that this price is the best of the week
    mean: float  # expected profit of the week, over a usual week's
    std: float  # its posterior standard deviation


class _MemoryPrograms(NamedTuple):
    """Functions of a memory, compiled at the first call."""

    update: Any  # (memory, step, params) -> memory
    belief: Any  # (memory, messages [J, ...], params) -> posterior
    bonus: Any  # (params, belief, obs [D], action [A]) -> []
    std: Any  # the same
    regions: Any  # (params, belief, obs [D]) -> Regions


@functools.cache
def _memory_programs(config: TrainConfig, environment: Environment) -> _MemoryPrograms:
    components = make_core(config, environment).components
    memory = components.memory

    def update(state: Any, step: AgentStep, params: AgentParams) -> Any:
        experience = make_experience(components, step.transition, step.log_sales)
        return memory.update(state, experience, params.hyper.memory.decay, jnp.ones(()))

    def of_week(answer: Callable) -> Callable:
        def program(
            params: AgentParams, belief: Any, obs: Array, *action: Array
        ) -> Any:
            week = candidates_of(components, obs, params.environment)
            return answer(belief, week, *action)

        return program

    belief = functools.partial(_belief, config, components)
    bonus = of_week(memory.exploration_bonus)
    std = of_week(
        lambda belief, week, action: memory.optimal_exploration_std(
            belief, week, action, _key()
        )
    )
    regions = of_week(
        lambda belief, week: memory.promising_regions(belief, week, _key())
    )
    return _MemoryPrograms(*map(jax.jit, (update, belief, bonus, std, regions)))


def _key() -> Array:
    return jax.random.key(0)  # the same draws for every question


class P2PPriceMemory:
    """One store's memory of its demand, with a prior from the network's messages.

    A memory on its own learns by ``update``. The memory of an agent learns by the
    agent's ``observe``.
    """

    def __init__(
        self,
        price_history: PriceHistory | None,
        network: PeerNetwork | None,
        config: TrainConfig | None = None,
        *,
        environment: Environment | None = None,
        params: Any = None,
        peer_id: int | None = None,
        setup: AgentSetup | None = None,
    ) -> None:
        """Fills the memory with past weeks and subscribes to market insight.

        Args:
          price_history: past weeks of this store, or None.
          network: None is a store alone.
          config: sections memory, exchange and privacy are read.
          environment: by default that of ``config``.
          params: of the environment; see ``P2PSACAgent``.
          peer_id: by default the number in the roster.
          setup: of the agent that owns the memory and fills it, in place of the rest.

        Raises:
          ConfigError: an argument is invalid, or two do not fit together.
        """
        self._owned = setup is not None
        if setup is None:
            config = config or TrainConfig()
            environment = environment or named_environment(config.environment)
            place = environment, network, params, peer_id, price_history
            setup = make_agent_setup(config, *place)
        self.setup = setup
        self.latest_messages = LatestMessages(
            setup.core.message_shapes(), setup.peers, setup.name
        )
        self._components = setup.core.components
        self._network = network
        self._programs = _memory_programs(setup.config, self._components.environment)
        self._memory = self._components.memory.init()
        self._posterior = None  # computed on demand
        if not self._owned:
            self._learn(setup.weeks)
        if network is not None:
            shared = shared_settings(self.setup)
            network.must_agree(**shared, message=self.latest_messages.layout)
            network.register_message_handler(MARKET, self._handle_market_insight)

    def update(self, observation: Any, price: float, units: float) -> None:
        """Adds one week, with the figures of a week of ``PriceHistory``.

        Args:
          observation: [11] at its start, as ``p2p_sac_jax.observation`` makes it.
          price: charged, relative to the usual price.
          units: sold, relative to a usual week.

        Raises:
          ConfigError: a value is invalid, or the memory belongs to an agent.
        """
        if self._owned:
            raise ConfigError("an agent's price_memory learns by the agent's observe")
        week = PriceHistory(np.asarray(observation)[None], [price], [units])
        self._learn(read_history(week, self._components.environment))

    def get_exploration_bonus(self, observation: Any, price: float) -> float:
        """Uncertainty of demand at this price, in [0, 1]; 1 is no knowledge."""
        return self._ask(self._programs.bonus, observation, price)

    def get_optimal_exploration_std(self, observation: Any, price: float) -> float:
        """Expected distance of the best price from this one, in action units."""
        return self._ask(self._programs.std, observation, price)

    def get_promising_regions(self, observation: Any) -> list[PromisingRegion]:
        """The most likely ranges of the best price of the week, best first.

        Args:
          observation: [11] of the week.

        Returns:
          Regions; none without a demand model.

        Raises:
          ConfigError: the observation is invalid.
        """
        if self._components.environment.demand is None:
            return []
        obs = self._observed(observation)
        found = self._programs.regions(self.setup.params, self._belief(), obs)
        low, high = action_price(found.lo), action_price(found.hi)
        columns = (low, high, found.probability, found.mean, found.std)
        return [PromisingRegion(*map(float, row)) for row in zip(*columns, strict=True)]

    def hold(self, memory: Any, belief: Any) -> None:
        """Takes over memory and belief of the agent that owns this object."""
        self._memory, self._posterior = memory, belief

    def _learn(self, weeks: Weeks) -> None:
        params, environment = self.setup.params, self._components.environment
        for step in past_steps(weeks, environment, params.environment):
            if step is not None:
                self._memory = self._programs.update(self._memory, step, params)
        self._posterior = None

    def _ask(self, program: Any, observation: Any, price: float) -> float:
        """The result of a program for one price; 0 without a demand model."""
        if self._components.environment.demand is None:
            return 0.0
        obs = self._observed(observation)
        action = price_action(price)
        return float(program(self.setup.params, self._belief(), obs, action))

    def _observed(self, observation: Any) -> np.ndarray:
        shape = (self._components.environment.observation_dim,)
        return numbers("observation", observation, shape)

    def _belief(self) -> Any:
        if self._posterior is None:
            self._posterior = self._programs.belief(
                self._memory, self.latest_messages.messages(), self.setup.params
            )
        return self._posterior

    def _handle_market_insight(self, delivery: Delivery) -> None:
        refusal = self.latest_messages.take(delivery)
        if refusal is not None and self._network is not None:
            self._network.refuse(delivery.sender, refusal)
        elif not self._owned:
            self._posterior = None


def _belief(
    config: TrainConfig,
    components: PeerComponents,
    memory: Any,
    messages: Any,
    params: AgentParams,
) -> Any:
    """The posterior under the prior from the neighbours' messages, as in a round.

    A memory on its own trusts all peers equally and bounds times by a run's length.
    """
    base = components.memory.base_prior
    received = components.mode.clamp(components.mode.decode(messages))
    demand = sanitize_demand(received.demand, base.record_scale, config.steps)
    connected = params.hyper.exchange.network_weight > 0.0
    mixing_weights = params.mixing_weights[None] * jnp.where(connected, 1.0, 0.0)
    own = jax.tree.map(lambda leaf: leaf[None], components.memory.summary(memory))
    pool = make_demand_pool(base, components.mode.pool or config.memory.pooling)
    prior, _ = pool(mixing_weights, demand, own)
    return components.memory.posterior(
        memory, jax.tree.map(lambda leaf: leaf[0], prior)
    )
