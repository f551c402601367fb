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
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.exchange import make_exchange
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import PeerMetrics, PeerState, make_peer
from p2p_sac_jax.types import Array, Guidance, Message, Score

PEERS = "peers"  # name of the mesh axis


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


class Population(NamedTuple):
    """Programs over all peers and runs, not yet compiled; leaves are [P, R, ...]."""

    init: Callable[[Members, Runs], PeerState]
    # (state, members, runs, clock) -> (state, metrics [rounds, P, R, S, ...])
    run_chunk: Callable[..., tuple[PeerState, PeerMetrics]]
    # (state, members, runs, clock) -> state: those who join at ``clock`` rehearse
    rehearse: Callable[..., PeerState]
    # (state, members, runs, clock) -> mean score per step
    evaluate: Callable[..., Score]
    # (state, members, runs, clock) -> what every peer would say now
    messages: Callable[..., Message]


def make_mesh(devices: list[Any]) -> Mesh:
    """A one-axis mesh over ``devices``."""
    return jax.make_mesh(
        (len(devices),), (PEERS,), axis_types=(AxisType.Auto,), devices=devices
    )


def place(tree: Any, mesh: Mesh | None) -> Any:
    """Spreads the leading axis of every leaf over the mesh, if there is one."""
    if mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(PEERS)))


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
    ) -> Guidance:
        """Every peer speaks and listens; who has not joined is not heard."""
        own = messages(state, members, runs, clock)
        present = (clock >= runs.sender_joins).astype(jnp.float32)
        adjacency = members.adjacency * present[None, None, :]
        over_runs = jax.vmap(exchange, (1, 1, 1, 0, None, 1), 1)
        return over_runs(
            gather(own),
            own,
            adjacency,
            runs.hyper.exchange,
            clock * seconds_per_step,
            state.steps,
        )

    def run_chunk(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> tuple[PeerState, PeerMetrics]:
        def one_round(state: PeerState, now: Array) -> tuple[PeerState, PeerMetrics]:
            guidance = communicate(state, members, runs, now)
            active = (now >= members.joins).astype(jnp.float32)

            def one_peer(
                state: PeerState, guidance: Guidance, params: Any, active: Array
            ) -> tuple[PeerState, PeerMetrics]:
                over_runs = jax.vmap(peer.round, (0, 0, None, 0, None, None))
                return over_runs(state, guidance, params, runs.hyper, active, now)

            return over_peers(one_peer)(state, guidance, members.params, active)

        clocks = clock + config.exchange.interval * jnp.arange(rounds)
        return jax.lax.scan(one_round, state, clocks)

    def rehearse(
        state: PeerState, members: Members, runs: Runs, clock: Array
    ) -> PeerState:
        guidance = communicate(state, members, runs, clock)
        joining = (members.joins == clock).astype(jnp.float32)

        def one_peer(
            state: PeerState, guidance: Guidance, params: Any, joining: Array
        ) -> PeerState:
            over_runs = jax.vmap(peer.rehearse, (0, 0, None, 0, None, None))
            return over_runs(state, guidance, params, runs.hyper, joining, clock)

        return over_peers(one_peer)(state, guidance, members.params, joining)

    def evaluate(state: PeerState, members: Members, runs: Runs, clock: Array) -> Score:
        del runs, clock
        over_runs = jax.vmap(peer.evaluate, (0, None))
        return jax.vmap(over_runs)(state, members.params)

    return Population(
        init=_spread(init, mesh, 2, _PEERS_FIRST),
        run_chunk=_spread(run_chunk, mesh, 4, (_PEERS_FIRST, _ROUNDS_FIRST)),
        rehearse=_spread(rehearse, mesh, 4, _PEERS_FIRST),
        evaluate=_spread(evaluate, mesh, 4, _PEERS_FIRST),
        messages=_spread(messages, mesh, 4, _PEERS_FIRST),
    )


_PEERS_FIRST = PartitionSpec(PEERS)
_ROUNDS_FIRST = PartitionSpec(None, PEERS)
_REPLICATED = PartitionSpec()


def _spread(function: Callable, mesh: Mesh | None, args: int, out_specs: Any) -> Any:
    """``function`` on each device's share of the peers, where there is a mesh."""
    if mesh is None:
        return function
    takes_state = (_PEERS_FIRST, _PEERS_FIRST, _REPLICATED, _REPLICATED)
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=takes_state if args == 4 else takes_state[1:3],
        out_specs=out_specs,
        check_vma=False,
    )
