"""One peer: environment -> replay -> memory -> update -> insight, for ONE learner.

Nothing here knows that other peers exist: the network arrives as ``Guidance``
and leaves as ``LocalSummary``. Random draws come from streams that depend only on
the peer's key, the stage and the clock, so two arms that differ by configuration
alone see the same market.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.guidance import potential
from p2p_sac_jax.exchange.messages import Mode
from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.components import (
    CONFIDENCE_ERROR,
    EVALUATE,
    RESET,
    PeerComponents,
    RoundContext,
    make_peer_components,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.confidence_error import ConfidenceError, Lived, rate
from p2p_sac_jax.peer.learning import presample, pretrain_on_model
from p2p_sac_jax.peer.message import (
    ReplaySample,
    local_summary,
    make_message,
    sample_observations,
)
from p2p_sac_jax.peer.model_rollouts import model_blend_weight
from p2p_sac_jax.peer.stages import (
    PeerState,
    init_state,
    observe,
    select_action,
    update,
)
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.round_replay import Presampled, RoundRows
from p2p_sac_jax.sac.sac import SacMetrics
from p2p_sac_jax.tree import tree_where
from p2p_sac_jax.types import Array, LocalSummary, Prior, Score, Transition

# One number, not none: results without elements crash jaxlib 0.11 under shard_map.
_NO_BELIEF = Prior(np.zeros(1, np.float32), np.zeros((1, 1), np.float32))


class PeerMetrics(NamedTuple):
    """What one peer reports of one step; ``[S]`` in front for a round."""

    score: Score
    info: Any
    learner: SacMetrics
    behaviour_std: Array  # [] in action units
    model_rollout_fraction: Array  # [] share of imagined rows in the batches
    value_weight: Array  # [] the network's weight in the bootstrap, this cell
    std_weight: Array  # [] the network's weight in exploration, this cell
    belief: Prior  # demand posterior; ``_NO_BELIEF`` without a demand memory


class Evaluation(NamedTuple):
    """One evaluation episode of the greedy policy."""

    score: Score  # mean per step
    confidence_error: ConfidenceError  # what the peer's confidence was worth


class Peer(NamedTuple):
    """Pure functions of one peer, and what the network must agree on.

    ``make_message``, ``round`` and ``pretrain_on_model`` take a state without its replay, which may
    be far larger than all the rest: ``sample_observations`` and ``presample`` read from it before, and
    ``record`` writes to it after.
    """

    init: Callable[[Array, Any, Array], PeerState]  # (key, params, trust [J])
    local_summary: Callable[
        [PeerState, Hyper, Array], LocalSummary
    ]  # (state, hyper, clock)
    # (replay, key, clock) -> what the peer calls to mind before it speaks
    sample_observations: Callable[[Replay, Array, Array], ReplaySample]
    # (state, sample, hyper, releases allowed, clock)
    # -> state of sending, own summary, 1 if sent
    make_message: Callable[
        [PeerState, ReplaySample, Hyper, Array, Array],
        tuple[SendState, LocalSummary, Array],
    ]
    # (replay, key, active, clock) -> rows [S, M] that the round from clock on studies;
    # where replays are pooled, ``replay`` is those of all peers, leaves [P, ...]
    presample: Callable[[Replay, Array, Array, Array], Presampled]
    # (state, draws, situation, clock) -> (state, rows it lived, metrics [S])
    round: Callable[
        [PeerState, Presampled, RoundContext, Array],
        tuple[PeerState, RoundRows, PeerMetrics],
    ]
    record: Callable[[Replay, RoundRows], Replay]
    # (state, situation, clock) -> state; ``active`` marks who joins at ``clock``
    pretrain_on_model: Callable[[PeerState, RoundContext, Array], PeerState]
    evaluate: Callable[[PeerState, Any, Hyper, Array], Evaluation]
    base_prior: BasePrior
    mode: Mode


def make_peer(config: TrainConfig, environment: Environment) -> Peer:
    """Builds the pipeline of one peer from a validated configuration."""
    components = make_peer_components(config, environment)
    return Peer(
        init=partial(_init, components),
        local_summary=partial(_local_summary, components),
        sample_observations=partial(sample_observations, components),
        make_message=partial(make_message, components),
        presample=partial(presample, components),
        round=partial(_round, components),
        record=components.round_replay.commit,
        pretrain_on_model=partial(_pretrain_on_model, components),
        evaluate=partial(_evaluate, components),
        base_prior=components.memory.base_prior,
        mode=components.mode,
    )


def _init(
    components: PeerComponents, key: Array, params: Any, trust: Array
) -> PeerState:
    world, obs = components.environment.reset(stream(key, RESET, 0), params)
    return init_state(components, key, world, obs, trust)


def _local_summary(
    components: PeerComponents, state: PeerState, hyper: Hyper, clock: Array
) -> LocalSummary:
    past = sample_observations(components, state.replay, state.key, clock)
    return local_summary(components, state, past, hyper.exchange, clock)


class _RoundCarry(NamedTuple):
    """What a peer carries from step to step of one round."""

    state: PeerState  # without replay
    round_rows: RoundRows  # rows lived in this round
    belief: Any  # the memory's posterior under this round's prior


def _step(
    components: PeerComponents,
    carry: _RoundCarry,
    presampled: Presampled,
    context: RoundContext,
    clock: Array,
) -> tuple[_RoundCarry, PeerMetrics]:
    """One step of the pipeline; an inactive peer keeps its state bit for bit."""
    state, round_rows, belief = carry
    guidance, params, _, active = context
    keys, cell = step_keys(state.key, clock), components.cell(state.obs)

    # Act in the real market.
    action, behaviour_std = select_action(components, state, belief, context, keys)
    world = components.environment.step(keys.market, state.environment, action, params)
    discount = 1.0 - world.terminated.astype(jnp.float32)
    transition = Transition(state.obs, action, world.reward, world.final_obs, discount)

    # Remember what happened.
    round_rows = components.round_replay.insert(round_rows, transition, active)
    sales = _log_sales(components, world.info)
    lived = observe(components, state, belief, transition, sales, context, clock)

    # Learn from it, and from what the memory says could have happened.
    wiser = components.memory.posterior(lived.memory, guidance.prior)
    learner, losses, share = update(
        components,
        state.learner,
        components.round_replay.read(round_rows, presampled),
        wiser,
        state.steps,
        lived.normalised_error,
        context,
        keys,
    )
    lived = lived._replace(environment=world.state, obs=world.obs, learner=learner)
    metrics = PeerMetrics(
        score=components.environment.score(world.info),
        info=world.info,
        learner=losses,
        behaviour_std=behaviour_std,
        model_rollout_fraction=share,
        value_weight=guidance.value_weight[cell],
        std_weight=guidance.std_weight[cell],
        belief=Prior(belief.mean, belief.covariance)
        if components.world_model is not None
        else _NO_BELIEF,
    )
    return _RoundCarry(_hold_inactive(active, lived, state), round_rows, wiser), metrics


def _hold_inactive(active: Array, new: PeerState, old: PeerState) -> PeerState:
    """``old`` where not active; learner and memory are masked already."""
    names = (
        "steps",
        "environment",
        "obs",
        "normalised_error",
        "performance",
        "last_seen",
        "visits",
    )
    held = tree_where(
        active > 0,
        {name: getattr(new, name) for name in names},
        {name: getattr(old, name) for name in names},
    )
    return new._replace(**held)


def _round(
    components: PeerComponents,
    state: PeerState,
    presampled: Presampled,
    context: RoundContext,
    clock: Array,
) -> tuple[PeerState, RoundRows, PeerMetrics]:
    """``exchange.interval`` steps from ``clock`` on, in one situation."""

    def body(
        carry: _RoundCarry, data: tuple[Presampled, Array]
    ) -> tuple[_RoundCarry, PeerMetrics]:
        return _step(components, carry, data[0], context, data[1])

    clocks = clock + jnp.arange(components.config.exchange.interval)
    belief = components.memory.posterior(state.memory, context.guidance.prior)
    start = _RoundCarry(state, components.round_replay.init(), belief)
    (state, round_rows, belief), metrics = jax.lax.scan(
        body, start, (presampled, clocks)
    )
    if components.world_model is not None:
        state = state._replace(belief=belief)
    if VALUE_SHARING[components.config.exchange.value_sharing].use == "shaping":
        state = state._replace(potential=potential(context.guidance))
    return state, round_rows, metrics


def _pretrain_on_model(
    components: PeerComponents, state: PeerState, context: RoundContext, clock: Array
) -> PeerState:
    """A newcomer's rehearsal; without word from the network it has no script."""
    belief = components.memory.posterior(state.memory, context.guidance.prior)
    informed = (context.active > 0) & (context.guidance.has_prior > 0)
    context = context._replace(active=informed)
    learner = pretrain_on_model(
        components, state.learner, belief, context, state.key, clock
    )
    state = state._replace(learner=learner)
    if components.world_model is not None:
        state = state._replace(belief=tree_where(informed, belief, state.belief))
    return state


def _evaluate(
    components: PeerComponents,
    state: PeerState,
    params: Any,
    hyper: Hyper,
    clock: Array,
) -> Evaluation:
    """Greedy policy from ``reset`` on keys of its own, and how its claims fare."""
    environment = components.environment
    share = model_blend_weight(hyper.memory, state.steps, state.normalised_error)
    policy = greedy_policy(components, state.learner, state.belief, share, params)
    start = environment.reset(stream(state.key, EVALUATE, 0), params)

    def body(carry: tuple[Any, Array], step: Array) -> tuple[Any, tuple[Score, Lived]]:
        world, obs = carry
        key = stream(state.key, EVALUATE, step)
        result = environment.step(key, world, policy(obs), params)
        lived = Lived(
            obs, result.reward, result.final_obs, result.terminated, result.truncated
        )
        return (result.state, result.obs), (environment.score(result.info), lived)

    steps = 1 + jnp.arange(components.config.evaluation_weeks)
    _, (scores, lived) = jax.lax.scan(body, start, steps)
    claims = _local_summary(components, state, hyper, clock).insight
    return Evaluation(
        score=jax.tree.map(jnp.mean, scores),
        confidence_error=rate(
            components,
            state.learner,
            claims,
            lived,
            state.potential,
            hyper.sac.discount,
            stream(state.key, CONFIDENCE_ERROR, clock),
        ),
    )


def _log_sales(components: PeerComponents, info: Any) -> Array:
    model = components.environment.demand
    return jnp.zeros(()) if model is None else model.outcome(info)
