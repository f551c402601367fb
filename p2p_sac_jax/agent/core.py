"""The compiled functions of one agent: the simulation's own, for one peer.

Nothing is computed here that ``peer`` and ``exchange`` do not compute: a peer that
lives alone in its process listens as one receiver of J senders. ``Life`` is plain
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
from p2p_sac_jax.exchange.estimation import USES
from p2p_sac_jax.exchange.faults import NEVER, FaultPlan
from p2p_sac_jax.exchange.guidance import potential
from p2p_sac_jax.exchange.network import (
    Listeners,
    Moment,
    Said,
    Senders,
    make_network,
)
from p2p_sac_jax.exchange.synchronisation import Outbox, Terms
from p2p_sac_jax.exchange.trust import uniform_trust
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.learner.sac import SacMetrics, SacState
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.imagination import advice_share
from p2p_sac_jax.peer.learning import rehearse
from p2p_sac_jax.peer.rooms import (
    AGAIN,
    ROWS,
    Rooms,
    Situation,
    make_rooms,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.speaking import knowledge, recall, speak
from p2p_sac_jax.peer.stages import PeerState, act, improve, newborn, remember
from p2p_sac_jax.types import Array, Guidance, Transition


class Life(NamedTuple):
    """Everything one agent carries from step to step, as arrays."""

    peer: PeerState  # its key as data; no environment, observation or belief
    belief: Any  # the memory's posterior under the prior of ``guidance``
    guidance: Guidance  # what the network said at the last round
    clock: Array  # [] int32 step of the shared clock


class Place(NamedTuple):
    """Where an agent lives and how it learns; constant."""

    params: Any  # of the environment
    hyper: Hyper
    edges: Array  # [J] how loud each peer is to it; 0 for itself


class Step(NamedTuple):
    """One real step as an agent reports it."""

    transition: Transition
    log_sales: Array  # [] ln(units / usual units); 0 where nothing is sold
    kept: Array  # [] 1 if the transition goes into the replay


class Study(NamedTuple):
    """What one call of ``train`` did."""

    losses: SacMetrics  # means over the updates
    imagined_fraction: Array  # [] share of imagined rows
    value_weight: Array  # [] the network's weight in the bootstrap, mean over cells
    std_weight: Array  # [] the network's weight in exploration, mean over cells

    def numbers(self) -> dict[str, float]:
        """All of it by name."""
        values = self.losses._asdict() | self._asdict()
        del values["losses"]
        return {name: float(value) for name, value in values.items()}


class Core(NamedTuple):
    """Programs of one agent, compiled at their first call."""

    rooms: Rooms
    start: Callable[[Array, Array, Place], Life]  # (key data, clock, place)
    act: Callable[[Life, Array, Place], Array]  # (life, obs [D], place) -> [A]
    greedy: Callable[[Life, Array, Place], Array]  # the same without exploration
    observe: Callable[[Life, Step, Place], Life]
    # (batch size) -> (life, nth call in this step, place) -> learner and report
    study: Callable[[int], Callable[[Life, Array, Place], tuple[SacState, Study]]]
    # (life, connected [], allowed [], place) -> outbox, wire and 1 if it is sent
    speak: Callable[[Life, Array, Array, Place], tuple[Outbox, Any, Array]]
    listen: Callable[[Life, Any, Place], Life]  # (life, wires [J, ...], place)
    rehearse: Callable[[Life, Place], SacState]

    def wire(self) -> Any:
        """Shapes of one peer's message, leaves ``jax.ShapeDtypeStruct``."""
        key, zero = np.zeros(2, np.uint32), np.zeros((), np.int32)
        alone = Place((), (), np.zeros(1, np.float32))  # type: ignore[arg-type]
        return jax.eval_shape(self.start, key, zero, alone).peer.outbox.held


@functools.cache
def make_core(config: TrainConfig, environment: Environment) -> Core:
    """Builds the programs; agents of one configuration share them.

    Args:
      config: a validated configuration without simulated faults or attacks.
      environment: sizes, cells and demand are read; it is never stepped.
    """
    rooms = make_rooms(config, environment)
    network = make_network(
        config, environment.action_dim, rooms.memory.base_prior, rooms.mode
    )

    @functools.cache
    def study(batch_size: int) -> Callable:
        sac = dataclasses.replace(config.sac, batch_size=batch_size)
        sized = make_rooms(dataclasses.replace(config, sac=sac), environment)
        return jax.jit(functools.partial(_study, sized))

    def of_rooms(function: Callable) -> Callable:
        return jax.jit(functools.partial(function, rooms))

    return Core(
        rooms=rooms,
        start=of_rooms(_start),
        act=of_rooms(_act),
        greedy=of_rooms(_greedy),
        observe=of_rooms(_observe),
        study=study,
        speak=of_rooms(_speak),
        listen=jax.jit(functools.partial(_listen, rooms, network.listen)),
        rehearse=of_rooms(_rehearse),
    )


def _start(rooms: Rooms, key: Array, clock: Array, place: Place) -> Life:
    """Before the first step and the first word of others."""
    environment, memory, cells = rooms.environment, rooms.memory, rooms.num_cells
    peer = newborn(
        rooms,
        jax.random.wrap_key_data(key),
        environment=(),
        obs=jnp.zeros(environment.observation_dim),
        trust=uniform_trust(1, place.edges.shape[0])[0],
    )
    silence = jnp.zeros(cells)
    return Life(
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


def _peer(life: Life, obs: Array | tuple = ()) -> PeerState:
    return life.peer._replace(key=jax.random.wrap_key_data(life.peer.key), obs=obs)


def _situation(life: Life, place: Place) -> Situation:
    return Situation(life.guidance, place.params, place.hyper, jnp.ones(()))


def _act(rooms: Rooms, life: Life, obs: Array, place: Place) -> Array:
    peer = _peer(life, obs)
    keys = step_keys(peer.key, life.clock)
    return act(rooms, peer, life.belief, _situation(life, place), keys)[0]


def _greedy(rooms: Rooms, life: Life, obs: Array, place: Place) -> Array:
    peer = life.peer
    share = advice_share(place.hyper.memory, peer.steps, peer.surprise)
    return greedy_policy(rooms, peer.learner, life.belief, share, place.params)(obs)


def _observe(rooms: Rooms, life: Life, step: Step, place: Place) -> Life:
    """Stores and remembers what happened at ``life.clock``, and moves the clock."""
    lived = remember(
        rooms,
        life.peer,
        life.belief,
        step.transition,
        step.log_sales,
        _situation(life, place),
        life.clock,
    )
    replay = rooms.replay.insert(lived.replay, step.transition, step.kept)
    return life._replace(
        peer=lived._replace(replay=replay),
        belief=rooms.memory.posterior(lived.memory, life.guidance.prior),
        clock=life.clock + 1,
    )


def _study(
    rooms: Rooms, life: Life, nth: Array, place: Place
) -> tuple[SacState, Study]:
    """The updates of the step that was observed last; with new draws when repeated."""
    peer, sac, step = life.peer, rooms.config.sac, life.clock - 1
    again = stream(jax.random.wrap_key_data(peer.key), AGAIN, nth)
    data = jnp.where(nth > 0, jax.random.key_data(again), peer.key)
    row_key = stream(jax.random.wrap_key_data(data), ROWS, step)
    count = sac.updates_per_step * sac.batch_size if rooms.learns else 0
    situation = _situation(life, place)
    learner, losses, share = improve(
        rooms,
        peer.learner,
        rooms.replay.sample(peer.replay, row_key, count),
        life.belief,
        jnp.maximum(peer.steps - 1, 0),
        peer.surprise,
        situation._replace(active=(peer.replay.size > 0).astype(jnp.float32)),
        step_keys(jax.random.wrap_key_data(data), step),
    )
    weights = life.guidance.value_weight, life.guidance.std_weight
    return learner, Study(losses, share, *(jnp.mean(weight) for weight in weights))


def _speak(
    rooms: Rooms, life: Life, connected: Array, allowed: Array, place: Place
) -> tuple[Outbox, Any, Array]:
    peer, zero = _peer(life), jnp.zeros(())
    past = recall(rooms, peer.replay, peer.key, life.clock)
    terms = Terms(
        active=jnp.ones(()),
        connected=connected,
        delayed=zero,
        frozen=zero,
        allowed=allowed,
    )
    # The clock's streams are folded twice, for the past and for what is said of it.
    outbox, spoken = speak(rooms, _peer(life), past, place.hyper, terms, life.clock)
    return outbox, spoken.wire, spoken.sending


def _listen(
    rooms: Rooms, listen: Callable, life: Life, wires: Any, place: Place
) -> Life:
    """A round with one receiver: what the agent makes of the latest word of all."""
    peer, clock, senders = _peer(life), life.clock, place.edges.shape[0]
    past = recall(rooms, peer.replay, peer.key, clock)
    own = knowledge(rooms, _peer(life), past, place.hyper.exchange, clock)
    receiver = Listeners(
        own=own,
        adjacency=place.edges,
        trust=peer.trust,
        steps=peer.steps,
        sending=jnp.zeros(()),
        releases=peer.outbox.releases,
    )
    guidance, trust, _ = listen(
        Said(wires, jnp.ones(senders)),
        jax.tree.map(lambda leaf: leaf[None], receiver),
        place.hyper,
        jnp.zeros((), jnp.int32),
        Moment(_present(1), (), _present(senders), clock),
    )
    guidance, trust = jax.tree.map(lambda leaf: leaf[0], (guidance, trust))
    after = life.peer._replace(trust=trust)
    if USES[rooms.config.exchange.estimation] == "shaping":
        after = after._replace(potential=potential(guidance))
    return life._replace(
        peer=after,
        belief=rooms.memory.posterior(peer.memory, guidance.prior),
        guidance=guidance,
    )


def _rehearse(rooms: Rooms, life: Life, place: Place) -> SacState:
    peer, situation = _peer(life), _situation(life, place)
    return rehearse(rooms, peer.learner, life.belief, situation, peer.key, life.clock)


def _present(peers: int) -> Senders:
    """Peers who are there, honest and without simulated faults; leaves [peers]."""
    none, never = np.zeros(peers, np.float32), np.full(peers, NEVER, np.int32)
    plan = FaultPlan(np.arange(peers, dtype=np.int32), none, never, never, none)
    return Senders(np.zeros(peers, np.int32), none, plan)
