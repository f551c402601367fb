"""How one peer learns: real weeks, imagined prices, and the network's values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange import guidance as guide
from p2p_sac_jax.exchange.estimation import USES
from p2p_sac_jax.hyper import SacHyper
from p2p_sac_jax.learner.replay import Replay
from p2p_sac_jax.learner.sac import SacMetrics, SacState
from p2p_sac_jax.learner.window import Draws
from p2p_sac_jax.peer.imagination import mix_imagined, rehearsal_rows
from p2p_sac_jax.peer.rooms import (
    REHEARSE,
    ROWS,
    Rooms,
    Situation,
    StepKeys,
    stream,
)
from p2p_sac_jax.types import Array, Transition


def learn(
    rooms: Rooms,
    learner: SacState,
    rows: Transition,
    situation: Situation,
    key: Array,
) -> tuple[SacState, SacMetrics]:
    """One gradient update for every ``batch_size`` of the rows.

    Args:
      rooms: the peer's functions.
      learner: state before.
      rows: [M, ...] transitions, M a multiple of the batch size.
      situation: of this round; the network's values enter the bootstrap. Where
        ``active`` is 0 nothing is learned.
      key: typed key.

    Returns:
      State after, and metrics with an axis of updates in front.
    """
    batch_size = rooms.config.sac.batch_size
    use = USES[rooms.config.exchange.estimation]
    gamma = situation.hyper.sac.discount

    def bootstrap(value: Array, next_obs: Array) -> Array:
        cells = jax.vmap(rooms.cell)(next_obs)
        return guide.bootstrap(situation.guidance, cells, use)(value)

    def shaped(batch: Transition) -> Array:
        cells, next_cells = jax.vmap(jax.vmap(rooms.cell))(
            jnp.stack([batch.obs, batch.next_obs])
        )
        return guide.shaped_reward(
            situation.guidance, batch.reward, cells, next_cells, batch.discount, gamma
        )

    def update(
        state: SacState, data: tuple[Transition, Array]
    ) -> tuple[SacState, SacMetrics]:
        batch, number = data
        if use == "shaping":
            batch = batch._replace(reward=shaped(batch))
        update_key = jax.random.fold_in(key, number)
        return rooms.sac.update(
            state,
            batch,
            bootstrap,
            situation.hyper.sac,
            update_key,
            situation.active,
        )

    batches = jax.tree.map(lambda x: x.reshape(-1, batch_size, *x.shape[1:]), rows)
    numbers = jnp.arange(batches.reward.shape[0])
    return jax.lax.scan(update, learner, (batches, numbers))


def annealed(hyper: SacHyper, steps: Array) -> SacHyper:
    """The learning rate after ``steps`` [] own steps, halved by ``anneal_steps``.

    Early a store must move fast on little; later it averages over many draws.
    """
    patience = jnp.maximum(hyper.anneal_steps, 1.0)
    left = jnp.where(hyper.anneal_steps > 0, patience / (patience + steps), 1.0)
    return hyper._replace(learning_rate=left * hyper.learning_rate)


def draw_ahead(
    rooms: Rooms, replay: Replay, key: Array, active: Array, clock: Array
) -> Draws:
    """The rows that each step of the round from ``clock`` on will study.

    Args:
      rooms: the peer's functions.
      replay: as it is before the round; with ``sac.replay=pooled`` those of all
        peers of the run, leaves [P, ...].
      key: the peer's key; the stream ``ROWS`` is folded from it.
      active: [] 1 if the peer takes part.
      clock: [] int32 first step of the round.

    Returns:
      Leaves [S, M, ...], S steps of M rows.
    """
    sac, steps = rooms.config.sac, rooms.config.exchange.interval
    clocks = clock + jnp.arange(steps)
    keys = jax.vmap(stream, (None, None, 0))(key, ROWS, clocks)
    count = sac.updates_per_step * sac.batch_size if rooms.learns else 0
    pooled = sac.replay == "pooled"
    draw = rooms.window.draw_pooled if pooled else rooms.window.draw
    return draw(replay, keys, count, active)


def study(
    rooms: Rooms,
    learner: SacState,
    rows: Transition,
    belief: Any,
    share: Array,
    situation: Situation,
    keys: StepKeys,
) -> tuple[SacState, SacMetrics]:
    """The updates of one step, on real weeks mixed with imagined prices.

    Args:
      rooms: the peer's functions.
      learner: state before.
      rows: [M, ...] real transitions for all of the step's updates, uniform.
      belief: demand posterior; not read without a world model.
      share: [] share of imagined rows.
      situation: of this round; nothing is learned where ``active`` is 0.
      keys: of this step; ``update`` and ``imagine`` are used.

    Returns:
      State after, and mean metrics; untouched, and zeros, where nobody learns.
    """
    if not rooms.learns:
        return learner, SacMetrics(*(jnp.zeros(()) for _ in SacMetrics._fields))
    if rooms.world_model is not None:
        rows = mix_imagined(
            rooms.world_model,
            belief,
            rows,
            share,
            rooms.config.sac.batch_size,
            situation.params,
            keys.imagine,
        )
    learner, losses = learn(rooms, learner, rows, situation, keys.update)
    return learner, jax.tree.map(jnp.mean, losses)


def rehearse(
    rooms: Rooms,
    learner: SacState,
    belief: Any,
    situation: Situation,
    key: Array,
    clock: Array,
) -> SacState:
    """Trains a newcomer on imagined weeks alone, before its first real one.

    Args:
      rooms: the peer's functions; without a world model or a policy nothing is
        learned.
      learner: state before.
      belief: demand posterior under the network's prior.
      situation: of this round; nothing is learned where ``active`` is 0.
      key: the peer's key; the stream ``REHEARSE`` is folded from it.
      clock: [] int32 step of the shared clock.

    Returns:
      State after ``memory.rehearsal_updates`` updates.
    """
    model = rooms.world_model
    if model is None or not rooms.learns:
        return learner
    row_key, update_key = jax.random.split(stream(key, REHEARSE, clock))
    count = rooms.config.memory.rehearsal_updates * rooms.config.sac.batch_size
    rows = rehearsal_rows(model, belief, count, situation.params, row_key)
    learner, _ = learn(rooms, learner, rows, situation, update_key)
    return learner
