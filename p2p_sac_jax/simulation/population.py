"""A population: peers stacked on axis 0, runs on axis 1, one compiled program.

``run_chunk`` scans over rounds. In each round the exchange turns the peers' messages
into guidance, and every peer takes ``exchange.interval`` steps on its own. How peers
are spread over hardware is decided in ``peer_axis`` alone; messages are the only
thing that crosses the peer axis, as one all-gather of packed messages when peers are
on several devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import ExchangeInputs, ExchangeMetrics
from p2p_sac_jax.exchange.messages import payload_bytes
from p2p_sac_jax.exchange.send_policy import bytes_received
from p2p_sac_jax.exchange.trust import uniform_trust
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import (
    Evaluation,
    PeerComponents,
    PeerMetrics,
    PeerState,
    ReplaySample,
    RoundContext,
    make_peer_components,
)
from p2p_sac_jax.peer.context import RESET, stream
from p2p_sac_jax.peer.evaluate import evaluate
from p2p_sac_jax.peer.learning import presample
from p2p_sac_jax.peer.message import local_summary, make_message, sample_observations
from p2p_sac_jax.peer.state import init_state
from p2p_sac_jax.peer.step import peer_round, pretrain
from p2p_sac_jax.simulation.network import (
    Conditions,
    Participation,
    SimulatedNetwork,
    make_simulated_network,
)
from p2p_sac_jax.simulation.peer_axis import (
    PEERS,
    gather,
    over_peers,
    over_replays,
    shard,
)
from p2p_sac_jax.types import Array, Guidance, LocalSummary

# In a round, what belongs to a peer has its runs on axis 1.
_ROUND_AXES = ExchangeInputs._make((1, 1, 1, 1, 1, 0, None, None))


class PeerInputs(NamedTuple):
    """What belongs to each peer; the peer axis first, so that it can be sharded."""

    params: Any  # [P, ...] of the environment; [P, R, ...] if population.draw=random
    adjacency: Array  # [P, R, P] receiver, run, sender
    partners: Any  # [P, C] int32 sender of round t mod C; () where all are senders
    connected: Array  # [P, R] 1 if any peer may receive from it
    participation: Participation  # [P] its own row of ``RunInputs.senders``


class RunInputs(NamedTuple):
    """What every device must know: the runs, and all senders."""

    seeds: Array  # [R] int32
    hyper: Hyper  # [R] leaves
    allowed: Array  # [R] int32 messages that the privacy budget pays for
    senders: Participation  # [P] all peers


class Traffic(NamedTuple):
    """What one peer sent and received in one round."""

    sent: Array  # 1 if it sent a message
    releases: Array  # messages it has sent so far
    bytes_received: Array


class RoundMetrics(NamedTuple):
    """What happened in one round."""

    peer: PeerMetrics  # [P, R, S, ...]
    exchange: ExchangeMetrics  # [P, R]
    traffic: Traffic  # [P, R]


class Population(NamedTuple):
    """Programs over all peers and runs, not yet compiled; leaves are [P, R, ...].

    All but ``init`` take (state, peer inputs, run inputs, clock).
    """

    init: Callable[[PeerInputs, RunInputs], PeerState]
    run_chunk: Callable[..., tuple[PeerState, RoundMetrics]]  # [rounds, P, R, ...]
    pretrain_on_model: Callable[..., PeerState]  # for the peers that join at ``clock``
    evaluate: Callable[..., Evaluation]
    local_summary: Callable[..., LocalSummary]
    # the exchange of one round without the steps that follow
    communicate: Callable[..., tuple[PeerState, Guidance, ExchangeMetrics, Traffic]]


class _Parts(NamedTuple):
    """Functions and static sizes that the programs of a population share."""

    config: TrainConfig
    components: PeerComponents
    network: SimulatedNetwork
    map_batch_size: int
    mesh: Mesh | None

    @property
    def params_axis(self) -> int | None:
        """The run axis of one peer's parameters, where every seed draws its own."""
        return 0 if self.config.population.drawn_by_seed else None


def without_replay(state: PeerState) -> PeerState:
    """What may pass through a map over peers, which copies whatever it is given."""
    return state._replace(replay=None)  # type: ignore[arg-type]


def make_population(
    config: TrainConfig,
    environment: Environment,
    map_batch_size: int = 0,
    mesh: Mesh | None = None,
) -> Population:
    """Stacks one peer's pure functions into programs over peers and runs.

    Args:
      config: a validated configuration.
      environment: of every peer.
      map_batch_size: peers that a device runs as one batch, one batch after the
        other, a divisor of how many it holds; 0 is all of them.
      mesh: devices that share the peers, whose number must be a multiple of theirs.
    """
    components = make_peer_components(config, environment)
    network = make_simulated_network(
        config, components.memory.base_prior, components.mode
    )
    parts = _Parts(config, components, network, map_batch_size, mesh)
    # How the arguments and results of each program are laid out on the mesh.
    first, second, everywhere = P(PEERS), P(None, PEERS), P()
    with_state = (first, first, everywhere, everywhere)

    def program(function: Callable, out_specs: Any) -> Callable:
        return shard(partial(function, parts), mesh, with_state, out_specs)

    return Population(
        init=shard(partial(_init, parts), mesh, (first, everywhere), first),
        run_chunk=program(_run_chunk, (first, second)),
        pretrain_on_model=program(_pretrain_on_model, first),
        evaluate=program(_evaluate, first),
        local_summary=program(_local_summary, first),
        communicate=program(_communicate, first),
    )


def _init(parts: _Parts, peer_inputs: PeerInputs, runs: RunInputs) -> PeerState:
    trust = uniform_trust(1, runs.senders.joins.shape[0])[0]

    def one(peer_id: Array, params: Any, seed: Array) -> PeerState:
        key = jax.random.fold_in(jax.random.key(seed), peer_id)
        world = parts.components.environment.reset(stream(key, RESET, 0), params)
        state = init_state(parts.components, key, *world, trust)
        channel = parts.network.init_channel(state.send_state.message)
        return state._replace(channel=channel)

    over_runs = jax.vmap(one, (None, parts.params_axis, 0))
    ids = peer_inputs.participation.plan.ids
    return jax.vmap(over_runs, (0, 0, None))(ids, peer_inputs.params, runs.seeds)


def _local_summary(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> LocalSummary:
    del peer_inputs

    def one(state: PeerState, hyper: Hyper) -> LocalSummary:
        sample = sample_observations(parts.components, state.replay, state.key, clock)
        return local_summary(parts.components, state, sample, hyper.exchange, clock)

    return jax.vmap(jax.vmap(one), (0, None))(state, runs.hyper)


def _communicate(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> tuple[PeerState, Guidance, ExchangeMetrics, Traffic]:
    """One round's exchange: state, guidance and metrics, leaves [P, R, ...]."""
    state, own, sent, messages = _send(parts, state, peer_inputs, runs, clock)
    all_messages, all_sent = gather(parts.mesh, (messages, sent))
    inputs = ExchangeInputs(
        received=jax.vmap(parts.components.mode.decode, 1, 1)(all_messages),
        own=own,
        edges=peer_inputs.adjacency,
        trust=state.trust,
        own_steps=state.steps,
        hyper=runs.hyper,
        clock=clock,
        now=clock * parts.config.environment.seconds_per_step,
    )
    conditions = Conditions(
        receivers=peer_inputs.participation,
        senders=runs.senders,
        partners=peer_inputs.partners,
        seed=runs.seeds,
    )
    exchange = jax.vmap(
        parts.network.exchange,
        (_ROUND_AXES, Conditions._make((None, None, None, 0))),
        1,
    )
    result = exchange(inputs, conditions)
    size = payload_bytes(jax.tree.map(lambda leaf: leaf[0, 0], messages))
    traffic = Traffic(
        sent=sent,
        releases=state.send_state.releases.astype(jnp.float32),
        bytes_received=jax.vmap(partial(bytes_received, size), 1, 1)(
            all_sent, result.edges
        ),
    )
    state = state._replace(trust=result.trust)
    return state, result.guidance, result.metrics, traffic


def _send(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> tuple[PeerState, LocalSummary, Array, Any]:
    """Every peer sends or not: state, own summaries, 1 if sent, messages [P, R]."""
    components, network = parts.components, parts.network

    def one_peer(
        state: PeerState,
        sample: ReplaySample,
        connected: Array,
        participation: Participation,
    ) -> Any:
        def one(
            state: PeerState,
            sample: ReplaySample,
            hyper: Hyper,
            allowed: Array,
            connected: Array,
        ) -> Any:
            on = (connected > 0.0) & (hyper.exchange.network_weight > 0.0)
            allowed = jnp.where(on, network.allowed(participation, allowed, clock), 0)
            return make_message(components, state, sample, hyper, allowed, clock)

        return jax.vmap(one)(state, sample, runs.hyper, runs.allowed, connected)

    def transmit(state: PeerState, sent: Array, participation: Participation) -> Any:
        return network.transmit(state.channel, state.send_state, sent, participation)

    sample_one = partial(sample_observations, components, clock=clock)
    sample = jax.vmap(jax.vmap(sample_one))(state.replay, state.key)
    # Of the state only what sending changes comes back: a map would copy all else.
    send_state, own, sent = over_peers(parts.map_batch_size, one_peer)(
        without_replay(state),
        sample,
        peer_inputs.connected,
        peer_inputs.participation,
    )
    state = state._replace(send_state=send_state)
    over_runs = jax.vmap(transmit, (0, 0, None))
    channel, messages = jax.vmap(over_runs)(
        without_replay(state), sent, peer_inputs.participation
    )
    return state._replace(channel=channel), own, sent, messages


def _run_chunk(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> tuple[PeerState, RoundMetrics]:
    config, components = parts.config, parts.components
    read = partial(presample, components)
    read_all = over_replays(read, components.pooled_replay, parts.mesh)
    record = jax.vmap(jax.vmap(components.round_replay.commit))

    def one_round(state: PeerState, now: Array) -> tuple[PeerState, RoundMetrics]:
        state, guidance, exchanged, traffic = _communicate(
            parts, state, peer_inputs, runs, now
        )
        active = (now >= peer_inputs.participation.joins).astype(jnp.float32)
        presampled = read_all(state.replay, state.key, active, now)
        context = RoundContext(guidance, peer_inputs.params, runs.hyper, active)
        run_round = _in_context(parts, peer_round, context, now)
        after, rows, metrics = run_round(without_replay(state), presampled)
        state = after._replace(replay=record(state.replay, rows))
        return state, RoundMetrics(metrics, exchanged, traffic)

    rounds = config.evaluate_every // config.exchange.interval
    clocks = clock + config.exchange.interval * jnp.arange(rounds)
    return jax.lax.scan(one_round, state, clocks)


def _pretrain_on_model(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> PeerState:
    # The round that follows at the same clock repeats this exchange and keeps it.
    _, guidance, _, _ = _communicate(parts, state, peer_inputs, runs, clock)
    joining = (peer_inputs.participation.joins == clock).astype(jnp.float32)
    context = RoundContext(guidance, peer_inputs.params, runs.hyper, joining)
    pretrain_all = _in_context(parts, pretrain, context, clock)
    return pretrain_all(without_replay(state))._replace(replay=state.replay)


def _evaluate(
    parts: _Parts,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    clock: Array,
) -> Evaluation:
    over_runs = jax.vmap(
        partial(evaluate, parts.components), (0, parts.params_axis, 0, None)
    )
    return jax.vmap(over_runs, (0, 0, None, None))(
        state, peer_inputs.params, runs.hyper, clock
    )


def _in_context(
    parts: _Parts, function: Callable, context: RoundContext, clock: Array
) -> Callable:
    """``function(components, *own, context, clock)`` of one peer, for all [P, R].

    Args:
      parts: of the population.
      function: of one peer.
      context: guidance [P, R, ...], params as in ``PeerInputs``, hyper [R], active [P].
      clock: [] int32.

    Returns:
      A function of ``own``, trees with leaves [P, R, ...].
    """
    # Within one peer, guidance and hyper-parameters differ by run.
    run_axes = RoundContext._make((0, parts.params_axis, 0, None))

    def one_peer(
        own: tuple[Any, ...], guidance: Guidance, params: Any, active: Array
    ) -> Any:
        of_peer = RoundContext(guidance, params, context.hyper, active)
        over_runs = jax.vmap(
            lambda own, context: function(parts.components, *own, context, clock),
            (0, run_axes),
        )
        return over_runs(own, of_peer)

    def over_all(*own: Any) -> Any:
        return over_peers(parts.map_batch_size, one_peer)(
            own, context.guidance, context.params, context.active
        )

    return over_all
