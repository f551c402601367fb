"""Replay: a ring of transitions, each packed into one row of floats.

One row is one gather and one scatter, whatever a transition is made of. A masked
insert acts on the row written, never on the buffer: a ``where`` over the buffer
would copy it every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array, Transition


class Replay(NamedTuple):
    """Contents of one peer's replay buffer."""

    rows: Array  # [capacity, W] packed transitions, W = 2 D + A + 2
    position: Array  # [] int32 row written next
    size: Array  # [] int32 rows filled


class ReplayBuffer(NamedTuple):
    """Pure functions of a ring buffer and its capacity in transitions."""

    init: Callable[[], Replay]
    # (replay, transition, active [] bool or 0/1) -> replay
    insert: Callable[[Replay, Transition, Array], Replay]
    # (replay, key, n) -> Transition [n, ...], uniform with replacement
    sample: Callable[[Replay, Array, int], Transition]
    pack: Callable[[Transition], Array]  # (transition) -> row [W]
    unpack: Callable[[Array], Transition]  # (rows [n, W]) -> Transition [n, ...]
    capacity: int
    width: int  # W


def slots(key: Array, n: int, size: Array) -> Array:
    """``[n]`` int32 in [0, size), each with probability 1/size to within 2⁻³².

    Half the random numbers, and a third of the program, of ``jax.random.randint``.
    """
    bits = jax.random.bits(key, (n,))
    return (bits % size.astype(jnp.uint32)).astype(jnp.int32)


def make_replay(capacity: int, obs_dim: int, action_dim: int) -> ReplayBuffer:
    """A ring of ``capacity`` transitions; the oldest is overwritten first.

    An empty buffer samples rows of zeros, so callers may sample first and mask
    the result.
    """
    width = 2 * obs_dim + action_dim + 2
    reward_at = obs_dim + action_dim

    def init() -> Replay:
        return Replay(
            rows=jnp.zeros((capacity, width), jnp.float32),
            position=jnp.zeros((), jnp.int32),
            size=jnp.zeros((), jnp.int32),
        )

    def pack(transition: Transition) -> Array:
        scalars = jnp.stack([transition.reward, transition.discount])
        parts = [transition.obs, transition.action, scalars, transition.next_obs]
        return jnp.concatenate(parts).astype(jnp.float32)

    def unpack(rows: Array) -> Transition:
        return Transition(
            obs=rows[:, :obs_dim],
            action=rows[:, obs_dim:reward_at],
            reward=rows[:, reward_at],
            discount=rows[:, reward_at + 1],
            next_obs=rows[:, reward_at + 2 :],
        )

    def insert(replay: Replay, transition: Transition, active: Array) -> Replay:
        active = jnp.asarray(active, bool)
        old = replay.rows[replay.position]
        row = jnp.where(active, pack(transition), old)
        written = active.astype(jnp.int32)
        return Replay(
            rows=replay.rows.at[replay.position].set(row),
            position=(replay.position + written) % capacity,
            size=jnp.minimum(replay.size + written, capacity),
        )

    def sample(replay: Replay, key: Array, n: int) -> Transition:
        return unpack(replay.rows[slots(key, n, jnp.maximum(replay.size, 1))])

    return ReplayBuffer(init, insert, sample, pack, unpack, capacity, width)
