"""The compiled functions of one agent: the simulation's own, for one peer.

Nothing is computed here that ``peer`` and ``exchange`` do not compute: a peer that
lives alone in its process listens as one receiver of J senders. ``AgentState`` is plain
arrays, so that it can be saved; every program wraps the key anew.
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
from p2p_sac_jax.exchange.guidance import potential
from p2p_sac_jax.exchange.send_policy import Outbox, SendConditions
from p2p_sac_jax.exchange.trust import uniform_trust
from p2p_sac_jax.exchange.value_sharing import USES
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.components import (
    REPEATED_TRAINING,
    ROWS,
    PeerComponents,
    RoundContext,
    make_peer_components,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.learning import pretrain_on_model
from p2p_sac_jax.peer.message import local_summary, make_message, sample_observations
from p2p_sac_jax.peer.model_rollouts import model_blend_weight
from p2p_sac_jax.peer.stages import (
    PeerState,
    init_state,
    observe,
    select_action,
    update,
)
from p2p_sac_jax.sac.sac import SacMetrics, SacState
from p2p_sac_jax.simulation.faults import NEVER, FaultPlan
from p2p_sac_jax.simulation.network import (
    Broadcast,
    Participation,
    Receivers,
    RoundInfo,
    make_network,
)
from p2p_sac_jax.types import Array, Guidance, Transition


class AgentState(NamedTuple):
    """Everything one agent carries from step to step, as arrays."""

    peer: PeerState  # its key as data; no environment, observation or belief
    belief: Any  # the memory's posterior under the prior of ``guidance``
    guidance: Guidance  # what the network said at the last round
    clock: Array  # [] int32 step of the shared clock


class AgentParams(NamedTuple):
    """Where an agent lives and how it learns; constant."""

    params: Any  # of the environment
    hyper: Hyper
    edges: Array  # [J] how loud each peer is to it; 0 for itself


class Step(NamedTuple):
    """One real step as an agent reports it."""

    transition: Transition
    log_sales: Array  # [] ln(units / usual units); 0 where nothing is sold
    kept: Array  # [] 1 if the transition goes into the replay


class TrainMetrics(NamedTuple):
    """What one call of ``train`` did."""

    losses: SacMetrics  # means over the updates
    model_rollout_fraction: Array  # [] share of imagined rows
    value_weight: Array  # [] the network's weight in the bootstrap, mean over cells
    std_weight: Array  # [] the network's weight in exploration, mean over cells

    def numbers(self) -> dict[str, float]:
        """All of it by name."""
        values = self.losses._asdict() | self._asdict()
        del values["losses"]
        return {name: float(value) for name, value in values.items()}


class Core(NamedTuple):
    """Programs of one agent, compiled at their first call."""

    components: PeerComponents
    start: Callable[[Array, Array, AgentParams], AgentState]  # (key data, clock, place)
    select_action: Callable[
        [AgentState, Array, AgentParams], Array
    ]  # (life, obs [D], place) -> [A]
    greedy: Callable[
        [AgentState, Array, AgentParams], Array
    ]  # the same without exploration
    observe: Callable[[AgentState, Step, AgentParams], AgentState]
    # (batch size) -> (life, nth call in this step, place) -> learner and report
    train_step: Callable[
        [int], Callable[[AgentState, Array, AgentParams], tuple[SacState, TrainMetrics]]
    ]
    # (life, connected [], allowed [], place) -> outbox, wire and 1 if it is sent
    make_message: Callable[
        [AgentState, Array, Array, AgentParams], tuple[Outbox, Any, Array]
    ]
    listen: Callable[
        [AgentState, Any, AgentParams], AgentState
    ]  # (life, wires [J, ...], place)
    pretrain_on_model: Callable[[AgentState, AgentParams], SacState]

    def wire(self) -> Any:
        """Shapes of one peer's message, leaves ``jax.ShapeDtypeStruct``."""
        key, zero = np.zeros(2, np.uint32), np.zeros((), np.int32)
        alone = AgentParams((), (), np.zeros(1, np.float32))  # type: ignore[arg-type]
        return jax.eval_shape(self.start, key, zero, alone).peer.outbox.held


@functools.cache
def make_core(config: TrainConfig, environment: Environment) -> Core:
    """Builds the programs; agents of one configuration share them.

    Args:
      config: a validated configuration without simulated faults or attacks.
      environment: sizes, cells and demand are read; it is never stepped.
    """
    components = make_peer_components(config, environment)
    network = make_network(
        config, environment.action_dim, components.memory.base_prior, components.mode
    )

    @functools.cache
    def train_step(batch_size: int) -> Callable:
        sac = dataclasses.replace(config.sac, batch_size=batch_size)
        sized = make_peer_components(dataclasses.replace(config, sac=sac), environment)
        return jax.jit(functools.partial(_train, sized))

    def of_components(function: Callable) -> Callable:
        return jax.jit(functools.partial(function, components))

    return Core(
        components=components,
        start=of_components(_start),
        select_action=of_components(_select_action),
        greedy=of_components(_greedy),
        observe=of_components(_observe),
        train_step=train_step,
        make_message=of_components(_make_message),
        listen=jax.jit(functools.partial(_listen, components, network.listen)),
        pretrain_on_model=of_components(_pretrain_on_model),
    )


def _start(
    components: PeerComponents, key: Array, clock: Array, agent_params: AgentParams
) -> AgentState:
    """Before the first step and the first word of others."""
    environment, memory, cells = (
        components.environment,
        components.memory,
        components.num_cells,
    )
    peer = init_state(
        components,
        jax.random.wrap_key_data(key),
        environment=(),
        obs=jnp.zeros(environment.observation_dim),
        trust=uniform_trust(1, agent_params.edges.shape[0])[0],
    )
    silence = jnp.zeros(cells)
    return AgentState(
        peer=peer._replace(key=key, obs=(), belief=()),
        belief=memory.posterior(peer.memory, memory.base_prior),
        guidance=Guidance(
            value=silence,
            value_weight=silence,
            entropy=silence,
            std_weight=silence,
            trend=silence,
            prior=jax.tree.map(jnp.asarray, memory.base_prior),
            has_prior=jnp.zeros(()),
        ),
        clock=jnp.asarray(clock, jnp.int32),
    )


def _peer(agent_state: AgentState, obs: Array | tuple = ()) -> PeerState:
    return agent_state.peer._replace(
        key=jax.random.wrap_key_data(agent_state.peer.key), obs=obs
    )


def _context(agent_state: AgentState, agent_params: AgentParams) -> RoundContext:
    return RoundContext(
        agent_state.guidance, agent_params.params, agent_params.hyper, jnp.ones(())
    )


def _select_action(
    components: PeerComponents,
    agent_state: AgentState,
    obs: Array,
    agent_params: AgentParams,
) -> Array:
    peer = _peer(agent_state, obs)
    keys = step_keys(peer.key, agent_state.clock)
    return select_action(
        components,
        peer,
        agent_state.belief,
        _context(agent_state, agent_params),
        keys,
    )[0]


def _greedy(
    components: PeerComponents,
    agent_state: AgentState,
    obs: Array,
    agent_params: AgentParams,
) -> Array:
    peer = agent_state.peer
    share = model_blend_weight(
        agent_params.hyper.memory, peer.steps, peer.normalised_error
    )
    return greedy_policy(
        components, peer.learner, agent_state.belief, share, agent_params.params
    )(obs)


def _observe(
    components: PeerComponents,
    agent_state: AgentState,
    step: Step,
    agent_params: AgentParams,
) -> AgentState:
    """Stores and remembers what happened at ``agent_state.clock``, and moves the clock."""
    lived = observe(
        components,
        agent_state.peer,
        agent_state.belief,
        step.transition,
        step.log_sales,
        _context(agent_state, agent_params),
        agent_state.clock,
    )
    replay = components.replay.insert(lived.replay, step.transition, step.kept)
    return agent_state._replace(
        peer=lived._replace(replay=replay),
        belief=components.memory.posterior(lived.memory, agent_state.guidance.prior),
        clock=agent_state.clock + 1,
    )


def _train(
    components: PeerComponents,
    agent_state: AgentState,
    nth: Array,
    agent_params: AgentParams,
) -> tuple[SacState, TrainMetrics]:
    """The updates of the step that was observed last; with new draws when repeated."""
    peer, sac, step = agent_state.peer, components.config.sac, agent_state.clock - 1
    again = stream(jax.random.wrap_key_data(peer.key), REPEATED_TRAINING, nth)
    data = jnp.where(nth > 0, jax.random.key_data(again), peer.key)
    row_key = stream(jax.random.wrap_key_data(data), ROWS, step)
    count = sac.updates_per_step * sac.batch_size if components.learns else 0
    context = _context(agent_state, agent_params)
    learner, losses, share = update(
        components,
        peer.learner,
        components.replay.sample(peer.replay, row_key, count),
        agent_state.belief,
        jnp.maximum(peer.steps - 1, 0),
        peer.normalised_error,
        context._replace(active=(peer.replay.size > 0).astype(jnp.float32)),
        step_keys(jax.random.wrap_key_data(data), step),
    )
    weights = agent_state.guidance.value_weight, agent_state.guidance.std_weight
    return learner, TrainMetrics(
        losses, share, *(jnp.mean(weight) for weight in weights)
    )


def _make_message(
    components: PeerComponents,
    agent_state: AgentState,
    connected: Array,
    allowed: Array,
    agent_params: AgentParams,
) -> tuple[Outbox, Any, Array]:
    peer, zero = _peer(agent_state), jnp.zeros(())
    past = sample_observations(components, peer.replay, peer.key, agent_state.clock)
    send_conditions = SendConditions(
        active=jnp.ones(()),
        connected=connected,
        delayed=zero,
        frozen=zero,
        allowed=allowed,
    )
    # The clock's streams are folded twice, for the past and for what is said of it.
    outbox, send_result = make_message(
        components,
        _peer(agent_state),
        past,
        agent_params.hyper,
        send_conditions,
        agent_state.clock,
    )
    return outbox, send_result.wire, send_result.sending


def _listen(
    components: PeerComponents,
    listen: Callable,
    agent_state: AgentState,
    wires: Any,
    agent_params: AgentParams,
) -> AgentState:
    """A round with one receiver: what the agent makes of the latest word of all."""
    peer, clock, senders = (
        _peer(agent_state),
        agent_state.clock,
        agent_params.edges.shape[0],
    )
    past = sample_observations(components, peer.replay, peer.key, clock)
    own = local_summary(
        components, _peer(agent_state), past, agent_params.hyper.exchange, clock
    )
    receiver = Receivers(
        own=own,
        adjacency=agent_params.edges,
        trust=peer.trust,
        steps=peer.steps,
        sending=jnp.zeros(()),
        releases=peer.outbox.releases,
    )
    guidance, trust, _ = listen(
        Broadcast(wires, jnp.ones(senders)),
        jax.tree.map(lambda leaf: leaf[None], receiver),
        agent_params.hyper,
        jnp.zeros((), jnp.int32),
        RoundInfo(_present(1), (), _present(senders), clock),
    )
    guidance, trust = jax.tree.map(lambda leaf: leaf[0], (guidance, trust))
    after = agent_state.peer._replace(trust=trust)
    if USES[components.config.exchange.value_sharing] == "shaping":
        after = after._replace(potential=potential(guidance))
    return agent_state._replace(
        peer=after,
        belief=components.memory.posterior(peer.memory, guidance.prior),
        guidance=guidance,
    )


def _pretrain_on_model(
    components: PeerComponents, agent_state: AgentState, agent_params: AgentParams
) -> SacState:
    peer, context = _peer(agent_state), _context(agent_state, agent_params)
    return pretrain_on_model(
        components,
        peer.learner,
        agent_state.belief,
        context,
        peer.key,
        agent_state.clock,
    )


def _present(peers: int) -> Participation:
    """Peers who are there, honest and without simulated faults; leaves [peers]."""
    none, never = np.zeros(peers, np.float32), np.full(peers, NEVER, np.int32)
    plan = FaultPlan(np.arange(peers, dtype=np.int32), none, never, never, none)
    return Participation(np.zeros(peers, np.int32), none, plan)
