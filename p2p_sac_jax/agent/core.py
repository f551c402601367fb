"""The compiled functions of one agent: those of the simulation, for one peer.

``peer`` and ``exchange`` compute everything; an agent is one receiver of J senders.
``AgentState`` holds plain arrays, so that it can be saved; each program wraps the key
again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import Exchange, ExchangeInputs, exchange_of
from p2p_sac_jax.exchange.guidance import potential
from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.exchange.trust import uniform_trust
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.context import (
    REPEATED_TRAINING,
    ROWS,
    PeerComponents,
    RoundContext,
    StepInputs,
    make_peer_components,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.learning import pretrain_on_model
from p2p_sac_jax.peer.message import local_summary, make_message, sample_observations
from p2p_sac_jax.peer.model_rollouts import model_blend_weight
from p2p_sac_jax.peer.state import PeerState, init_state
from p2p_sac_jax.peer.step import observe, select_action, update
from p2p_sac_jax.sac.sac import SacMetrics, SacState
from p2p_sac_jax.types import Array, Guidance, Transition


class AgentState(NamedTuple):
    """Everything one agent carries from step to step, as arrays."""

    peer: PeerState  # its key as data; no environment, observation or belief
    belief: Any  # the memory's posterior under the prior of ``guidance``
    guidance: Guidance  # from the last exchange
    clock: Array  # [] int32 step of the shared clock


class AgentParams(NamedTuple):
    """Constants of one agent."""

    environment: Any  # parameters of the environment
    hyper: Hyper
    mixing_weights: Array  # [J] of each peer; 0 for itself


class AgentStep(NamedTuple):
    """One real step as an agent reports it."""

    transition: Transition
    log_sales: Array  # [] ln(units / usual units); 0 where nothing is sold
    kept: Array  # [] 1 if the transition goes into the replay


class TrainMetrics(NamedTuple):
    """Metrics of one call of ``train``."""

    losses: SacMetrics  # means over the updates
    model_rollout_fraction: Array  # [] fraction of model rollouts in the rows
    value_weight: Array  # [] the network's weight in the bootstrap, mean over cells
    std_weight: Array  # [] the network's weight in exploration, mean over cells

    def numbers(self) -> dict[str, float]:
        """All metrics by name."""
        values = self.losses._asdict() | self._asdict()
        del values["losses"]
        return {name: float(value) for name, value in values.items()}


class Core(NamedTuple):
    """Programs of one agent, compiled at their first call."""

    components: PeerComponents
    # (key data, clock, params)
    init: Callable[[Array, Array, AgentParams], AgentState]
    # (state, obs [D], params) -> [A]; ``greedy`` is without exploration
    select_action: Callable[[AgentState, Array, AgentParams], Array]
    greedy: Callable[[AgentState, Array, AgentParams], Array]
    observe: Callable[[AgentState, AgentStep, AgentParams], AgentState]
    # (batch size) -> (state, index of the call within the step, params)
    train_step: Callable[
        [int], Callable[[AgentState, Array, AgentParams], tuple[SacState, TrainMetrics]]
    ]
    # (state, connected [], allowed [], params) -> send_state, message, 1 if it is sent
    make_message: Callable[
        [AgentState, Array, Array, AgentParams], tuple[SendState, Any, Array]
    ]
    # (state, messages [J, ...], params)
    exchange: Callable[[AgentState, Any, AgentParams], AgentState]
    pretrain_on_model: Callable[[AgentState, AgentParams], SacState]

    def compile(self, state: AgentState, messages: Any, params: AgentParams) -> None:
        """Runs the programs of a week and a round once, for nothing.

        Args:
          state: of the agent.
          messages: of all peers, leaves [J, ...].
          params: of the agent.
        """
        obs = np.zeros(self.components.environment.observation_dim, np.float32)
        zero, one = np.float32(0), np.float32(1)
        action = np.array(self.select_action(state, obs, params))
        week = AgentStep(Transition(obs, action, zero, obs, one), zero, one)
        state = self.observe(state, week, params)
        self.train_step(self.components.batch_size)(state, np.int32(0), params)
        self.make_message(state, one, np.int32(0), params)
        self.exchange(state, messages, params)

    def message_shapes(self) -> Any:
        """Shapes of one peer's message, leaves ``jax.ShapeDtypeStruct``."""
        key, zero = np.zeros(2, np.uint32), np.zeros((), np.int32)
        alone = AgentParams((), (), np.zeros(1, np.float32))  # type: ignore[arg-type]
        return jax.eval_shape(self.init, key, zero, alone).peer.send_state.message


@functools.cache
def make_core(config: TrainConfig, environment: Environment) -> Core:
    """Builds the programs; agents of one configuration share them.

    Args:
      config: a validated configuration without simulated faults or attacks.
      environment: sizes, cells and demand are read; it is never stepped.
    """
    components = make_peer_components(config, environment)
    exchange = exchange_of(config, components.memory.base_prior, components.mode)

    @functools.cache
    def train_step(batch_size: int) -> Callable:
        sac = dataclasses.replace(config.sac, batch_size=batch_size)
        sized = make_peer_components(dataclasses.replace(config, sac=sac), environment)
        return jax.jit(functools.partial(_train, sized))

    def of_components(function: Callable) -> Callable:
        return jax.jit(functools.partial(function, components))

    return Core(
        components=components,
        init=of_components(_init),
        select_action=of_components(_select_action),
        greedy=of_components(_greedy),
        observe=of_components(_observe),
        train_step=train_step,
        make_message=of_components(_make_message),
        exchange=jax.jit(functools.partial(_exchange, components, exchange)),
        pretrain_on_model=of_components(_pretrain_on_model),
    )


def _init(
    components: PeerComponents, key: Array, clock: Array, params: AgentParams
) -> AgentState:
    """The state before the first step and the first exchange."""
    environment, memory = components.environment, components.memory
    peer = init_state(
        components,
        jax.random.wrap_key_data(key),
        environment=(),
        obs=jnp.zeros(environment.observation_dim),
        trust=uniform_trust(1, params.mixing_weights.shape[0])[0],
    )
    zeros = jnp.zeros(components.num_cells)
    return AgentState(
        peer=peer._replace(key=key, obs=(), belief=()),
        belief=memory.posterior(peer.memory, memory.base_prior.prior),
        guidance=Guidance(
            value=zeros,
            value_weight=zeros,
            entropy=zeros,
            entropy_weight=zeros,
            std_weight=zeros,
            trend=zeros,
            prior=jax.tree.map(jnp.asarray, memory.base_prior.prior),
            has_prior=jnp.zeros(()),
        ),
        clock=jnp.asarray(clock, jnp.int32),
    )


def _peer(state: AgentState, obs: Array | tuple = ()) -> PeerState:
    return state.peer._replace(key=jax.random.wrap_key_data(state.peer.key), obs=obs)


def _context(state: AgentState, params: AgentParams) -> RoundContext:
    return RoundContext(state.guidance, params.environment, params.hyper, jnp.ones(()))


def _inputs(state: AgentState, params: AgentParams) -> StepInputs:
    keys = step_keys(jax.random.wrap_key_data(state.peer.key), state.clock)
    return StepInputs(state.belief, _context(state, params), keys, state.clock)


def _select_action(
    components: PeerComponents, state: AgentState, obs: Array, params: AgentParams
) -> Array:
    return select_action(components, _peer(state, obs), _inputs(state, params))[0]


def _greedy(
    components: PeerComponents, state: AgentState, obs: Array, params: AgentParams
) -> Array:
    peer = state.peer
    share = model_blend_weight(params.hyper.memory, peer.steps, peer.normalised_error)
    return greedy_policy(
        components, peer.learner, state.belief, share, params.environment
    )(obs)


def _observe(
    components: PeerComponents, state: AgentState, step: AgentStep, params: AgentParams
) -> AgentState:
    """Stores the step at ``clock``, updates the memory and advances the clock."""
    peer = observe(
        components,
        state.peer,
        step.transition,
        step.log_sales,
        _inputs(state, params),
    )
    replay = components.replay.insert(peer.replay, step.transition, step.kept)
    return state._replace(
        peer=peer._replace(replay=replay),
        belief=components.memory.posterior(peer.memory, state.guidance.prior),
        clock=state.clock + 1,
    )


def _train(
    components: PeerComponents, state: AgentState, nth: Array, params: AgentParams
) -> tuple[SacState, TrainMetrics]:
    """The updates of the last observed step; a repeated call draws anew."""
    peer, step = state.peer, state.clock - 1
    again = stream(jax.random.wrap_key_data(peer.key), REPEATED_TRAINING, nth)
    data = jnp.where(nth > 0, jax.random.key_data(again), peer.key)
    row_key = stream(jax.random.wrap_key_data(data), ROWS, step)
    rows = components.replay.sample(peer.replay, row_key, components.rows_per_step)
    active = (peer.replay.size > 0).astype(jnp.float32)
    context = _context(state, params)._replace(active=active)
    keys = step_keys(jax.random.wrap_key_data(data), step)
    inputs = StepInputs(state.belief, context, keys, step)
    learner, losses, share = update(components, peer, rows, inputs)
    weights = state.guidance.value_weight, state.guidance.std_weight
    return learner, TrainMetrics(
        losses, share, *(jnp.mean(weight) for weight in weights)
    )


def _make_message(
    components: PeerComponents,
    state: AgentState,
    connected: Array,
    allowed: Array,
    params: AgentParams,
) -> tuple[SendState, Any, Array]:
    peer = _peer(state)
    observations = sample_observations(components, peer.replay, peer.key, state.clock)
    # A second ``_peer``: both calls fold streams of the key, which key reuse checks
    # would refuse on one key array.
    send_state, _, sent = make_message(
        components,
        _peer(state),
        observations,
        params.hyper,
        jnp.where(connected > 0, allowed, 0),
        state.clock,
    )
    return send_state, send_state.message, sent


def _exchange(
    components: PeerComponents,
    exchange: Exchange,
    state: AgentState,
    messages: Any,
    params: AgentParams,
) -> AgentState:
    """One round of the exchange with a single receiver."""
    peer, clock = _peer(state), state.clock
    observations = sample_observations(components, peer.replay, peer.key, clock)
    own = local_summary(
        components, _peer(state), observations, params.hyper.exchange, clock
    )
    own, edges, trust, own_steps = jax.tree.map(
        lambda leaf: leaf[None], (own, params.mixing_weights, peer.trust, peer.steps)
    )
    result = exchange(
        ExchangeInputs(
            received=components.mode.decode(messages),
            own=own,
            edges=edges,
            trust=trust,
            own_steps=own_steps,
            hyper=params.hyper,
            clock=clock,
            now=clock * components.seconds_per_step,
        )
    )
    guidance, trust = jax.tree.map(
        lambda leaf: leaf[0], (result.guidance, result.trust)
    )
    after = state.peer._replace(trust=trust)
    if components.value_use == "shaping":
        after = after._replace(potential=potential(guidance))
    return state._replace(
        peer=after,
        belief=components.memory.posterior(peer.memory, guidance.prior),
        guidance=guidance,
    )


def _pretrain_on_model(
    components: PeerComponents, state: AgentState, params: AgentParams
) -> SacState:
    peer, context = _peer(state), _context(state, params)
    return pretrain_on_model(
        components, peer.learner, state.belief, context, peer.key, state.clock
    )
