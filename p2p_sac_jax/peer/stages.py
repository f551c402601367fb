"""The stages of one peer's step: act, remember, improve.

Between acting and remembering stands the market: a simulated one in ``pipeline``, the
real one for an agent. Both call the same functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from p2p_sac_jax.exchange.synchronisation import Outbox
from p2p_sac_jax.learner.replay import Replay
from p2p_sac_jax.learner.sac import SacMetrics, SacState
from p2p_sac_jax.memory import demand
from p2p_sac_jax.peer.behaviour import choose_action
from p2p_sac_jax.peer.imagination import advice_share, imagined_share
from p2p_sac_jax.peer.learning import annealed, study
from p2p_sac_jax.peer.rooms import INIT, Rooms, Situation, StepKeys, stream
from p2p_sac_jax.peer.speaking import PERFORMANCE_DECAY, new_outbox
from p2p_sac_jax.types import Array, Experience, Transition

SURPRISE_DECAY = 0.95
MOST_SURPRISE = 100.0  # on average ten standard deviations off: it has to be got over


class PeerState(NamedTuple):
    """Everything one peer carries from step to step."""

    key: Array  # [] typed key, never consumed: streams are folded from it
    steps: Array  # [] int32 own real steps
    environment: Any
    obs: Array  # [D]
    learner: SacState
    replay: Replay  # None while the peer speaks or lives: see ``Peer``
    memory: Any
    surprise: Array  # [] moving average of the memory's standardised squared error
    performance: Array  # [] moving average of rewards, from 0
    last_seen: Array  # [K] int32 clock step at which each cell was last visited
    visits: Array  # [K] int32 own real steps in each cell
    potential: Array  # [K] what shaping takes off own values; 0 in other modes
    outbox: Outbox  # what it remembers of its own sending
    belief: Any  # demand posterior after its last step; () without a demand memory
    trust: Array  # [J] its opinion of the others; ``exchange`` alone reads and writes


def newborn(
    rooms: Rooms, key: Array, environment: Any, obs: Array, trust: Array
) -> PeerState:
    """A peer that has not lived yet, in front of its first observation [D]."""
    state = PeerState(
        key=key,
        steps=jnp.zeros((), jnp.int32),
        environment=environment,
        obs=obs,
        learner=rooms.sac.init(stream(key, INIT, 0)),
        replay=rooms.replay.init(),
        memory=rooms.memory.init(),
        surprise=jnp.ones(()),
        performance=jnp.zeros(()),
        last_seen=jnp.zeros((rooms.num_cells,), jnp.int32),
        visits=jnp.zeros((rooms.num_cells,), jnp.int32),
        potential=jnp.zeros((rooms.num_cells,)),
        outbox=None,  # type: ignore[arg-type]
        belief=(),
        trust=trust,
    )
    if rooms.world_model is not None:
        belief = rooms.memory.posterior(state.memory, rooms.memory.base_prior)
        state = state._replace(belief=belief)
    return state._replace(outbox=new_outbox(rooms, state))


def act(
    rooms: Rooms, state: PeerState, belief: Any, situation: Situation, keys: StepKeys
) -> tuple[Array, Array]:
    """The action [A] in ``state.obs``, and the mean std [] behind it."""
    hyper = situation.hyper
    return choose_action(
        rooms,
        state.learner,
        belief,
        state.obs,
        situation,
        advice_share(hyper.memory, state.steps, state.surprise),
        state.steps < hyper.sac.warmup,
        keys,
    )


def remember(
    rooms: Rooms,
    state: PeerState,
    belief: Any,
    transition: Transition,
    log_sales: Array,
    situation: Situation,
    clock: Array,
) -> PeerState:
    """What one step leaves in the memory and in the peer's own accounts.

    Args:
      rooms: the peer's functions.
      state: before the step; its replay is not touched.
      belief: the memory's posterior before the step.
      transition: what happened.
      log_sales: [] ln(units / usual units), read where the environment sells.
      situation: of this round; where ``active`` is 0 the memory learns nothing, and
        the caller holds the rest.
      clock: [] int32 step of the shared clock.
    """
    experience = make_experience(rooms, transition, log_sales)
    decay, active = situation.hyper.memory.decay, situation.active
    surprise, cell = state.surprise, rooms.cell(transition.obs)
    if rooms.world_model is not None:
        error = demand.prediction_error(belief, experience)
        moved = SURPRISE_DECAY * surprise + (1.0 - SURPRISE_DECAY) * error
        # What cannot be computed is not below it, either.
        surprise = jnp.where(moved < MOST_SURPRISE, moved, MOST_SURPRISE)
    return state._replace(
        steps=state.steps + 1,
        memory=rooms.memory.update(state.memory, experience, decay, active),
        surprise=surprise,
        performance=PERFORMANCE_DECAY * state.performance
        + (1.0 - PERFORMANCE_DECAY) * transition.reward,
        last_seen=state.last_seen.at[cell].set(clock),
        visits=state.visits.at[cell].add(1),
    )


def improve(
    rooms: Rooms,
    learner: SacState,
    rows: Transition,
    belief: Any,
    steps: Array,
    surprise: Array,
    situation: Situation,
    keys: StepKeys,
) -> tuple[SacState, SacMetrics, Array]:
    """The updates of one step, from rows and from what could have happened.

    Args:
      rooms: the peer's functions.
      learner: state before.
      rows: [M, ...] real transitions for all of the step's updates, uniform.
      belief: the memory's posterior after the step.
      steps: [] own real steps before this one.
      surprise: [] after the step.
      situation: of this round; nothing is learned where ``active`` is 0.
      keys: of this step.

    Returns:
      State after, mean metrics, and the share [] of imagined rows.
    """
    hyper, share = situation.hyper, jnp.zeros(())
    if rooms.world_model is not None and rooms.learns:
        share = imagined_share(hyper.imagination, steps, surprise)
    ready = (steps + 1 >= hyper.sac.learning_starts) & (situation.active > 0)
    pace = hyper._replace(sac=annealed(hyper.sac, steps))
    learner, metrics = study(
        rooms,
        learner,
        rows,
        belief,
        share,
        situation._replace(hyper=pace, active=ready),
        keys,
    )
    return learner, metrics, share


def make_experience(
    rooms: Rooms, transition: Transition, log_sales: Array
) -> Experience:
    """A step as the price memory sees it; ``log_sales`` [] is ln(units / usual)."""
    environment, features = rooms.environment, jnp.zeros(0)
    if environment.demand is not None:
        features = environment.demand.features(transition.obs, transition.action)
    return Experience(
        features=features,
        log_sales=log_sales,
        action=transition.action,
        reward=transition.reward,
        cell=environment.cell(transition.obs),
    )
