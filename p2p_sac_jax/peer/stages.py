"""The stages of one peer's step: act, remember, improve.

Between acting and remembering stands the market: a simulated one in ``pipeline``, the
real one for an agent. Both call the same functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.peer.behaviour import choose_action
from p2p_sac_jax.peer.components import (
    INIT,
    PeerComponents,
    RoundContext,
    StepKeys,
    stream,
)
from p2p_sac_jax.peer.learning import annealed, train_step
from p2p_sac_jax.peer.message import PERFORMANCE_DECAY, new_send_state
from p2p_sac_jax.peer.model_rollouts import model_blend_weight, model_rollout_share
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.sac import SacMetrics, SacState
from p2p_sac_jax.types import Array, Experience, Transition

ERROR_DECAY = 0.95
MAX_NORMALISED_ERROR = (
    100.0  # on average ten standard deviations off: it has to be got over
)


class PeerState(NamedTuple):
    """Everything one peer carries from step to step."""

    key: Array  # [] typed key, never consumed: streams are folded from it
    steps: Array  # [] int32 own real steps
    environment: Any
    obs: Array  # [D]
    learner: SacState
    replay: Replay  # None while the peer speaks or lives: see ``Peer``
    memory: Any
    normalised_error: (
        Array  # [] moving average of the memory's standardised squared error
    )
    performance: Array  # [] moving average of rewards, from 0
    last_seen: Array  # [K] int32 clock step at which each cell was last visited
    visits: Array  # [K] int32 own real steps in each cell
    potential: Array  # [K] what shaping takes off own values; 0 in other modes
    send_state: SendState  # what it keeps of its own sending
    channel: Any  # its messages under way in a simulated network; () without one
    belief: Any  # demand posterior after its last step; () without a demand memory
    trust: Array  # [J] its opinion of the others; ``exchange`` alone reads and writes


def init_state(
    components: PeerComponents, key: Array, environment: Any, obs: Array, trust: Array
) -> PeerState:
    """A peer that has not lived yet, in front of its first observation [D]."""
    state = PeerState(
        key=key,
        steps=jnp.zeros((), jnp.int32),
        environment=environment,
        obs=obs,
        learner=components.sac.init(stream(key, INIT, 0)),
        replay=components.replay.init(),
        memory=components.memory.init(),
        normalised_error=jnp.ones(()),
        performance=jnp.zeros(()),
        last_seen=jnp.zeros((components.num_cells,), jnp.int32),
        visits=jnp.zeros((components.num_cells,), jnp.int32),
        potential=jnp.zeros((components.num_cells,)),
        send_state=None,  # type: ignore[arg-type]
        channel=(),
        belief=(),
        trust=trust,
    )
    if components.world_model is not None:
        belief = components.memory.posterior(
            state.memory, components.memory.base_prior.prior
        )
        state = state._replace(belief=belief)
    return state._replace(send_state=new_send_state(components, state))


def select_action(
    components: PeerComponents,
    state: PeerState,
    belief: Any,
    context: RoundContext,
    keys: StepKeys,
) -> tuple[Array, Array]:
    """The action [A] in ``state.obs``, and the mean std [] behind it."""
    hyper = context.hyper
    return choose_action(
        components,
        state.learner,
        belief,
        state.obs,
        context,
        model_blend_weight(hyper.memory, state.steps, state.normalised_error),
        state.steps < hyper.sac.warmup,
        keys,
    )


def observe(
    components: PeerComponents,
    state: PeerState,
    belief: Any,
    transition: Transition,
    log_sales: Array,
    context: RoundContext,
    clock: Array,
) -> PeerState:
    """What one step leaves in the memory and in the peer's own accounts.

    Args:
      components: the peer's functions.
      state: before the step; its replay is not touched.
      belief: the memory's posterior before the step.
      transition: what happened.
      log_sales: [] ln(units / usual units), read where the environment sells.
      context: of this round; where ``active`` is 0 the memory learns nothing, and
        the caller holds the rest.
      clock: [] int32 step of the shared clock.
    """
    experience = make_experience(components, transition, log_sales)
    decay, active = context.hyper.memory.decay, context.active
    normalised_error, cell = state.normalised_error, components.cell(transition.obs)
    if components.world_model is not None:
        error = components.model.prediction_error(belief, experience)
        moved = ERROR_DECAY * normalised_error + (1.0 - ERROR_DECAY) * error
        # What cannot be computed is not below it, either.
        normalised_error = jnp.where(
            moved < MAX_NORMALISED_ERROR, moved, MAX_NORMALISED_ERROR
        )
    return state._replace(
        steps=state.steps + 1,
        memory=components.memory.update(state.memory, experience, decay, active),
        normalised_error=normalised_error,
        performance=PERFORMANCE_DECAY * state.performance
        + (1.0 - PERFORMANCE_DECAY) * transition.reward,
        last_seen=state.last_seen.at[cell].set(clock),
        visits=state.visits.at[cell].add(1),
    )


def update(
    components: PeerComponents,
    learner: SacState,
    rows: Transition,
    belief: Any,
    steps: Array,
    normalised_error: Array,
    context: RoundContext,
    keys: StepKeys,
) -> tuple[SacState, SacMetrics, Array]:
    """The updates of one step, from rows and from what could have happened.

    Args:
      components: the peer's functions.
      learner: state before.
      rows: [M, ...] real transitions for all of the step's updates, uniform.
      belief: the memory's posterior after the step.
      steps: [] own real steps before this one.
      normalised_error: [] after the step.
      context: of this round; nothing is learned where ``active`` is 0.
      keys: of this step.

    Returns:
      State after, mean metrics, and the share [] of imagined rows.
    """
    hyper, share = context.hyper, jnp.zeros(())
    if components.world_model is not None and components.learns:
        share = model_rollout_share(hyper.model_rollouts, steps, normalised_error)
    ready = (steps + 1 >= hyper.sac.learning_starts) & (context.active > 0)
    pace = hyper._replace(sac=annealed(hyper.sac, steps))
    learner, metrics = train_step(
        components,
        learner,
        rows,
        belief,
        share,
        context._replace(hyper=pace, active=ready),
        keys,
    )
    return learner, metrics, share


def make_experience(
    components: PeerComponents, transition: Transition, log_sales: Array
) -> Experience:
    """A step as the price memory sees it; ``log_sales`` [] is ln(units / usual)."""
    environment, features = components.environment, jnp.zeros(0)
    if environment.demand is not None:
        features = environment.demand.features(transition.obs, transition.action)
    return Experience(
        features=features,
        log_sales=log_sales,
        action=transition.action,
        reward=transition.reward,
        cell=environment.cell(transition.obs),
    )
