"""Faults between peers: loss, delay, churn and a partition of the network.

A fault hits messages, never learners: a peer that has left the network goes on
learning alone. A fault that is switched off is left out of the program, so a
configuration without faults computes exactly what it would without this file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import FaultsConfig, TrainConfig
from p2p_sac_jax.simulation.wrappers import Wrapper, on_edges
from p2p_sac_jax.types import Array

NEVER = int(np.iinfo(np.int32).max)  # a step that no run reaches
_STREAM = 0xFA17  # apart from every other draw made from the seed


class FaultPlan(NamedTuple):
    """Which peers the faults hit and when; leaves [P] or, of one peer, []."""

    ids: Array  # int32, keys of the random draws
    delayed: Array  # 1 if the peer's messages arrive late
    leaves: Array  # int32 step at which it leaves the network
    rejoins: Array  # int32 step at which it comes back
    side: Array  # 0 or 1, its half while the network is split


def make_fault_plan(config: TrainConfig, padded: int) -> FaultPlan:
    """Chooses at random, by ``config.seed``, which peers the faults hit.

    Args:
      config: a validated configuration; ``faults`` and ``population.peers`` are read.
      padded: P, number of peers with the masked ones, which have no faults.

    Returns:
      NumPy leaves [P]. The choice among real peers does not depend on P.
    """
    faults, peers = config.faults, config.population.peers
    rng = np.random.default_rng([config.seed, _STREAM])
    # All three are drawn whether or not they are used: one fault moves no other.
    slow, gone, split = (rng.permutation(peers) for _ in range(3))

    def mark(chosen: np.ndarray) -> np.ndarray:
        marked = np.zeros(padded, np.float32)
        marked[chosen] = 1.0
        return marked

    leaving = mark(gone[: _headcount(faults.churn, peers)]) > 0
    rejoin = faults.rejoin_step or NEVER
    return FaultPlan(
        ids=np.arange(padded, dtype=np.int32),
        delayed=mark(slow[: _headcount(faults.stragglers, peers)]),
        leaves=np.where(leaving, faults.leave_step, NEVER).astype(np.int32),
        rejoins=np.where(leaving, rejoin, NEVER).astype(np.int32),
        side=mark(split[: peers // 2]),
    )


def online(plan: FaultPlan, clock: Array) -> Array:
    """1 where a peer is in the network, 0 while it is away.

    Args:
      plan: leaves [P] or [].
      clock: [] int32 steps since the start.

    Returns:
      float32 of the shape of the leaves.
    """
    away = (clock >= plan.leaves) & (clock < plan.rejoins)
    return jnp.where(away, 0.0, 1.0)


def lossy(
    config: FaultsConfig,
    receivers: FaultPlan,
    senders: FaultPlan,
    key: Array,
) -> Wrapper:
    """Removes the edges that loss, churn and partition cut; see ``surviving``."""
    return on_edges(
        lambda inputs: surviving(
            config, inputs.edges, receivers, senders, key, inputs.clock
        )
    )


def surviving(
    config: FaultsConfig,
    adjacency: Array,
    receivers: FaultPlan,
    senders: FaultPlan,
    key: Array,
    clock: Array,
) -> Array:
    """Edges over which a message arrives in this round.

    Args:
      config: which faults there are; static.
      adjacency: [I, J] non-negative.
      receivers: leaves [I].
      senders: leaves [J].
      key: of the run. A loss depends on it, on both ids and on the clock alone, so
        neither the order of peers nor padding changes it.
      clock: [] int32 steps since the start.

    Returns:
      [I, J]: every entry is that of ``adjacency`` or 0; ``adjacency`` itself where
      nothing is switched on.
    """
    edges = adjacency
    if config.loss > 0.0:
        lost = _uniform(key, receivers.ids, senders.ids, clock) < config.loss
        edges = jnp.where(lost, 0.0, edges)
    if config.churn > 0.0:
        present = online(receivers, clock)[:, None] * online(senders, clock)[None]
        edges = edges * present
    if config.heal_step > 0:
        split = (clock >= config.partition_step) & (clock < config.heal_step)
        apart = jnp.expand_dims(receivers.side, 1) != jnp.expand_dims(senders.side, 0)
        edges = jnp.where(split & apart, 0.0, edges)
    return edges


def _uniform(key: Array, receivers: Array, senders: Array, clock: Array) -> Array:
    """Draws [I, J] in [0, 1), one for each pair of ids and clock."""
    key = jax.random.fold_in(key, clock)

    def draw(receiver: Array, sender: Array) -> Array:
        pair = jax.random.fold_in(jax.random.fold_in(key, receiver), sender)
        return jax.random.uniform(pair)

    return jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(receivers, senders)


def empty_queue(message: Any, rounds: int) -> Any:
    """A queue of messages of zeros, which count for nothing: no count, none valid.

    Args:
      message: one sender's, arrays or ``jax.ShapeDtypeStruct``s.
      rounds: D, rounds a delayed message takes.

    Returns:
      Leaves [D, ...]; () for D = 0.
    """
    if not rounds:
        return ()
    return jax.tree.map(lambda x: jnp.zeros((rounds, *x.shape), x.dtype), message)


def delay(
    config: FaultsConfig, queue: Any, current: Any, delayed: Array
) -> tuple[Any, Any]:
    """Moves one sender's messages on by one round.

    Args:
      config: ``delay`` is read: D rounds; static.
      queue: the messages of the last D rounds, leaves [D, ...], oldest first.
      current: the message of this round.
      delayed: [] 1 if this sender's messages arrive late.

    Returns:
      The queue of the next round, and the message that arrives in this one: that of
      D rounds ago if ``delayed``, else ``current``.
    """
    if not config.delay:
        return queue, current
    carried = jax.tree.map(
        lambda old, new: jnp.where(delayed > 0, old[0], new), queue, current
    )
    queue = jax.tree.map(
        lambda old, new: jnp.concatenate([old[1:], new[None]]), queue, current
    )
    return queue, carried


def _headcount(share: float, peers: int) -> int:
    return round(share * peers)
