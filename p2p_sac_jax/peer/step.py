"""One step of one peer: select_action, observe, update; and the round that scans it.

Nothing here knows that other peers exist: the network arrives as ``Guidance`` and
leaves as a message. Random draws come from streams that depend only on the peer's
key, the stage and the clock, so two runs that differ by configuration alone see the
same market.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.exchange import guidance as guide
from p2p_sac_jax.peer import learning
from p2p_sac_jax.peer.behaviour import (
    blend_with_model,
    candidates_of,
    local_std,
    tanh_slope,
)
from p2p_sac_jax.peer.context import (
    PeerComponents,
    RoundContext,
    StepInputs,
    step_keys,
)
from p2p_sac_jax.peer.message import PERFORMANCE_DECAY
from p2p_sac_jax.peer.model_rollouts import (
    mix_model_rollouts,
    model_blend_weight,
    model_rollout_share,
)
from p2p_sac_jax.peer.state import PeerState
from p2p_sac_jax.sac.round_replay import Presampled, RoundRows
from p2p_sac_jax.sac.sac import SacMetrics, SacState
from p2p_sac_jax.tree import tree_where
from p2p_sac_jax.types import Array, Experience, Prior, Score, Transition

ERROR_DECAY = 0.95
# On average ten standard deviations; larger errors would outlast their cause.
MAX_NORMALISED_ERROR = 100.0
# One number, not none: results without elements crash jaxlib 0.11 under shard_map.
_NO_BELIEF = Prior(np.zeros(1, np.float32), np.zeros((1, 1), np.float32))
# Parts of the state that an inactive peer keeps; learner and memory are masked where
# they are updated.
_HELD = (
    *("steps", "environment", "obs", "normalised_error", "performance"),
    *("last_seen", "visits"),
)


class PeerMetrics(NamedTuple):
    """Measurements of one step of one peer; ``[S]`` in front for a round."""

    score: Score
    info: Any
    learner: SacMetrics
    behaviour_std: Array  # [] in action units
    model_rollout_fraction: Array  # [] share of model rollouts in the batches
    value_weight: Array  # [] the network's weight in the bootstrap, this cell
    std_weight: Array  # [] the network's weight in exploration, this cell
    belief: Prior  # demand posterior; ``_NO_BELIEF`` without a demand memory


class _RoundCarry(NamedTuple):
    """What a peer carries from step to step of one round."""

    state: PeerState  # without replay
    round_rows: RoundRows  # rows written in this round
    belief: Any  # the memory's posterior under this round's prior


def peer_round(
    components: PeerComponents,
    state: PeerState,
    presampled: Presampled,
    context: RoundContext,
    clock: Array,
) -> tuple[PeerState, RoundRows, PeerMetrics]:
    """The S steps of a round from ``clock`` on, under one context.

    Args:
      components: the peer's functions.
      state: without its replay.
      presampled: [S, M, ...] replay rows for the updates.
      context: of this round.
      clock: [] int32 first step of the round.

    Returns:
      State after, the rows written, and metrics [S].
    """

    def body(
        carry: _RoundCarry, data: tuple[Presampled, Array]
    ) -> tuple[_RoundCarry, PeerMetrics]:
        rows, now = data
        keys = step_keys(carry.state.key, now)
        inputs = StepInputs(carry.belief, context, keys, now)
        return _step(components, carry, rows, inputs)

    clocks = clock + jnp.arange(components.interval)
    belief = components.memory.posterior(state.memory, context.guidance.prior)
    start = _RoundCarry(state, components.round_replay.init(), belief)
    (state, round_rows, belief), metrics = jax.lax.scan(
        body, start, (presampled, clocks)
    )
    if components.memory.model is not None:
        state = state._replace(belief=belief)
    if components.value_use == "shaping":
        state = state._replace(potential=guide.potential(context.guidance))
    return state, round_rows, metrics


def _step(
    components: PeerComponents,
    carry: _RoundCarry,
    presampled: Presampled,
    inputs: StepInputs,
) -> tuple[_RoundCarry, PeerMetrics]:
    """One step; an inactive peer keeps its state bit for bit."""
    environment, guidance = components.environment, inputs.context.guidance
    state, belief = carry.state, inputs.belief
    active, cell = inputs.context.active, components.cell(state.obs)

    action, behaviour_std = select_action(components, state, inputs)
    result = environment.step(
        inputs.keys.market, state.environment, action, inputs.context.params
    )
    discount = 1.0 - result.terminated.astype(jnp.float32)
    transition = Transition(
        state.obs, action, result.reward, result.final_obs, discount
    )
    round_rows = components.round_replay.insert(carry.round_rows, transition, active)
    after = observe(
        components, state, transition, _log_sales(components, result.info), inputs
    )
    posterior = components.memory.posterior(after.memory, guidance.prior)
    rows = components.round_replay.read(round_rows, presampled)
    learner, losses, share = update(
        components, after, rows, inputs._replace(belief=posterior)
    )

    after = after._replace(environment=result.state, obs=result.obs, learner=learner)
    kept = tree_where(
        active > 0,
        {name: getattr(after, name) for name in _HELD},
        {name: getattr(state, name) for name in _HELD},
    )
    metrics = PeerMetrics(
        score=environment.score(result.info),
        info=result.info,
        learner=losses,
        behaviour_std=behaviour_std,
        model_rollout_fraction=share,
        value_weight=guidance.value_weight[cell],
        std_weight=guidance.std_weight[cell],
        belief=_NO_BELIEF
        if components.memory.model is None
        else Prior(belief.mean, belief.covariance),
    )
    return _RoundCarry(after._replace(**kept), round_rows, posterior), metrics


def select_action(
    components: PeerComponents, state: PeerState, inputs: StepInputs
) -> tuple[Array, Array]:
    """The action of the behaviour policy in ``state.obs``.

    Without a policy the action is the best one under a single demand curve drawn from
    the belief (Thompson 1933), and its distance from the best under the mean curve is
    the std.

    Args:
      components: the peer's functions.
      state: of the peer; steps, obs, learner and normalised_error are read.
      inputs: of this step; the keys ``select_action``, ``warmup``, ``thompson`` and
        ``bandit`` are used.

    Returns:
      Action [A] in [-1, 1] and the mean std [] behind it, in action units.
    """
    memory, belief, keys = components.memory, inputs.belief, inputs.keys
    context, hyper = inputs.context, inputs.context.hyper
    candidates = candidates_of(components, state.obs, context.params)
    if not components.learns:
        action = memory.draw_actions(belief, candidates, keys.bandit, 1)[0]
        away = jnp.abs(action - memory.best_action(belief, candidates))
        return action, jnp.mean(away)
    share = model_blend_weight(hyper.memory, state.steps, state.normalised_error)
    mean, log_std = components.sac.policy(state.learner, state.obs)
    mean = blend_with_model(components, mean, belief, candidates, share)
    greedy = jnp.tanh(mean)
    memory_std = memory.optimal_exploration_std(
        belief, candidates, greedy, keys.thompson
    )
    std = guide.exploration_std(
        local_std(hyper.exploration, mean, log_std, memory_std),
        context.guidance,
        components.cell(state.obs),
        memory.exploration_bonus(belief, candidates, greedy),
        hyper.exploration,
        tanh_slope(mean),
    )
    action = jnp.tanh(
        mean + std * jax.random.normal(keys.select_action, mean.shape, mean.dtype)
    )
    uniform = jax.random.uniform(keys.warmup, action.shape, minval=-1.0)
    warming_up = state.steps < hyper.sac.warmup
    return jnp.where(warming_up, uniform, action), jnp.mean(std * tanh_slope(mean))


def observe(
    components: PeerComponents,
    state: PeerState,
    transition: Transition,
    log_sales: Array,
    inputs: StepInputs,
) -> PeerState:
    """Adds one step to the price memory and to the peer's own statistics.

    Args:
      components: the peer's functions.
      state: before the step; its replay is not touched.
      transition: what happened.
      log_sales: [] ln(units / usual units), read where the environment sells.
      inputs: of this step, its belief before the step. Where ``active`` is 0 the
        memory learns nothing, and the caller holds the rest.
    """
    experience = make_experience(components, transition, log_sales)
    context, model = inputs.context, components.memory.model
    normalised_error, cell = state.normalised_error, components.cell(transition.obs)
    if model is not None:
        error = model.prediction_error(inputs.belief, experience)
        moved = ERROR_DECAY * normalised_error + (1.0 - ERROR_DECAY) * error
        # A value that is not a number fails the comparison and becomes the maximum.
        normalised_error = jnp.where(
            moved < MAX_NORMALISED_ERROR, moved, MAX_NORMALISED_ERROR
        )
    return state._replace(
        steps=state.steps + 1,
        memory=components.memory.update(
            state.memory, experience, context.hyper.memory.decay, context.active
        ),
        normalised_error=normalised_error,
        performance=PERFORMANCE_DECAY * state.performance
        + (1.0 - PERFORMANCE_DECAY) * transition.reward,
        last_seen=state.last_seen.at[cell].set(inputs.clock),
        visits=state.visits.at[cell].add(1),
    )


def update(
    components: PeerComponents,
    state: PeerState,
    rows: Transition,
    inputs: StepInputs,
) -> tuple[SacState, SacMetrics, Array]:
    """The gradient updates of one step, on real rows and on model rollouts.

    Args:
      components: the peer's functions.
      state: after ``observe``; steps, learner and normalised_error are read.
      rows: [M, ...] real transitions for all of the step's updates, uniform.
      inputs: of this step, its belief after the step; the keys ``update`` and
        ``model_rollout`` are used. Nothing is learned where ``active`` is 0.

    Returns:
      Learner after, mean metrics, and the share [] of model rollouts; the learner
      unchanged, and zeros, where the memory acts.
    """
    context, share = inputs.context, jnp.zeros(())
    if not components.learns:
        return state.learner, SacMetrics(*(share for _ in SacMetrics._fields)), share
    hyper, steps = context.hyper, jnp.maximum(state.steps - 1, 0)
    market = components.believed_market(inputs.belief, context.params)
    if market is not None:
        share = model_rollout_share(hyper.model_rollouts, steps, state.normalised_error)
        rows = mix_model_rollouts(
            market, rows, share, components.batch_size, inputs.keys.model_rollout
        )
    ready = (steps + 1 >= hyper.sac.learning_starts) & (context.active > 0)
    hyper = hyper._replace(sac=learning.annealed(hyper.sac, steps))
    context = context._replace(hyper=hyper, active=ready)
    learner, losses = learning.update_epochs(
        components, state.learner, rows, context, inputs.keys.update
    )
    return learner, jax.tree.map(jnp.mean, losses), share


def pretrain(
    components: PeerComponents, state: PeerState, context: RoundContext, clock: Array
) -> PeerState:
    """Trains a newcomer on model rollouts; without a network prior nothing happens."""
    belief = components.memory.posterior(state.memory, context.guidance.prior)
    informed = (context.active > 0) & (context.guidance.has_prior > 0)
    learner = learning.pretrain_on_model(
        components,
        state.learner,
        belief,
        context._replace(active=informed),
        state.key,
        clock,
    )
    state = state._replace(learner=learner)
    if components.memory.model is not None:
        state = state._replace(belief=tree_where(informed, belief, state.belief))
    return state


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


def _log_sales(components: PeerComponents, info: Any) -> Array:
    demand = components.environment.demand
    return jnp.zeros(()) if demand is None else demand.outcome(info)
