"""Checkpoints of the full state: ``DIR/checkpoints/<step>/``, written atomically.

A checkpoint is a flat dict of arrays named by their path in ``PeerState``, without
the peers that only pad, so it can be read without this package and restored under
another layout or device count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.peer import PeerState

_OPINIONS = "trust"  # the one leaf with an axis of other peers, its last


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir: Path, peers: int, *, reading: bool = False) -> None:
        """Opens the folder; leftovers of an interrupted save are removed.

        Args:
          workdir: folder of the run.
          peers: number of peers without padding.
          reading: change nothing in the folder, where a run may be at work.
        """
        self._peers = peers
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None,
                create=not reading,
                cleanup_tmp_directories=not reading,
                enable_async_checkpointing=False,
            ),
        )

    def save(self, step: int, state: PeerState) -> None:
        """Writes the state [P, R, ...] reached after ``step`` environment steps."""
        arrays = {
            name: self._trimmed(name, np.asarray(leaf))
            for name, leaf in _flatten(state).items()
        }
        self._manager.save(step, args=ocp.args.StandardSave(arrays))

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def load(self, step: int, shapes: PeerState) -> PeerState:
        """The saved state as host arrays [P, R, ...], without padding.

        Args:
          step: of a complete checkpoint.
          shapes: arrays or ``jax.ShapeDtypeStruct``s of a state, padded or not.

        Raises:
          ConfigError: the checkpoint has another structure or other shapes.
        """
        paths, treedef = jax.tree_util.tree_flatten_with_path(shapes)
        target = {}
        for path, leaf in paths:
            raw = _raw_shape(leaf)
            if np.prod(raw.shape):
                whole = np.broadcast_to(np.zeros((), raw.dtype), raw.shape)
                target[_name(path)] = self._trimmed(_name(path), whole)
        foreign = ConfigError(
            f"checkpoint {step} in {str(self._manager.directory)!r} does not hold the "
            "state of this configuration in this version of the package"
        )
        try:
            saved = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except ValueError as error:  # another structure
            raise foreign from error
        if any(saved[name].shape != array.shape for name, array in target.items()):
            raise foreign

        def leaf(path: Any, shape: Any) -> Any:
            if _name(path) not in saved:
                return np.zeros((self._peers, *shape.shape[1:]), shape.dtype)
            raw = saved[_name(path)]
            return jax.random.wrap_key_data(jnp.asarray(raw)) if _is_key(shape) else raw

        return jax.tree.unflatten(treedef, [leaf(*pair) for pair in paths])

    def restore(self, step: int, like: PeerState) -> PeerState:
        """The saved state in the shape and placement of ``like`` [P, R, ...].

        Padding peers, which never act, keep the state they have in ``like``.
        """

        def merge(path: Any, saved: Any, leaf: jax.Array) -> jax.Array:
            if _name(path) == _OPINIONS:  # nobody has one of a peer that only pads
                padding = leaf.shape[-1] - self._peers
                saved = np.pad(saved, ((0, 0), (0, 0), (0, padding)))
            if _is_key(leaf):
                saved, old = jax.random.key_data(saved), jax.random.key_data(leaf)
                data = jnp.asarray(np.concatenate([saved, old[self._peers :]]))
                return jax.device_put(jax.random.wrap_key_data(data), leaf.sharding)
            full = np.concatenate([saved, np.asarray(leaf)[self._peers :]])
            return jax.device_put(full, leaf.sharding)

        return jax.tree_util.tree_map_with_path(merge, self.load(step, like), like)

    def _trimmed(self, name: str, leaf: np.ndarray) -> np.ndarray:
        """Without the peers that only pad, as owners of a state and as others."""
        leaf = leaf[: self._peers]
        # A copy: the checkpointer wants arrays that own their memory.
        return np.array(leaf[..., : self._peers] if name == _OPINIONS else leaf)

    def close(self) -> None:
        """Finishes pending work."""
        self._manager.close()


def _flatten(state: PeerState) -> dict[str, jax.Array]:
    """Path and raw array of every leaf that holds anything."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        raw = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        if raw.size:
            leaves[_name(path)] = raw
    return leaves


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw_shape(leaf: Any) -> Any:
    return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
