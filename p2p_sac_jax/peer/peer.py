"""The functions of one peer, bound to its components."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.messages import Mode
from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.context import (
    RESET,
    PeerComponents,
    RoundContext,
    make_peer_components,
    stream,
)
from p2p_sac_jax.peer.evaluate import Evaluation, evaluate
from p2p_sac_jax.peer.learning import presample
from p2p_sac_jax.peer.message import (
    ReplaySample,
    local_summary,
    make_message,
    sample_observations,
)
from p2p_sac_jax.peer.state import PeerState, init_state
from p2p_sac_jax.peer.step import PeerMetrics, peer_round, pretrain
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.round_replay import Presampled, RoundRows
from p2p_sac_jax.types import Array, LocalSummary


class Peer(NamedTuple):
    """Pure functions of one peer, and what the network must agree on.

    ``make_message``, ``round`` and ``pretrain_on_model`` take a state without its
    replay, which may be far larger than all the rest: ``sample_observations`` and
    ``presample`` read from it before, and ``record`` writes to it after.
    """

    init: Callable[[Array, Any, Array], PeerState]  # (key, params, trust [J])
    # (state, hyper, clock) -> the peer's full summary
    local_summary: Callable[[PeerState, Hyper, Array], LocalSummary]
    # (replay, key, clock) -> observations behind an insight
    sample_observations: Callable[[Replay, Array, Array], ReplaySample]
    # (state, sample, hyper, releases allowed, clock)
    # -> state of sending, own summary, 1 if sent
    make_message: Callable[
        [PeerState, ReplaySample, Hyper, Array, Array],
        tuple[SendState, LocalSummary, Array],
    ]
    # (replay, key, active, clock) -> rows [S, M] that the round from clock on reads;
    # where replays are pooled, ``replay`` is those of all peers, leaves [P, ...]
    presample: Callable[[Replay, Array, Array, Array], Presampled]
    # (state, presampled, context, clock) -> (state, rows written, metrics [S])
    round: Callable[
        [PeerState, Presampled, RoundContext, Array],
        tuple[PeerState, RoundRows, PeerMetrics],
    ]
    record: Callable[[Replay, RoundRows], Replay]
    # (state, context, clock) -> the state of a newcomer after pre-training
    pretrain_on_model: Callable[[PeerState, RoundContext, Array], PeerState]
    # (state, params, hyper, clock)
    evaluate: Callable[[PeerState, Any, Hyper, Array], Evaluation]
    base_prior: BasePrior
    mode: Mode


def make_peer(config: TrainConfig, environment: Environment) -> Peer:
    """Builds the functions of one peer from a validated configuration."""
    components = make_peer_components(config, environment)
    return Peer(
        init=partial(_init, components),
        local_summary=partial(_local_summary, components),
        sample_observations=partial(sample_observations, components),
        make_message=partial(make_message, components),
        presample=partial(presample, components),
        round=partial(peer_round, components),
        record=components.round_replay.commit,
        pretrain_on_model=partial(pretrain, components),
        evaluate=partial(evaluate, components),
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
    sample = sample_observations(components, state.replay, state.key, clock)
    return local_summary(components, state, sample, hyper.exchange, clock)
