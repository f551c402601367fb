"""What one peer knows, and what of it leaves: insight -> privacy -> message."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.insight import InsightInputs, make_insight
from p2p_sac_jax.exchange.synchronisation import Outbox, Terms, empty_outbox, publish
from p2p_sac_jax.hyper import ExchangeHyper, Hyper, make_hyper
from p2p_sac_jax.learner import distributions
from p2p_sac_jax.learner.replay import Replay
from p2p_sac_jax.learner.sac import SacState
from p2p_sac_jax.peer.rooms import INSIGHT, PRIVACY, RECALL, Rooms, stream
from p2p_sac_jax.types import Array, Insight, Knowledge, Message

INSIGHT_ROWS = 256  # replay rows behind one insight
PERFORMANCE_DECAY = 0.95
# Who has not done anything yet filters nobody by what they do.
_UNKNOWN = -1e9


class Speaker(Protocol):
    """The part of a peer's state that speaking reads."""

    @property
    def key(self) -> Array: ...  # noqa: D102
    @property
    def steps(self) -> Array: ...  # noqa: D102
    @property
    def learner(self) -> SacState: ...  # noqa: D102
    @property
    def memory(self) -> Any: ...  # noqa: D102
    @property
    def performance(self) -> Array: ...  # noqa: D102
    @property
    def last_seen(self) -> Array: ...  # noqa: D102
    @property
    def visits(self) -> Array: ...  # noqa: D102
    @property
    def potential(self) -> Array: ...  # noqa: D102
    @property
    def outbox(self) -> Outbox: ...  # noqa: D102


class Past(NamedTuple):
    """What a peer calls to mind before it speaks."""

    obs: Array  # [M, D] of uniform rows of its replay
    size: Array  # [] int32 rows there are


class Spoken(NamedTuple):
    """One peer's turn in one round."""

    own: Message  # everything it knows; stays home
    wire: Any  # what neighbours can read now, as the mode writes it
    sending: Array  # [] 1 if a message left in this round


def recall(rooms: Rooms, replay: Replay, key: Array, clock: Array) -> Past:
    """256 observations of the replay, with the peer's ``key``."""
    rows = rooms.replay.sample(replay, stream(key, RECALL, clock), INSIGHT_ROWS)
    return Past(rows.obs, replay.size)


def knowledge(
    rooms: Rooms, state: Speaker, past: Past, hyper: ExchangeHyper, clock: Array
) -> Message:
    """Everything one peer could say at ``clock``, from what it calls to mind."""
    seen = state.last_seen * rooms.config.environment.seconds_per_step
    return Message(
        insight=_insight(rooms, state, past, seen, hyper, clock)
        if rooms.learns
        else _no_insight(rooms, seen),
        demand=rooms.memory.summary(state.memory),
        performance=_performance(state),
    )


def _insight(
    rooms: Rooms,
    state: Speaker,
    past: Past,
    seen: Array,
    hyper: ExchangeHyper,
    clock: Array,
) -> Insight:
    """Values and policy by cell; ``seen`` [K] seconds is when it was last visited."""
    value_key = stream(state.key, INSIGHT, clock)
    mean, log_std = rooms.sac.policy(state.learner, past.obs)
    state_value, action_value = rooms.sac.value(state.learner, past.obs, value_key)
    cells = jax.vmap(rooms.cell)(past.obs)
    shaped = state.potential[cells]  # the critics have learned this much less
    inputs = InsightInputs(
        cell=cells,
        state_value=state_value + shaped,
        action_value=action_value + shaped,
        entropy=distributions.entropy(log_std),
        action_mean=jnp.tanh(mean),
        action_std=jnp.exp(log_std),
        size=past.size,
        td_error=state.learner.td_error,
    )
    return make_insight(inputs, rooms.num_cells, seen, hyper)


def _no_insight(rooms: Rooms, seen: Array) -> Insight:
    """What a peer without a policy says of any cell: nothing, but how fresh it is."""
    none = jnp.zeros((rooms.num_cells,))
    no_action = jnp.zeros((rooms.num_cells, rooms.environment.action_dim))
    return Insight(
        state_value=none,
        action_value=none,
        entropy=none,
        confidence=none,
        timestamp=seen.astype(jnp.float32),
        action_mean=no_action,
        action_std=no_action,
        count=none,
        valid=none,
    )


def _performance(state: Speaker) -> Array:
    """Moving average of rewards, unbiased from the first; as low as can be before."""
    seen = 1.0 - PERFORMANCE_DECAY ** state.steps.astype(jnp.float32)
    lived = state.steps > 0
    return jnp.where(lived, state.performance / jnp.where(lived, seen, 1.0), _UNKNOWN)


def speak(
    rooms: Rooms, state: Speaker, past: Past, hyper: Hyper, terms: Terms, clock: Array
) -> tuple[Outbox, Spoken]:
    """One peer's turn: what it knows, what the mode lets out, whether it is sent."""
    own = knowledge(rooms, state, past, hyper.exchange, clock)
    round_index = clock // rooms.config.exchange.interval
    wire = _write(rooms, state, own, clock)
    outbox, carried, sending = publish(
        state.outbox,
        wire,
        own,
        terms,
        hyper.synchronisation,
        rooms.config.faults,
        round_index,
        clock,
    )
    return outbox, Spoken(own, carried, sending)


def new_outbox(rooms: Rooms, state: Speaker) -> Outbox:
    """An outbox for messages of the form that ``state`` will write."""
    config, start = rooms.config, jnp.zeros((), jnp.int32)
    hyper = make_hyper(config).exchange

    def write(state: Speaker, replay: Replay, cells: Array) -> Any:
        past = recall(rooms, replay, state.key, start)
        own = knowledge(rooms, state, past, hyper, start)
        return _write_with(rooms, state, own, cells, cells, start)

    cells = jax.ShapeDtypeStruct((rooms.num_cells,), jnp.float32)
    replay = jax.eval_shape(rooms.replay.init)
    wire = jax.eval_shape(write, state, replay, cells)
    window = config.privacy.trend_window
    return empty_outbox(wire, rooms.num_cells, window, config.faults.delay)


def _write(rooms: Rooms, state: Speaker, own: Message, clock: Array) -> Any:
    past = state.outbox.past_value[0], state.outbox.past_valid[0]
    return _write_with(rooms, state, own, *past, clock)


def _write_with(
    rooms: Rooms,
    state: Speaker,
    own: Message,
    past_value: Array,
    past_valid: Array,
    clock: Array,
) -> Any:
    """The outbound message of the mode, with noise of the peer's own."""
    config = rooms.config
    known = Knowledge(
        message=own,
        statistics=rooms.memory.statistics(state.memory),
        past_value=past_value,
        past_valid=past_valid,
        visits=state.visits,
    )
    return rooms.mode.outbound(
        known,
        stream(state.key, PRIVACY, 0),
        clock // config.exchange.interval,
        clock * config.environment.seconds_per_step,
    )
