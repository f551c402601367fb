"""The message of one peer: local summary, privacy mode, send policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.insight import InsightInputs, make_insight
from p2p_sac_jax.exchange.send_policy import (
    SendState,
    after_round,
    init_send_state,
    is_due,
)
from p2p_sac_jax.hyper import ExchangeHyper, Hyper
from p2p_sac_jax.peer.context import (
    INSIGHT,
    PRIVACY,
    SAMPLE_OBSERVATIONS,
    PeerComponents,
    stream,
)
from p2p_sac_jax.sac import distributions
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.types import Array, Insight, LocalSummary, MessageInputs

if TYPE_CHECKING:
    from p2p_sac_jax.peer.state import PeerState

INSIGHT_ROWS = 256  # replay rows behind one insight
PERFORMANCE_DECAY = 0.95
# Performance of a peer without steps: it never excludes a neighbour as worse.
_UNKNOWN = -1e9


class ReplaySample(NamedTuple):
    """Observations that an insight is computed on."""

    obs: Array  # [M, D] of uniform rows of the replay
    size: Array  # [] int32 rows in the replay


def sample_observations(
    components: PeerComponents, replay: Replay, key: Array, clock: Array
) -> ReplaySample:
    """Observations of 256 rows of the replay, drawn with the peer's ``key``."""
    rows = components.replay.sample(
        replay, stream(key, SAMPLE_OBSERVATIONS, clock), INSIGHT_ROWS
    )
    return ReplaySample(rows.obs, replay.size)


def local_summary(
    components: PeerComponents,
    state: PeerState,
    sample: ReplaySample,
    hyper: ExchangeHyper,
    clock: Array,
) -> LocalSummary:
    """The full summary of one peer at ``clock``, its replay read as ``sample``."""
    seen = state.last_seen * components.seconds_per_step
    return LocalSummary(
        insight=_insight(components, state, sample, seen, hyper, clock)
        if components.learns
        else _no_insight(components, seen),
        demand=components.memory.summary(state.memory),
        performance=_performance(state),
    )


def _insight(
    components: PeerComponents,
    state: PeerState,
    sample: ReplaySample,
    seen: Array,
    hyper: ExchangeHyper,
    clock: Array,
) -> Insight:
    """Values and policy by cell; ``seen`` [K] is the time of the last visit, s."""
    value_key = stream(state.key, INSIGHT, clock)
    mean, log_std = components.sac.policy(state.learner, sample.obs)
    state_value, action_value = components.sac.value(
        state.learner, sample.obs, value_key
    )
    cells = jax.vmap(components.cell)(sample.obs)
    shaped = state.potential[cells]  # the critics have learned this much less
    inputs = InsightInputs(
        cell=cells,
        state_value=state_value + shaped,
        action_value=action_value + shaped,
        entropy=distributions.entropy(log_std),
        action_mean=jnp.tanh(mean),
        action_std=jnp.exp(log_std),
        size=sample.size,
        td_error=state.learner.td_error,
    )
    return make_insight(inputs, components.num_cells, seen, hyper)


def _no_insight(components: PeerComponents, seen: Array) -> Insight:
    """The insight of a peer without a policy: timestamps alone."""
    none = jnp.zeros((components.num_cells,))
    no_action = jnp.zeros((components.num_cells, components.environment.action_dim))
    return Insight(*(none for _ in Insight._fields))._replace(
        timestamp=seen.astype(jnp.float32),
        action_mean=no_action,
        action_std=no_action,
    )


def _performance(state: PeerState) -> Array:
    """Bias-corrected moving average of rewards; ``_UNKNOWN`` before any."""
    weight = 1.0 - PERFORMANCE_DECAY ** state.steps.astype(jnp.float32)
    any_steps = state.steps > 0
    mean = state.performance / jnp.where(any_steps, weight, 1.0)
    return jnp.where(any_steps, mean, _UNKNOWN)


def make_message(
    components: PeerComponents,
    state: PeerState,
    sample: ReplaySample,
    hyper: Hyper,
    allowed: Array,
    clock: Array,
) -> tuple[SendState, LocalSummary, Array]:
    """One peer's message of one round, sent or not.

    Args:
      components: the peer's functions.
      state: before the round.
      sample: observations that its insight is computed on.
      hyper: of the run.
      allowed: [] int32 messages that it may have sent in all; 0 sends nothing.
      clock: [] int32 step of the shared clock.

    Returns:
      The state of sending after the round, with the message that neighbours hold;
      the full summary, which does not leave the peer; and 1 if a message was sent.
    """
    own = local_summary(components, state, sample, hyper.exchange, clock)
    before, round_index = state.send_state, clock // components.interval
    past = before.past_value[0], before.past_valid[0]
    message = _encode(components, state, own, past, clock)
    sent = is_due(before, own, hyper.synchronisation, round_index, clock)
    sent &= before.releases < allowed
    after = after_round(before, message, own, sent, clock)
    return after, own, sent.astype(jnp.float32)


def new_send_state(components: PeerComponents, state: PeerState) -> SendState:
    """The state before any message, of the shapes that ``state`` will write."""
    start = jnp.zeros((), jnp.int32)

    def write(state: PeerState, replay: Replay, cells: Array, zero: Array) -> Any:
        hyper = ExchangeHyper(*(zero for _ in ExchangeHyper._fields))
        sample = sample_observations(components, replay, state.key, start)
        own = local_summary(components, state, sample, hyper, start)
        return _encode(components, state, own, (cells, cells), start)

    cells = jax.ShapeDtypeStruct((components.num_cells,), jnp.float32)
    zero = jax.ShapeDtypeStruct((), jnp.float32)
    replay = jax.eval_shape(components.replay.init)
    message = jax.eval_shape(write, state, replay, cells, zero)
    return init_send_state(message, components.num_cells, components.trend_window)


def _encode(
    components: PeerComponents,
    state: PeerState,
    own: LocalSummary,
    past: tuple[Array, Array],
    clock: Array,
) -> Any:
    """The mode's message; ``past`` is values and validity [K] of a former round."""
    past_value, past_valid = past
    inputs = MessageInputs(
        message=own,
        statistics=components.memory.statistics(state.memory),
        past_value=past_value,
        past_valid=past_valid,
        visits=state.visits,
    )
    return components.mode.encode(
        inputs,
        stream(state.key, PRIVACY, 0),
        clock // components.interval,
        clock * components.seconds_per_step,
    )
