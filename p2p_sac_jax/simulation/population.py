"""A population: peers stacked on axis 0, runs on axis 1, one compiled program.

``run_chunk`` scans over rounds; in each round every peer speaks, the exchange
makes guidance, and every peer lives ``exchange.interval`` steps on its own. How
peers are spread over hardware is decided in ``over_peers`` alone; the
exchange is the one place where anything crosses the peer axis, as one all-gather
of packed messages when peers live on several devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.trust import uniform_trust
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import (
    Evaluation,
    PeerMetrics,
    PeerState,
    ReplaySample,
    RoundContext,
    make_peer,
)
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.round_replay import Presampled
from p2p_sac_jax.simulation.network import (
    Broadcast,
    ExchangeMetrics,
    Participation,
    Receivers,
    RoundInfo,
    make_network,
)
from p2p_sac_jax.types import Array, Guidance, LocalSummary

PEERS = "peers"  # name of the mesh axis
# Within one peer, guidance and hyper-parameters differ by run.
_RUN_AXES = RoundContext._make((0, None, 0, None))


class PeerInputs(NamedTuple):
    """Who the peers are; the peer axis first, so that it can be sharded."""

    params: Any  # [P, ...] environment parameters
    adjacency: Array  # [P, R, P] receiver, run, sender
    partners: Any  # [P, C] int32 sender heard in round t mod C; () if all are
    connected: Array  # [P, R] 1 if anybody may hear the peer
    presence: Participation  # [P] its own row of ``RunInputs.senders``


class RunInputs(NamedTuple):
    """What every device must know: the runs, and all who may be heard."""

    seeds: Array  # [R] int32
    hyper: Hyper  # [R] leaves
    allowed: Array  # [R] int32 messages that the privacy budget pays for
    senders: Participation  # [P] all peers


class RoundMetrics(NamedTuple):
    """What happened in one round, leaves [P, R, ...]."""

    peer: PeerMetrics  # [P, R, S, ...]
    exchange: ExchangeMetrics  # [P, R] what was sent, what was heard


class Population(NamedTuple):
    """Programs over all peers and runs, not yet compiled; leaves are [P, R, ...].

    All but ``init`` take (state, members, runs, clock).
    """

    init: Callable[[PeerInputs, RunInputs], PeerState]
    run_chunk: Callable[..., tuple[PeerState, RoundMetrics]]  # [rounds, P, R, ...]
    pretrain_on_model: Callable[..., PeerState]  # those who join at ``clock`` rehearse
    evaluate: Callable[..., Evaluation]
    local_summary: Callable[..., LocalSummary]  # everything every peer could say now
    # one round's talk alone: state, guidance and report
    communicate: Callable[..., tuple[PeerState, Guidance, ExchangeMetrics]]


def make_mesh(devices: list[Any]) -> Mesh:
    """A one-axis mesh over ``devices``."""
    return jax.make_mesh(
        (len(devices),), (PEERS,), axis_types=(AxisType.Auto,), devices=devices
    )


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
      map_batch_size: peers that a device runs as one batch, one batch after the other, a
        divisor of how many it holds; 0 is all of them.
      mesh: devices that share the peers, whose number must be a multiple of theirs.
    """
    peer = make_peer(config, environment)
    network = make_network(config, environment.action_dim, peer.base_prior, peer.mode)
    rounds = config.evaluate_every // config.exchange.interval

    def over_peers(function: Callable) -> Callable:
        """Lifts a function of one peer's runs to all peers of this device."""
        if map_batch_size == 0:
            return jax.vmap(function)
        if map_batch_size == 1:
            return lambda *args: jax.lax.map(lambda x: function(*x), args)

        def in_batches(*args: Any) -> Any:
            batch = jax.vmap(function)
            cut = jax.tree.map(
                lambda x: x.reshape(
                    len(x) // map_batch_size, map_batch_size, *x.shape[1:]
                ),
                args,
            )
            done = jax.lax.map(lambda x: batch(*x), cut)
            return jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), done)

        return in_batches

    def gather(tree: Any) -> Any:
        """The same leaves of *all* peers, [P, R, ...], by one all-gather."""
        if mesh is None:
            return tree
        _, unpack = ravel_pytree(jax.tree.map(lambda leaf: leaf[0, 0], tree))
        pack = jax.vmap(jax.vmap(lambda leaf: ravel_pytree(leaf)[0]))
        packed = jax.lax.all_gather(pack(tree), PEERS, tiled=True)
        return jax.vmap(jax.vmap(unpack))(packed)

    def init(peer_inputs: PeerInputs, runs: RunInputs) -> PeerState:
        trust = uniform_trust(1, runs.senders.joins.shape[0])[0]

        def one(peer_id: Array, params: Any, seed: Array) -> PeerState:
            key = jax.random.fold_in(jax.random.key(seed), peer_id)
            return peer.init(key, params, trust)

        over_runs = jax.vmap(one, (None, None, 0))
        return jax.vmap(over_runs, (0, 0, None))(
            peer_inputs.presence.plan.ids, peer_inputs.params, runs.seeds
        )

    def local_summary(
        state: PeerState, peer_inputs: PeerInputs, runs: RunInputs, clock: Array
    ) -> LocalSummary:
        del peer_inputs
        over_runs = jax.vmap(peer.local_summary, (0, 0, None))
        return jax.vmap(over_runs, (0, None, None))(state, runs.hyper, clock)

    def communicate(
        state: PeerState, peer_inputs: PeerInputs, runs: RunInputs, clock: Array
    ) -> tuple[PeerState, Guidance, ExchangeMetrics]:
        """Every peer has its turn to speak, and makes what it can of what it hears.

        Returns the state with what was said and learned of others, guidance
        [P, R, ...] and the report [P, R].
        """

        def turn(
            state: PeerState,
            past: ReplaySample,
            connected: Array,
            presence: Participation,
        ) -> Any:
            def one(
                state: PeerState,
                past: ReplaySample,
                hyper: Hyper,
                allowed: Array,
                on: Array,
            ) -> Any:
                listened_to = on * jnp.where(hyper.exchange.network_weight > 0.0, 1, 0)
                send_conditions = network.send_conditions(
                    presence, listened_to, allowed, clock
                )
                return peer.make_message(state, past, hyper, send_conditions, clock)

            return jax.vmap(one)(state, past, runs.hyper, runs.allowed, connected)

        sample_observations = jax.vmap(
            jax.vmap(peer.sample_observations, (0, 0, None)), (0, 0, None)
        )
        past = sample_observations(state.replay, state.key, clock)
        # The outbox alone comes back: a map would copy all else.
        outbox, send_result = over_peers(turn)(
            without_replay(state), past, peer_inputs.connected, peer_inputs.presence
        )
        state = state._replace(outbox=outbox)
        broadcast = gather(Broadcast(send_result.wire, send_result.sending))
        listeners = Receivers(
            own=send_result.own,
            adjacency=peer_inputs.adjacency,
            trust=state.trust,
            steps=state.steps,
            sending=send_result.sending,
            releases=state.outbox.releases,
        )
        round_info = RoundInfo(
            peer_inputs.presence, peer_inputs.partners, runs.senders, clock
        )
        over_runs = jax.vmap(network.listen, (1, 1, 0, 0, None), 1)
        guidance, trust, report = over_runs(
            broadcast, listeners, runs.hyper, runs.seeds, round_info
        )
        return state._replace(trust=trust), guidance, report

    def live(
        function: Callable,
        own: tuple[Any, ...],
        guidance: Guidance,
        peer_inputs: PeerInputs,
        runs: RunInputs,
        active: Array,
        clock: Array,
    ) -> Any:
        """``function(*own, situation, clock)`` of one peer, for all [P, R]."""

        def one_peer(
            own: tuple[Any, ...], guidance: Guidance, params: Any, active: Array
        ) -> Any:
            context = RoundContext(guidance, params, runs.hyper, active)
            over_runs = jax.vmap(
                lambda own, context: function(*own, context, clock),
                (0, _RUN_AXES),
            )
            return over_runs(own, context)

        return over_peers(one_peer)(own, guidance, peer_inputs.params, active)

    def run_chunk(
        state: PeerState, peer_inputs: PeerInputs, runs: RunInputs, clock: Array
    ) -> tuple[PeerState, RoundMetrics]:
        presample = _over_replays(peer.presample, config.sac.replay == "pooled", mesh)
        record = jax.vmap(jax.vmap(peer.record))

        def one_round(state: PeerState, now: Array) -> tuple[PeerState, RoundMetrics]:
            state, guidance, report = communicate(state, peer_inputs, runs, now)
            active = (now >= peer_inputs.presence.joins).astype(jnp.float32)
            presampled = presample(state.replay, state.key, active, now)
            own = without_replay(state), presampled
            lived, fresh, metrics = live(
                peer.round, own, guidance, peer_inputs, runs, active, now
            )
            state = lived._replace(replay=record(state.replay, fresh))
            return state, RoundMetrics(metrics, report)

        clocks = clock + config.exchange.interval * jnp.arange(rounds)
        return jax.lax.scan(one_round, state, clocks)

    def pretrain_on_model(
        state: PeerState, peer_inputs: PeerInputs, runs: RunInputs, clock: Array
    ) -> PeerState:
        # The round that follows at the same clock says all this again, and is kept.
        _, guidance, _ = communicate(state, peer_inputs, runs, clock)
        joining = (peer_inputs.presence.joins == clock).astype(jnp.float32)

        own = (without_replay(state),)
        rehearsed = live(
            peer.pretrain_on_model, own, guidance, peer_inputs, runs, joining, clock
        )
        return rehearsed._replace(replay=state.replay)

    def evaluate(
        state: PeerState, peer_inputs: PeerInputs, runs: RunInputs, clock: Array
    ) -> Evaluation:
        over_runs = jax.vmap(peer.evaluate, (0, None, 0, None))
        return jax.vmap(over_runs, (0, 0, None, None))(
            state, peer_inputs.params, runs.hyper, clock
        )

    # How the arguments and results of each program lie on the mesh.
    first, second, everywhere = P(PEERS), P(None, PEERS), P()
    with_state = (first, first, everywhere, everywhere)
    return Population(
        init=_spread(init, mesh, (first, everywhere), first),
        run_chunk=_spread(run_chunk, mesh, with_state, (first, second)),
        pretrain_on_model=_spread(pretrain_on_model, mesh, with_state, first),
        evaluate=_spread(evaluate, mesh, with_state, first),
        local_summary=_spread(local_summary, mesh, with_state, first),
        communicate=_spread(communicate, mesh, with_state, first),
    )


def _over_replays(presample: Callable, pooled: bool, mesh: Mesh | None) -> Callable:
    """Lifts ``Peer.draw`` to all peers and runs: own replays, or everybody's.

    Returns:
      ``(replay [P, R], key [P, R], active [P], clock)`` to rows [P, R, S, ...]. Pooled
      replays cross the mesh whole, in one all-gather of each leaf.
    """
    if not pooled:
        return jax.vmap(jax.vmap(presample, (0, 0, None, None)), (0, 0, 0, None))
    from_all = jax.vmap(jax.vmap(presample, (1, 0, None, None)), (None, 0, 0, None))

    def gather_and_draw(replay: Replay, *others: Array) -> Presampled:
        if mesh is not None:
            gather = partial(jax.lax.all_gather, axis_name=PEERS, tiled=True)
            replay = jax.tree.map(gather, replay)
        return from_all(replay, *others)

    return gather_and_draw


def _spread(
    function: Callable, mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable:
    """``function`` on each device's share of the peers, where there is a mesh."""
    if mesh is None:
        return function
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
