"""What one round sees of a replay: rows drawn before it, rows written during it.

A replay may be far larger than everything else a peer owns, and a program that
hands it from one peer to the next copies it. So a round does not get it. Which
slots every step will study is known in advance, for sizes are: their rows are
drawn before the round begins, and what a step then finds overwritten since, it
reads from the few rows that the round itself wrote. The outcome is the same, bit
for bit, as inserting into the replay and sampling from it in turn. Where replays are
pooled, what others write in a round is studied from the next round on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.learner.replay import Replay, ReplayBuffer, slots
from p2p_sac_jax.types import Array, Transition


class Draws(NamedTuple):
    """Rows that one step will study, ``[S]`` in front for a round."""

    # [M] int32 slot, counted from where the round writes first: below S it may be
    # overwritten in time, and of pooled rows those below S are the round's own
    offset: Array
    rows: Array  # [M, W] what the slot held before the round


class Fresh(NamedTuple):
    """Rows written since the round began."""

    rows: Array  # [S, W]
    count: Array  # [] int32


class Window(NamedTuple):
    """Pure functions between one peer's replay and one of its rounds of S steps."""

    # (replay, keys [S], n, active []) -> Draws [S, n], one row written a step
    draw: Callable[[Replay, Array, int, Array], Draws]
    # the same from the replays of N peers, leaves [N, ...], and one's own new rows
    draw_pooled: Callable[[Replay, Array, int, Array], Draws]
    init: Callable[[], Fresh]
    insert: Callable[[Fresh, Transition, Array], Fresh]  # as ``ReplayBuffer.insert``
    # (fresh, draws of one step) -> Transition [n], as ``ReplayBuffer.sample``
    read: Callable[[Fresh, Draws], Transition]
    commit: Callable[[Replay, Fresh], Replay]  # what the round wrote goes in


def make_window(buffer: ReplayBuffer, steps: int) -> Window:
    """Rounds of ``steps`` steps, at most the capacity of ``buffer``.

    A round either writes a row at every step (``active`` 1) or none at all.

    Raises:
      ConfigError: ``buffer`` holds fewer rows than a round writes.
    """
    if buffer.capacity < steps:
        raise ConfigError(
            f"replay capacity={buffer.capacity} must be at least exchange.interval="
            f"{steps}"
        )

    def draw(replay: Replay, keys: Array, n: int, active: Array) -> Draws:
        written = (1 + jnp.arange(steps)) * jnp.asarray(active, bool)
        sizes = jnp.clip(replay.size + written, 1, buffer.capacity)
        studied = jax.vmap(slots, (0, None, 0))(keys, n, sizes)
        offset = (studied - replay.position) % buffer.capacity
        return Draws(offset, replay.rows[studied])

    def draw_pooled(replays: Replay, keys: Array, n: int, active: Array) -> Draws:
        written = (1 + jnp.arange(steps)) * jnp.asarray(active, bool)
        ends = jnp.cumsum(replays.size)  # of each peer's rows, laid end to end
        old = ends[-1]
        studied = jax.vmap(slots, (0, None, 0))(keys, n, jnp.maximum(old + written, 1))
        owner = jnp.searchsorted(ends, studied, side="right")
        owner = jnp.minimum(owner, len(ends) - 1)  # beyond the last: rows of the round
        slot = studied - (ends - replays.size)[owner]
        rows = replays.rows[owner, jnp.minimum(slot, buffer.capacity - 1)]
        # An old row stays what it was, whatever the round writes over.
        return Draws(jnp.where(studied < old, steps, studied - old), rows)

    def init() -> Fresh:
        rows = jnp.zeros((steps, buffer.width), jnp.float32)
        return Fresh(rows, jnp.zeros((), jnp.int32))

    def insert(fresh: Fresh, transition: Transition, active: Array) -> Fresh:
        # An inactive peer's row is written too, but not counted, so never read.
        return Fresh(
            rows=fresh.rows.at[fresh.count].set(buffer.pack(transition)),
            count=fresh.count + jnp.asarray(active, bool),
        )

    def read(fresh: Fresh, draws: Draws) -> Transition:
        newest = fresh.rows[jnp.minimum(draws.offset, steps - 1)]
        is_fresh = jnp.expand_dims(draws.offset < fresh.count, -1)
        return buffer.unpack(jnp.where(is_fresh, newest, draws.rows))

    def commit(replay: Replay, fresh: Fresh) -> Replay:
        order = jnp.arange(steps)
        written = (replay.position + order) % buffer.capacity
        counted = jnp.expand_dims(order < fresh.count, -1)
        rows = jnp.where(counted, fresh.rows, replay.rows[written])
        return Replay(
            rows=replay.rows.at[written].set(rows, unique_indices=True),
            position=(replay.position + fresh.count) % buffer.capacity,
            size=jnp.minimum(replay.size + fresh.count, buffer.capacity),
        )

    return Window(draw, draw_pooled, init, insert, read, commit)
