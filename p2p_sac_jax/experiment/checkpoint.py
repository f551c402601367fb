"""Checkpoints of the full state: ``DIR/checkpoints/<step>/``, written atomically.

A checkpoint is a flat dict of arrays named by their path in ``PeerState``, without
the peers that only pad, so it can be read without this package and restored under
another layout or device count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from p2p_sac_jax.peer import PeerState


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir: Path, peers: int) -> None:
        """Opens the folder; leftovers of an interrupted save are removed.

        Args:
          workdir: folder of the run.
          peers: number of peers without padding.
        """
        self._peers = peers
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,
            ),
        )

    def save(self, step: int, state: PeerState) -> None:
        """Writes the state [P, R, ...] reached after ``step`` environment steps."""
        arrays = {
            name: np.asarray(leaf)[: self._peers]
            for name, leaf in _flatten(state).items()
        }
        self._manager.save(step, args=ocp.args.StandardSave(arrays))

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, step: int, like: PeerState) -> PeerState:
        """The saved state in the shape and placement of ``like`` [P, R, ...].

        Padding peers, which never act, keep the state they have in ``like``.
        """
        wanted = _flatten(like)
        target = {
            name: np.zeros((self._peers, *leaf.shape[1:]), leaf.dtype)
            for name, leaf in wanted.items()
        }
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(target))

        def merge(path: Any, leaf: jax.Array) -> jax.Array:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if name not in saved:
                return leaf
            raw = wanted[name]
            full = np.concatenate([saved[name], np.asarray(raw)[self._peers :]])
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                full = jax.random.wrap_key_data(full)
            return jax.device_put(full, leaf.sharding)

        return jax.tree_util.tree_map_with_path(merge, like)

    def close(self) -> None:
        """Finishes pending work."""
        self._manager.close()


def _flatten(state: PeerState) -> dict[str, jax.Array]:
    """Path and raw array of every leaf that holds anything."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.size:
            leaves[jax.tree_util.keystr(path, simple=True, separator=".")] = leaf
    return leaves
