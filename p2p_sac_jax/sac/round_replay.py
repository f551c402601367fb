"""What one round sees of a replay: rows drawn before it, rows written during it.

A replay may be far larger than everything else a peer owns, and a program that
hands it from one peer to the next copies it. So a round does not get it. Which
slots every step will sample is known in advance, for sizes are: their rows are
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

from p2p_sac_jax.sac.replay import Replay, ReplayBuffer, slots
from p2p_sac_jax.types import Array, Transition


class Presampled(NamedTuple):
    """Rows that one step will sample, ``[S]`` in front for a round."""

    # [M] int32 slot, counted from where the round writes first: below S it may be
    # overwritten in time, and of pooled rows those below S are the round's own
    offset: Array
    rows: Array  # [M, W] what the slot held before the round


class RoundRows(NamedTuple):
    """Rows written since the round began."""

    rows: Array  # [S, W]
    count: Array  # [] int32


class RoundReplay(NamedTuple):
    """Pure functions between one peer's replay and one of its rounds of S steps."""

    # (replay, keys [S], n, active []) -> Presampled [S, n], one row written a step
    presample: Callable[[Replay, Array, int, Array], Presampled]
    # the same from the replays of N peers, leaves [N, ...], and one's own new rows
    presample_pooled: Callable[[Replay, Array, int, Array], Presampled]
    init: Callable[[], RoundRows]
    insert: Callable[
        [RoundRows, Transition, Array], RoundRows
    ]  # as ``ReplayBuffer.insert``
    # (fresh, draws of one step) -> Transition [n], as ``ReplayBuffer.sample``
    read: Callable[[RoundRows, Presampled], Transition]
    commit: Callable[[Replay, RoundRows], Replay]  # what the round wrote goes in


def make_round_replay(buffer: ReplayBuffer, steps: int) -> RoundReplay:
    """Rounds of ``steps`` steps, at most the capacity of ``buffer``.

    A round either writes a row at every step (``active`` 1) or none at all.
    """

    def rows_written(active: Array) -> Array:
        """[S] rows of the round after each of its steps."""
        return (1 + jnp.arange(steps)) * jnp.asarray(active, bool)

    def presample(replay: Replay, keys: Array, n: int, active: Array) -> Presampled:
        sizes = jnp.clip(replay.size + rows_written(active), 1, buffer.capacity)
        studied = jax.vmap(slots, (0, None, 0))(keys, n, sizes)
        offset = (studied - replay.position) % buffer.capacity
        return Presampled(offset, replay.rows[studied])

    def presample_pooled(
        replays: Replay, keys: Array, n: int, active: Array
    ) -> Presampled:
        ends = jnp.cumsum(replays.size)  # of each peer's rows, laid end to end
        old = ends[-1]
        studied = jax.vmap(slots, (0, None, 0))(
            keys, n, jnp.maximum(old + rows_written(active), 1)
        )
        owner = jnp.searchsorted(ends, studied, side="right")
        owner = jnp.minimum(owner, len(ends) - 1)  # beyond the last: rows of the round
        slot = studied - (ends - replays.size)[owner]
        rows = replays.rows[owner, jnp.minimum(slot, buffer.capacity - 1)]
        # An old row stays what it was, whatever the round writes over.
        return Presampled(jnp.where(studied < old, steps, studied - old), rows)

    def init() -> RoundRows:
        rows = jnp.zeros((steps, buffer.width), jnp.float32)
        return RoundRows(rows, jnp.zeros((), jnp.int32))

    def insert(
        round_rows: RoundRows, transition: Transition, active: Array
    ) -> RoundRows:
        # An inactive peer's row is written too, but not counted, so never read.
        return RoundRows(
            rows=round_rows.rows.at[round_rows.count].set(buffer.pack(transition)),
            count=round_rows.count + jnp.asarray(active, bool),
        )

    def read(round_rows: RoundRows, presampled: Presampled) -> Transition:
        newest = round_rows.rows[jnp.minimum(presampled.offset, steps - 1)]
        is_fresh = jnp.expand_dims(presampled.offset < round_rows.count, -1)
        return buffer.unpack(jnp.where(is_fresh, newest, presampled.rows))

    def commit(replay: Replay, round_rows: RoundRows) -> Replay:
        order = jnp.arange(steps)
        written = (replay.position + order) % buffer.capacity
        counted = jnp.expand_dims(order < round_rows.count, -1)
        rows = jnp.where(counted, round_rows.rows, replay.rows[written])
        return Replay(
            rows=replay.rows.at[written].set(rows, unique_indices=True),
            position=(replay.position + round_rows.count) % buffer.capacity,
            size=jnp.minimum(replay.size + round_rows.count, buffer.capacity),
        )

    return RoundReplay(presample, presample_pooled, init, insert, read, commit)
