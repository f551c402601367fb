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
from p2p_sac_jax.exchange.insight import InsightInputs, make_insight
from p2p_sac_jax.exchange.privacy import outbound
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.learner import distributions
from p2p_sac_jax.learner.replay import Replay
from p2p_sac_jax.learner.sac import SacMetrics, SacState
from p2p_sac_jax.memory import demand
from p2p_sac_jax.peer.behaviour import choose_action
from p2p_sac_jax.peer.imagination import imagined_share
from p2p_sac_jax.peer.learning import rehearse, study
from p2p_sac_jax.peer.rooms import (
    EVALUATE,
    INIT,
    INSIGHT,
    MARKET,
    RESET,
    Rooms,
    Situation,
    make_rooms,
    stream,
)
from p2p_sac_jax.types import (
    Array,
    Experience,
    Message,
    Prior,
    Score,
    Transition,
)

INSIGHT_ROWS = 256  # replay rows behind one insight
SURPRISE_DECAY = 0.95
# One number, not none: results without elements crash jaxlib 0.11 under shard_map.
_NO_BELIEF = Prior(np.zeros(1, np.float32), np.zeros((1, 1), np.float32))


class PeerState(NamedTuple):
    """Everything one peer carries from step to step."""

    key: Array  # [] typed key, never consumed: streams are folded from it
    steps: Array  # [] int32 own real steps
    environment: Any
    obs: Array  # [D]
    learner: SacState
    replay: Replay
    memory: Any
    surprise: Array  # [] moving average of the memory's standardised squared error
    last_seen: Array  # [K] int32 clock step at which each cell was last visited


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


class Peer(NamedTuple):
    """Pure functions of one peer, and what the network must agree on."""

    init: Callable[[Array, Any], PeerState]  # (key, params)
    message: Callable[[PeerState, Hyper, Array], Message]  # (state, hyper, clock)
    # (state, situation, clock) -> (state, metrics [S])
    round: Callable[[PeerState, Situation, Array], tuple[PeerState, PeerMetrics]]
    # (state, situation, clock) -> state; ``active`` marks who joins at ``clock``
    rehearse: Callable[[PeerState, Situation, Array], PeerState]
    evaluate: Callable[[PeerState, Any], Score]  # (state, params): mean per step
    base_prior: Prior


def make_peer(config: TrainConfig, environment: Environment) -> Peer:
    """Builds the pipeline of one peer from a validated configuration."""
    rooms = make_rooms(config, environment)
    return Peer(
        init=partial(_init, rooms),
        message=partial(_message, rooms),
        round=partial(_round, rooms),
        rehearse=partial(_rehearse, rooms),
        evaluate=partial(_evaluate, rooms),
        base_prior=rooms.memory.base_prior,
    )


def _init(rooms: Rooms, key: Array, params: Any) -> PeerState:
    world, obs = rooms.environment.reset(stream(key, RESET, 0), params)
    return PeerState(
        key=key,
        steps=jnp.zeros((), jnp.int32),
        environment=world,
        obs=obs,
        learner=rooms.sac.init(stream(key, INIT, 0)),
        replay=rooms.replay.init(),
        memory=rooms.memory.init(),
        surprise=jnp.ones(()),
        last_seen=jnp.zeros((rooms.num_cells,), jnp.int32),
    )


def _message(rooms: Rooms, state: PeerState, hyper: Hyper, clock: Array) -> Message:
    row_key, value_key = jax.random.split(stream(state.key, INSIGHT, clock))
    rows = rooms.replay.sample(state.replay, row_key, INSIGHT_ROWS)
    mean, log_std = rooms.sac.policy(state.learner, rows.obs)
    state_value, action_value = rooms.sac.value(state.learner, rows.obs, value_key)
    inputs = InsightInputs(
        cell=jax.vmap(rooms.cell)(rows.obs),
        state_value=state_value,
        action_value=action_value,
        entropy=distributions.entropy(log_std),
        action_mean=jnp.tanh(mean),
        action_std=jnp.exp(log_std),
        size=state.replay.size,
        td_error=state.learner.td_error,
    )
    seen = state.last_seen * rooms.config.environment.seconds_per_step
    message = Message(
        insight=make_insight(inputs, rooms.num_cells, seen, hyper.exchange),
        demand=rooms.memory.summary(state.memory),
    )
    return outbound(rooms.config.exchange.mode)(message)


def _step(
    rooms: Rooms, state: PeerState, situation: Situation, clock: Array
) -> tuple[PeerState, PeerMetrics]:
    """One step of the pipeline; an inactive peer keeps its state bit for bit."""
    guidance, params, hyper, active = situation

    # Act in the real market.
    belief = rooms.memory.posterior(state.memory, guidance.prior)
    warming = state.steps < hyper.sac.warmup
    action, behaviour_std = choose_action(
        rooms, state.learner, belief, state.obs, situation, warming, state.key, clock
    )
    world = rooms.environment.step(
        stream(state.key, MARKET, clock), state.environment, action, params
    )
    discount = 1.0 - world.terminated.astype(jnp.float32)
    transition = Transition(state.obs, action, world.reward, world.final_obs, discount)

    # Remember what happened.
    replay = rooms.replay.insert(state.replay, transition, active)
    experience = _experience(rooms, transition, world.info)
    memory = rooms.memory.update(state.memory, experience, hyper.memory.decay, active)
    surprise, share = state.surprise, jnp.zeros(())
    if rooms.world_model is not None:
        error = demand.prediction_error(belief, experience)
        surprise = SURPRISE_DECAY * surprise + (1.0 - SURPRISE_DECAY) * error
        share = imagined_share(hyper.imagination, state.steps, surprise)

    # Learn from it, and from what the memory says could have happened.
    learner, losses = study(
        rooms,
        state.learner,
        replay,
        rooms.memory.posterior(memory, guidance.prior),
        share,
        situation,
        state.key,
        clock,
    )
    ready = (state.steps + 1 >= hyper.sac.learning_starts) & (active > 0)

    cell = rooms.cell(state.obs)
    lived = PeerState(
        key=state.key,
        steps=state.steps + 1,
        environment=world.state,
        obs=world.obs,
        learner=_select(ready, learner, state.learner),
        replay=replay,
        memory=memory,
        surprise=surprise,
        last_seen=state.last_seen.at[cell].set(clock),
    )
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
    return _hold_inactive(active, lived, state), metrics


def _hold_inactive(active: Array, new: PeerState, old: PeerState) -> PeerState:
    """``old`` where not active; replay, learner and memory are masked already."""
    names = ("steps", "environment", "obs", "surprise", "last_seen")
    held = _select(
        active > 0,
        {name: getattr(new, name) for name in names},
        {name: getattr(old, name) for name in names},
    )
    return new._replace(**held)


def _round(
    rooms: Rooms, state: PeerState, situation: Situation, clock: Array
) -> tuple[PeerState, PeerMetrics]:
    """``exchange.interval`` steps from ``clock`` on, in one situation."""

    def body(carry: PeerState, now: Array) -> tuple[PeerState, PeerMetrics]:
        return _step(rooms, carry, situation, now)

    clocks = clock + jnp.arange(rooms.config.exchange.interval)
    return jax.lax.scan(body, state, clocks)


def _rehearse(
    rooms: Rooms, state: PeerState, situation: Situation, clock: Array
) -> PeerState:
    """A newcomer's rehearsal; without word from the network it has no script."""
    belief = rooms.memory.posterior(state.memory, situation.guidance.prior)
    learner = rehearse(rooms, state.learner, belief, situation, state.key, clock)
    informed = (situation.active > 0) & (situation.guidance.has_prior > 0)
    return state._replace(learner=_select(informed, learner, state.learner))


def _evaluate(rooms: Rooms, state: PeerState, params: Any) -> Score:
    """Greedy policy from ``reset`` on keys of its own; mean score per step."""
    environment = rooms.environment
    start = environment.reset(stream(state.key, EVALUATE, 0), params)

    def body(carry: tuple[Any, Array], clock: Array) -> tuple[Any, Score]:
        world, obs = carry
        key = stream(state.key, EVALUATE, clock)
        action = rooms.sac.mode(state.learner, obs)
        result = environment.step(key, world, action, params)
        return (result.state, result.obs), environment.score(result.info)

    clocks = 1 + jnp.arange(rooms.config.evaluation_weeks)
    _, scores = jax.lax.scan(body, start, clocks)
    return jax.tree.map(jnp.mean, scores)


def _experience(rooms: Rooms, transition: Transition, info: Any) -> Experience:
    environment = rooms.environment
    features, log_sales = jnp.zeros(0), jnp.zeros(())
    if environment.demand is not None:
        features = environment.demand.features(transition.obs, transition.action)
        log_sales = environment.demand.outcome(info)
    return Experience(
        features=features,
        log_sales=log_sales,
        action=transition.action,
        reward=transition.reward,
        cell=environment.cell(transition.obs),
    )


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
