"""What one peer knows, and what of it leaves: insight -> privacy -> message."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.insight import InsightInputs, make_insight
from p2p_sac_jax.exchange.send_policy import (
    SendState,
    after_round,
    init_send_state,
    is_due,
)
from p2p_sac_jax.hyper import ExchangeHyper, Hyper, make_hyper
from p2p_sac_jax.peer.components import (
    INSIGHT,
    PRIVACY,
    SAMPLE_OBSERVATIONS,
    PeerComponents,
    stream,
)
from p2p_sac_jax.sac import distributions
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.sac import SacState
from p2p_sac_jax.types import Array, Insight, LocalSummary, MessageInputs

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
    def send_state(self) -> SendState: ...  # noqa: D102


class ReplaySample(NamedTuple):
    """What a peer calls to mind before it speaks."""

    obs: Array  # [M, D] of uniform rows of its replay
    size: Array  # [] int32 rows there are


def sample_observations(
    components: PeerComponents, replay: Replay, key: Array, clock: Array
) -> ReplaySample:
    """256 observations of the replay, with the peer's ``key``."""
    rows = components.replay.sample(
        replay, stream(key, SAMPLE_OBSERVATIONS, clock), INSIGHT_ROWS
    )
    return ReplaySample(rows.obs, replay.size)


def local_summary(
    components: PeerComponents,
    state: Speaker,
    past: ReplaySample,
    hyper: ExchangeHyper,
    clock: Array,
) -> LocalSummary:
    """Everything one peer could say at ``clock``, from what it calls to mind."""
    seen = state.last_seen * components.config.environment.seconds_per_step
    return LocalSummary(
        insight=_insight(components, state, past, seen, hyper, clock)
        if components.learns
        else _no_insight(components, seen),
        demand=components.memory.summary(state.memory),
        performance=_performance(state),
    )


def _insight(
    components: PeerComponents,
    state: Speaker,
    past: ReplaySample,
    seen: Array,
    hyper: ExchangeHyper,
    clock: Array,
) -> Insight:
    """Values and policy by cell; ``seen`` [K] seconds is when it was last visited."""
    value_key = stream(state.key, INSIGHT, clock)
    mean, log_std = components.sac.policy(state.learner, past.obs)
    state_value, action_value = components.sac.value(state.learner, past.obs, value_key)
    cells = jax.vmap(components.cell)(past.obs)
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
    return make_insight(inputs, components.num_cells, seen, hyper)


def _no_insight(components: PeerComponents, seen: Array) -> Insight:
    """What a peer without a policy says of any cell: nothing, but how fresh it is."""
    none = jnp.zeros((components.num_cells,))
    no_action = jnp.zeros((components.num_cells, components.environment.action_dim))
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


def make_message(
    components: PeerComponents,
    state: Speaker,
    past: ReplaySample,
    hyper: Hyper,
    allowed: Array,
    clock: Array,
) -> tuple[SendState, LocalSummary, Array]:
    """One peer's message of one round, sent or not.

    Args:
      components: the peer's functions.
      state: before the round.
      past: what its insight is computed on.
      hyper: of the run.
      allowed: [] int32 messages that it may have sent in all; 0 sends nothing.
      clock: [] int32.

    Returns:
      The state of sending after the round, with the message that neighbours hold;
      everything the peer knows; and 1 if a message was sent in this round.
    """
    own = local_summary(components, state, past, hyper.exchange, clock)
    message = _write(components, state, own, clock)
    before, round_index = state.send_state, clock // components.config.exchange.interval
    sent = is_due(before, own, hyper.synchronisation, round_index, clock)
    sent &= before.releases < allowed
    after = after_round(before, message, own, sent, clock)
    return after, own, sent.astype(jnp.float32)


def new_send_state(components: PeerComponents, state: Speaker) -> SendState:
    """The state before any message, of the form that ``state`` will write."""
    config, start = components.config, jnp.zeros((), jnp.int32)
    hyper = make_hyper(config).exchange

    def write(state: Speaker, replay: Replay, cells: Array) -> Any:
        past = sample_observations(components, replay, state.key, start)
        own = local_summary(components, state, past, hyper, start)
        return _write_with(components, state, own, cells, cells, start)

    cells = jax.ShapeDtypeStruct((components.num_cells,), jnp.float32)
    replay = jax.eval_shape(components.replay.init)
    message = jax.eval_shape(write, state, replay, cells)
    return init_send_state(message, components.num_cells, config.privacy.trend_window)


def _write(
    components: PeerComponents, state: Speaker, own: LocalSummary, clock: Array
) -> Any:
    past = state.send_state.past_value[0], state.send_state.past_valid[0]
    return _write_with(components, state, own, *past, clock)


def _write_with(
    components: PeerComponents,
    state: Speaker,
    own: LocalSummary,
    past_value: Array,
    past_valid: Array,
    clock: Array,
) -> Any:
    """The outbound message of the mode, with noise of the peer's own."""
    config = components.config
    known = MessageInputs(
        message=own,
        statistics=components.memory.statistics(state.memory),
        past_value=past_value,
        past_valid=past_valid,
        visits=state.visits,
    )
    return components.mode.encode(
        known,
        stream(state.key, PRIVACY, 0),
        clock // config.exchange.interval,
        clock * config.environment.seconds_per_step,
    )
