"""A population: peers stacked on axis 0, runs on axis 1, one compiled program.

``run_chunk`` scans over rounds; in each round every peer speaks, the exchange
makes guidance, and every peer lives ``exchange.interval`` steps on its own. The
layout decides only how peers are spread over hardware (``over_peers``); the
exchange is the one place where anything crosses the peer axis, as one all-gather
of packed messages when peers live on several devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import make_exchange
from p2p_sac_jax.exchange.synchronisation import bytes_received
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import PeerMetrics, PeerState, Situation, make_peer
from p2p_sac_jax.types import Array, Guidance, Message, Score

PEERS = "peers"  # name of the mesh axis
# Within one peer, guidance and hyper-parameters differ by run.
_RUN_AXES = Situation._make((0, None, 0, None))


class Members(NamedTuple):
    """Who the peers are; the peer axis first, so that it can be sharded."""

    ids: Array  # [P] int32, names the peer's stream of randomness
    params: Any  # [P, ...] environment parameters
    joins: Array  # [P] int32 clock step from which the peer takes part
    adjacency: Array  # [P, R, P] receiver, run, sender


class Runs(NamedTuple):
    """What every device must know: the runs, and when each sender joins."""

    seeds: Array  # [R] int32
    hyper: Hyper  # [R] leaves
    sender_joins: Array  # [P] int32, ``Members.joins`` of all peers


class RoundMetrics(NamedTuple):
    """What happened in one round, leaves [P, R, ...]."""

    peer: PeerMetrics  # [P, R, S, ...]
    bytes_received: Array  # [P, R] payload of the messages that had something to say
    has_prior: Array  # [P, R] 1 where the network informed the peer's demand prior


class Population(NamedTuple):
    """Programs over all peers and runs, not yet compiled; leaves are [P, R, ...].

    All but ``init`` take (state, members, runs, clock).
    """

    init: Callable[[Members, Runs], PeerState]
    run_chunk: Callable[..., tuple[PeerState, RoundMetrics]]  # [rounds, P, R, ...]
    rehearse: Callable[..., PeerState]  # those who join at ``clock`` rehearse
    evaluate: Callable[..., Score]  # mean score per step
    messages: Callable[..., Message]  # what every peer would say now


def make_mesh(devices: list[Any]) -> Mesh:
    """A one-axis mesh over ``devices``."""
    return jax.make_mesh(
        (len(devices),), (PEERS,), axis_types=(AxisType.Auto,), devices=devices
    )


def place(tree: Any, mesh: Mesh | None) -> Any:
    """Spreads the leading axis of every leaf over the mesh, if there is one."""
    if mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(mesh, P(PEERS)))


def make_population(
    config: TrainConfig,
    environment: Environment,
    layout: str,
    mesh: Mesh | None = None,
) -> Population:
    """Stacks one peer's pure functions into programs over peers and runs.

    Args:
      config: a validated configuration.
      environment: of every peer.
      layout: "vmap" (accelerators), "map" (one peer after the other), or "shard"
        (one peer per device at a time; needs ``mesh``).
      mesh: devices of layout "shard"; the peer count must be a multiple of them.
    """
    peer = make_peer(config, environment)
    exchange = make_exchange(
        config.exchange.estimation,
        config.memory.pooling,
        environment.action_dim,
        peer.base_prior,
    )
    rounds = config.evaluate_every // config.exchange.interval
    seconds_per_step = config.environment.seconds_per_step

    def over_peers(function: Callable) -> Callable:
        """Lifts a function of one peer's runs to all peers of this device."""
        if layout == "vmap":
            return jax.vmap(function)
        return lambda *args: jax.lax.map(lambda leaves: function(*leaves), args)

    def gather(tree: Any) -> Any:
        """The same leaves of *all* peers, [P, R, ...], by one all-gather."""
        if mesh is None:
            return tree
        _, unpack = ravel_pytree(jax.tree.map(lambda leaf: leaf[0, 0], tree))
        pack = jax.vmap(jax.vmap(lambda leaf: ravel_pytree(leaf)[0]))
        packed = jax.lax.all_gather(pack(tree), PEERS, tiled=True)
        return jax.vmap(jax.vmap(unpack))(packed)

    def init(members: Members, runs: Runs) -> PeerState:
        def one(peer_id: Array, params: Any, seed: Array) -> PeerState:
            return peer.init(jax.random.fold_in(jax.random.key(seed), peer_id), params)

        over_runs = jax.vmap(one, (None, None, 0))
        return jax.vmap(over_runs, (0, 0, None))(
            members.ids, members.params, runs.seeds
        )

    def messages(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> Message:
        del members
        over_runs = jax.vmap(peer.message, (0, 0, None))
        return jax.vmap(over_runs, (0, None, None))(state, runs.hyper, clock)

    def communicate(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> tuple[Guidance, Array]:
        """Every peer speaks and listens; who has not joined does neither.

        Returns guidance [P, R, ...] and the bytes [P, R] that reached each peer.
        """
        own = messages(state, members, runs, clock)
        heard = gather(own)
        listening = (clock >= members.joins).astype(jnp.float32)
        present = (clock >= runs.sender_joins).astype(jnp.float32)
        edges = listening[:, None, None] * members.adjacency * present[None, None, :]
        over_runs = jax.vmap(exchange, (1, 1, 1, 0, None, 1), 1)
        hyper, now = runs.hyper.exchange, clock * seconds_per_step
        guidance = over_runs(heard, own, edges, hyper, now, state.steps)
        received = jax.vmap(bytes_received, (1, 1, 0), 1)
        return guidance, received(heard, edges, hyper.network_weight)

    def live(
        function: Callable,
        state: PeerState,
        guidance: Guidance,
        members: Members,
        runs: Runs,
        active: Array,
        clock: Array,
    ) -> Any:
        """``function(state, situation, clock)`` of one peer, for all [P, R]."""

        def one_peer(
            state: PeerState, guidance: Guidance, params: Any, active: Array
        ) -> Any:
            over_runs = jax.vmap(function, (0, _RUN_AXES, None))
            situation = Situation(guidance, params, runs.hyper, active)
            return over_runs(state, situation, clock)

        return over_peers(one_peer)(state, guidance, members.params, active)

    def run_chunk(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> tuple[PeerState, RoundMetrics]:
        def one_round(state: PeerState, now: Array) -> tuple[PeerState, RoundMetrics]:
            guidance, received = communicate(state, members, runs, now)
            active = (now >= members.joins).astype(jnp.float32)
            state, metrics = live(
                peer.round, state, guidance, members, runs, active, now
            )
            return state, RoundMetrics(metrics, received, guidance.has_prior)

        clocks = clock + config.exchange.interval * jnp.arange(rounds)
        return jax.lax.scan(one_round, state, clocks)

    def rehearse(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> PeerState:
        guidance, _ = communicate(state, members, runs, clock)
        joining = (members.joins == clock).astype(jnp.float32)
        return live(peer.rehearse, state, guidance, members, runs, joining, clock)

    def evaluate(state: PeerState, members: Members, runs: Runs, clock: Array) -> Score:
        del runs, clock
        over_runs = jax.vmap(peer.evaluate, (0, None))
        return jax.vmap(over_runs)(state, members.params)

    # How the arguments and results of each program lie on the mesh.
    first, second, everywhere = P(PEERS), P(None, PEERS), P()
    with_state = (first, first, everywhere, everywhere)
    return Population(
        init=_spread(init, mesh, (first, everywhere), first),
        run_chunk=_spread(run_chunk, mesh, with_state, (first, second)),
        rehearse=_spread(rehearse, mesh, with_state, first),
        evaluate=_spread(evaluate, mesh, with_state, first),
        messages=_spread(messages, mesh, with_state, first),
    )


def _spread(
    function: Callable, mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable:
    """``function`` on each device's share of the peers, where there is a mesh."""
    if mesh is None:
        return function
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
