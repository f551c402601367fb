"""How one peer learns: real weeks, imagined prices, and the network's values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange import guidance as guide
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.learner.sac import SacMetrics, SacState
from p2p_sac_jax.peer.imagination import rehearsal_rows
from p2p_sac_jax.peer.rooms import REHEARSE, Rooms, stream
from p2p_sac_jax.types import Array, Guidance, Transition


def learn(
    rooms: Rooms,
    learner: SacState,
    rows: Transition,
    guidance: Guidance,
    hyper: Hyper,
    key: Array,
) -> tuple[SacState, SacMetrics]:
    """One gradient update for every ``batch_size`` of the rows.

    Args:
      rooms: the peer's functions.
      learner: state before.
      rows: [M, ...] transitions, M a multiple of the batch size.
      guidance: the network's values enter the bootstrap of the target.
      hyper: traced hyper-parameters.
      key: typed key.

    Returns:
      State after, and metrics with an axis of updates in front.
    """
    batch_size = rooms.config.sac.batch_size

    def bootstrap(value: Array, next_obs: Array) -> Array:
        return guide.bootstrap(guidance, jax.vmap(rooms.cell)(next_obs))(value)

    def update(
        state: SacState, data: tuple[Transition, Array]
    ) -> tuple[SacState, SacMetrics]:
        batch, number = data
        update_key = jax.random.fold_in(key, number)
        return rooms.sac.update(state, batch, bootstrap, hyper.sac, update_key)

    batches = jax.tree.map(lambda x: x.reshape(-1, batch_size, *x.shape[1:]), rows)
    numbers = jnp.arange(batches.reward.shape[0])
    return jax.lax.scan(update, learner, (batches, numbers))


def rehearse(
    rooms: Rooms,
    learner: SacState,
    belief: Any,
    guidance: Guidance,
    params: Any,
    hyper: Hyper,
    key: Array,
    clock: Array,
) -> SacState:
    """Trains a newcomer on imagined weeks alone, before its first real one.

    Args:
      rooms: the peer's functions; without a world model nothing is learned.
      learner: state before.
      belief: demand posterior under the network's prior.
      guidance: the network's advice.
      params: environment parameters.
      hyper: traced hyper-parameters.
      key: the peer's key; the stream ``REHEARSE`` is folded from it.
      clock: [] int32 step of the shared clock.

    Returns:
      State after ``memory.rehearsal_updates`` updates.
    """
    model = rooms.world_model
    if model is None:
        return learner
    row_key, update_key = jax.random.split(stream(key, REHEARSE, clock))
    count = rooms.config.memory.rehearsal_updates * rooms.config.sac.batch_size
    rows = rehearsal_rows(model, belief, count, params, row_key)
    learner, _ = learn(rooms, learner, rows, guidance, hyper, update_key)
    return learner
