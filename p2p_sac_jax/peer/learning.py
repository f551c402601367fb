"""Gradient updates of one peer: real rows, model rollouts, the network's values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange import guidance as guide
from p2p_sac_jax.hyper import SacHyper
from p2p_sac_jax.peer.context import (
    PRETRAIN,
    ROWS,
    PeerComponents,
    RoundContext,
    stream,
)
from p2p_sac_jax.peer.model_rollouts import pretrain_rows
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.round_replay import Presampled
from p2p_sac_jax.sac.sac import SacMetrics, SacState
from p2p_sac_jax.tree import half_life_decay
from p2p_sac_jax.types import Array, Transition


def presample(
    components: PeerComponents, replay: Replay, key: Array, active: Array, clock: Array
) -> Presampled:
    """The replay rows that each step of the round from ``clock`` on will read.

    Args:
      components: the peer's functions.
      replay: as it is before the round; with ``sac.replay=pooled`` those of all
        peers of the run, leaves [P, ...].
      key: the peer's key; the stream ``ROWS`` is folded from it.
      active: [] 1 if the peer takes part.
      clock: [] int32 first step of the round.

    Returns:
      Leaves [S, M, ...], S steps of M rows.
    """
    clocks = clock + jnp.arange(components.interval)
    keys = jax.vmap(stream, (None, None, 0))(key, ROWS, clocks)
    sample = components.round_replay.presample
    if components.pooled_replay:
        sample = components.round_replay.presample_pooled
    return sample(replay, keys, components.rows_per_step, active)


def update_epochs(
    components: PeerComponents,
    learner: SacState,
    rows: Transition,
    context: RoundContext,
    key: Array,
) -> tuple[SacState, SacMetrics]:
    """One gradient update for every ``batch_size`` of the rows.

    Args:
      components: the peer's functions.
      learner: state before.
      rows: [M, ...] transitions, M a multiple of the batch size.
      context: of this round; the network's values enter the bootstrap. Where
        ``active`` is 0 nothing is learned.
      key: typed key.

    Returns:
      State after, and metrics with an axis of updates in front.
    """
    use, gamma = components.value_use, context.hyper.sac.discount

    def bootstrap(value: Array, next_obs: Array) -> Array:
        cells = jax.vmap(components.cell)(next_obs)
        return guide.bootstrap(context.guidance, cells, use)(value)

    def shaped(batch: Transition) -> Array:
        cells, next_cells = jax.vmap(jax.vmap(components.cell))(
            jnp.stack([batch.obs, batch.next_obs])
        )
        return guide.shaped_reward(
            context.guidance, batch.reward, cells, next_cells, batch.discount, gamma
        )

    def update(
        state: SacState, data: tuple[Transition, Array]
    ) -> tuple[SacState, SacMetrics]:
        batch, number = data
        if use == "shaping":
            batch = batch._replace(reward=shaped(batch))
        update_key = jax.random.fold_in(key, number)
        return components.sac.update(
            state, batch, bootstrap, context.hyper.sac, update_key, context.active
        )

    batches = jax.tree.map(
        lambda x: x.reshape(-1, components.batch_size, *x.shape[1:]), rows
    )
    numbers = jnp.arange(batches.reward.shape[0])
    return jax.lax.scan(update, learner, (batches, numbers))


def annealed(hyper: SacHyper, steps: Array) -> SacHyper:
    """The hyper-parameters with the learning rate of ``steps`` [] own steps.

    A high rate serves the few first weeks, a low one averages over later ones.
    """
    left = half_life_decay(hyper.learning_rate_half_life, steps)
    return hyper._replace(learning_rate=left * hyper.learning_rate)


def pretrain_on_model(
    components: PeerComponents,
    learner: SacState,
    belief: Any,
    context: RoundContext,
    key: Array,
    clock: Array,
) -> SacState:
    """Trains a newcomer on model rollouts alone, before its first real step.

    Args:
      components: the peer's functions; without a model of demand or without a policy
        nothing is learned.
      learner: state before.
      belief: demand posterior under the network's prior.
      context: of this round; nothing is learned where ``active`` is 0.
      key: the peer's key; the stream ``PRETRAIN`` is folded from it.
      clock: [] int32 step of the shared clock.

    Returns:
      State after ``memory.pretrain_updates`` updates.
    """
    if not components.learns:
        return learner
    market = components.believed_market(belief, context.params)
    if market is None:
        return learner
    row_key, update_key = jax.random.split(stream(key, PRETRAIN, clock))
    count = components.pretrain_updates * components.batch_size
    rows = pretrain_rows(market, count, row_key)
    learner, _ = update_epochs(components, learner, rows, context, update_key)
    return learner
