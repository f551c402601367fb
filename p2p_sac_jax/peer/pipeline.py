"""One peer: environment -> replay -> memory -> update -> insight, for ONE learner.

Nothing here knows that other peers exist: the network arrives as ``Guidance``
and leaves as ``Message``. Random draws come from streams that depend only on
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

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.estimation import USES
from p2p_sac_jax.exchange.guidance import potential
from p2p_sac_jax.exchange.modes import Mode
from p2p_sac_jax.exchange.synchronisation import Outbox, Terms
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.learner.replay import Replay
from p2p_sac_jax.learner.sac import SacMetrics
from p2p_sac_jax.learner.window import Draws, Fresh
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.imagination import advice_share
from p2p_sac_jax.peer.learning import draw_ahead, rehearse
from p2p_sac_jax.peer.rating import Lived, Rating, rate
from p2p_sac_jax.peer.rooms import (
    EVALUATE,
    RATE,
    RESET,
    Rooms,
    Situation,
    make_rooms,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.speaking import Past, Spoken, knowledge, recall, speak
from p2p_sac_jax.peer.stages import PeerState, act, improve, newborn, remember
from p2p_sac_jax.types import Array, Message, Prior, Score, Transition

# One number, not none: results without elements crash jaxlib 0.11 under shard_map.
_NO_BELIEF = Prior(np.zeros(1, np.float32), np.zeros((1, 1), np.float32))


class PeerMetrics(NamedTuple):
    """What one peer reports of one step; ``[S]`` in front for a round."""

    score: Score
    info: Any
    learner: SacMetrics
    behaviour_std: Array  # [] in action units
    imagined_fraction: Array  # [] share of imagined rows in the batches
    value_weight: Array  # [] the network's weight in the bootstrap, this cell
    std_weight: Array  # [] the network's weight in exploration, this cell
    belief: Prior  # demand posterior; ``_NO_BELIEF`` without a demand memory


class Evaluation(NamedTuple):
    """One evaluation episode of the greedy policy."""

    score: Score  # mean per step
    rating: Rating  # what the peer's confidence was worth


class Peer(NamedTuple):
    """Pure functions of one peer, and what the network must agree on.

    ``speak``, ``round`` and ``rehearse`` take a state without its replay, which may
    be far larger than all the rest: ``recall`` and ``draw`` read from it before, and
    ``record`` writes to it after.
    """

    init: Callable[[Array, Any, Array], PeerState]  # (key, params, trust [J])
    knowledge: Callable[[PeerState, Hyper, Array], Message]  # (state, hyper, clock)
    # (replay, key, clock) -> what the peer calls to mind before it speaks
    recall: Callable[[Replay, Array, Array], Past]
    # (state, past, hyper, terms, clock) -> the next outbox, and what was said
    speak: Callable[[PeerState, Past, Hyper, Terms, Array], tuple[Outbox, Spoken]]
    # (replay, key, active, clock) -> rows [S, M] that the round from clock on studies;
    # where replays are pooled, ``replay`` is those of all peers, leaves [P, ...]
    draw: Callable[[Replay, Array, Array, Array], Draws]
    # (state, draws, situation, clock) -> (state, rows it lived, metrics [S])
    round: Callable[
        [PeerState, Draws, Situation, Array], tuple[PeerState, Fresh, PeerMetrics]
    ]
    record: Callable[[Replay, Fresh], Replay]
    # (state, situation, clock) -> state; ``active`` marks who joins at ``clock``
    rehearse: Callable[[PeerState, Situation, Array], PeerState]
    evaluate: Callable[[PeerState, Any, Hyper, Array], Evaluation]
    base_prior: Prior
    mode: Mode


def make_peer(config: TrainConfig, environment: Environment) -> Peer:
    """Builds the pipeline of one peer from a validated configuration."""
    rooms = make_rooms(config, environment)
    return Peer(
        init=partial(_init, rooms),
        knowledge=partial(_knowledge, rooms),
        recall=partial(recall, rooms),
        speak=partial(speak, rooms),
        draw=partial(draw_ahead, rooms),
        round=partial(_round, rooms),
        record=rooms.window.commit,
        rehearse=partial(_rehearse, rooms),
        evaluate=partial(_evaluate, rooms),
        base_prior=rooms.memory.base_prior,
        mode=rooms.mode,
    )


def _init(rooms: Rooms, key: Array, params: Any, trust: Array) -> PeerState:
    world, obs = rooms.environment.reset(stream(key, RESET, 0), params)
    return newborn(rooms, key, world, obs, trust)


def _knowledge(rooms: Rooms, state: PeerState, hyper: Hyper, clock: Array) -> Message:
    past = recall(rooms, state.replay, state.key, clock)
    return knowledge(rooms, state, past, hyper.exchange, clock)


class _Course(NamedTuple):
    """What a peer carries from step to step of one round."""

    state: PeerState  # without replay
    fresh: Fresh  # rows lived in this round
    belief: Any  # the memory's posterior under this round's prior


def _step(
    rooms: Rooms, course: _Course, draws: Draws, situation: Situation, clock: Array
) -> tuple[_Course, PeerMetrics]:
    """One step of the pipeline; an inactive peer keeps its state bit for bit."""
    state, fresh, belief = course
    guidance, params, _, active = situation
    keys, cell = step_keys(state.key, clock), rooms.cell(state.obs)

    # Act in the real market.
    action, behaviour_std = act(rooms, state, belief, situation, keys)
    world = rooms.environment.step(keys.market, state.environment, action, params)
    discount = 1.0 - world.terminated.astype(jnp.float32)
    transition = Transition(state.obs, action, world.reward, world.final_obs, discount)

    # Remember what happened.
    fresh = rooms.window.insert(fresh, transition, active)
    sales = _log_sales(rooms, world.info)
    lived = remember(rooms, state, belief, transition, sales, situation, clock)

    # Learn from it, and from what the memory says could have happened.
    wiser = rooms.memory.posterior(lived.memory, guidance.prior)
    learner, losses, share = improve(
        rooms,
        state.learner,
        rooms.window.read(fresh, draws),
        wiser,
        state.steps,
        lived.surprise,
        situation,
        keys,
    )
    lived = lived._replace(environment=world.state, obs=world.obs, learner=learner)
    metrics = PeerMetrics(
        score=rooms.environment.score(world.info),
        info=world.info,
        learner=losses,
        behaviour_std=behaviour_std,
        imagined_fraction=share,
        value_weight=guidance.value_weight[cell],
        std_weight=guidance.std_weight[cell],
        belief=Prior(belief.mean, belief.covariance)
        if rooms.world_model is not None
        else _NO_BELIEF,
    )
    return _Course(_hold_inactive(active, lived, state), fresh, wiser), metrics


def _hold_inactive(active: Array, new: PeerState, old: PeerState) -> PeerState:
    """``old`` where not active; learner and memory are masked already."""
    names = (
        "steps",
        "environment",
        "obs",
        "surprise",
        "performance",
        "last_seen",
        "visits",
    )
    held = _select(
        active > 0,
        {name: getattr(new, name) for name in names},
        {name: getattr(old, name) for name in names},
    )
    return new._replace(**held)


def _round(
    rooms: Rooms, state: PeerState, draws: Draws, situation: Situation, clock: Array
) -> tuple[PeerState, Fresh, PeerMetrics]:
    """``exchange.interval`` steps from ``clock`` on, in one situation."""

    def body(course: _Course, data: tuple[Draws, Array]) -> tuple[_Course, PeerMetrics]:
        return _step(rooms, course, data[0], situation, data[1])

    clocks = clock + jnp.arange(rooms.config.exchange.interval)
    belief = rooms.memory.posterior(state.memory, situation.guidance.prior)
    start = _Course(state, rooms.window.init(), belief)
    (state, fresh, belief), metrics = jax.lax.scan(body, start, (draws, clocks))
    if rooms.world_model is not None:
        state = state._replace(belief=belief)
    if USES[rooms.config.exchange.estimation] == "shaping":
        state = state._replace(potential=potential(situation.guidance))
    return state, fresh, metrics


def _rehearse(
    rooms: Rooms, state: PeerState, situation: Situation, clock: Array
) -> PeerState:
    """A newcomer's rehearsal; without word from the network it has no script."""
    belief = rooms.memory.posterior(state.memory, situation.guidance.prior)
    informed = (situation.active > 0) & (situation.guidance.has_prior > 0)
    situation = situation._replace(active=informed)
    learner = rehearse(rooms, state.learner, belief, situation, state.key, clock)
    state = state._replace(learner=learner)
    if rooms.world_model is not None:
        state = state._replace(belief=_select(informed, belief, state.belief))
    return state


def _evaluate(
    rooms: Rooms, state: PeerState, params: Any, hyper: Hyper, clock: Array
) -> Evaluation:
    """Greedy policy from ``reset`` on keys of its own, and how its claims fare."""
    environment = rooms.environment
    share = advice_share(hyper.memory, state.steps, state.surprise)
    policy = greedy_policy(rooms, state.learner, state.belief, share, params)
    start = environment.reset(stream(state.key, EVALUATE, 0), params)

    def body(carry: tuple[Any, Array], step: Array) -> tuple[Any, tuple[Score, Lived]]:
        world, obs = carry
        key = stream(state.key, EVALUATE, step)
        result = environment.step(key, world, policy(obs), params)
        lived = Lived(
            obs, result.reward, result.final_obs, result.terminated, result.truncated
        )
        return (result.state, result.obs), (environment.score(result.info), lived)

    steps = 1 + jnp.arange(rooms.config.evaluation_weeks)
    _, (scores, lived) = jax.lax.scan(body, start, steps)
    claims = _knowledge(rooms, state, hyper, clock).insight
    return Evaluation(
        score=jax.tree.map(jnp.mean, scores),
        rating=rate(
            rooms,
            state.learner,
            claims,
            lived,
            state.potential,
            hyper.sac.discount,
            stream(state.key, RATE, clock),
        ),
    )


def _log_sales(rooms: Rooms, info: Any) -> Array:
    model = rooms.environment.demand
    return jnp.zeros(()) if model is None else model.outcome(info)


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
