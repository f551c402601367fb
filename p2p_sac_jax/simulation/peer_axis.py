"""The axis of peers: batches on one device, shares of several devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh

from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.round_replay import Presampled
from p2p_sac_jax.types import Array

PEERS = "peers"  # name of the mesh axis


def make_mesh(devices: list[Any]) -> Mesh:
    """A one-axis mesh over ``devices``."""
    return jax.make_mesh(
        (len(devices),), (PEERS,), axis_types=(AxisType.Auto,), devices=devices
    )


def over_peers(map_batch_size: int, function: Callable) -> Callable:
    """Lifts a function of one peer's runs to all peers of this device."""
    if map_batch_size == 0:
        return jax.vmap(function)
    if map_batch_size == 1:
        return lambda *args: jax.lax.map(lambda x: function(*x), args)

    def in_batches(*args: Any) -> Any:
        # ``lax.map(batch_size=)`` cannot reshape leaves without elements, which the
        # statistics of a peer without a demand model have.
        batches = jax.tree.map(
            lambda x: x.reshape(len(x) // map_batch_size, map_batch_size, *x.shape[1:]),
            args,
        )
        done = jax.lax.map(lambda x: jax.vmap(function)(*x), batches)
        return jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), done)

    return in_batches


def gather(mesh: Mesh | None, tree: Any) -> Any:
    """The same leaves of *all* peers, [P, R, ...], by one all-gather."""
    if mesh is None:
        return tree
    _, unpack = ravel_pytree(jax.tree.map(lambda leaf: leaf[0, 0], tree))
    pack = jax.vmap(jax.vmap(lambda leaf: ravel_pytree(leaf)[0]))
    packed = jax.lax.all_gather(pack(tree), PEERS, tiled=True)
    return jax.vmap(jax.vmap(unpack))(packed)


def over_replays(presample: Callable, pooled: bool, mesh: Mesh | None) -> Callable:
    """Lifts ``presample`` to all peers and runs, from own or pooled replays.

    Returns:
      ``(replay [P, R], key [P, R], active [P], clock)`` to rows [P, R, S, ...]. Pooled
      replays cross the mesh whole, in one all-gather of each leaf.
    """
    if not pooled:
        return jax.vmap(jax.vmap(presample, (0, 0, None, None)), (0, 0, 0, None))
    from_all = jax.vmap(jax.vmap(presample, (1, 0, None, None)), (None, 0, 0, None))

    def gather_and_draw(replay: Replay, *others: Array) -> Presampled:
        if mesh is not None:
            whole = partial(jax.lax.all_gather, axis_name=PEERS, tiled=True)
            replay = jax.tree.map(whole, replay)
        return from_all(replay, *others)

    return gather_and_draw


def shard(
    function: Callable, mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable:
    """``function`` on each device's share of the peers, where there is a mesh."""
    if mesh is None:
        return function
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
