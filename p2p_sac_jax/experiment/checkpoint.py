"""Checkpoints of the full state: ``DIR/checkpoints/<step>/``, written atomically.

A checkpoint is a flat dict of arrays named by their path in ``PeerState``, without
padding peers, so it can be read without this package and restored under another
layout, device count or number of processes. Process 0 alone uses the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.peer import PeerState

if TYPE_CHECKING:  # slow to import: not before a run needs it
    import orbax.checkpoint as ocp

_TRUST = "trust"  # the one leaf whose last axis is one of peers too


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir: Path, peers: int, *, reading: bool = False) -> None:
        """Opens the folder; leftovers of an interrupted save are removed.

        Args:
          workdir: folder of the run.
          peers: number of peers without padding.
          reading: change nothing in the folder, which a running process may use.
        """
        self._peers = peers
        self._folder = (workdir / "checkpoints").absolute()
        self._manager = None
        if distributed.is_main():
            if not reading:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = _open(self._folder, reading)

    def save(self, step: int, state: PeerState) -> None:
        """Writes the state [P, R, ...] reached after ``step`` environment steps.

        All processes must call it.
        """
        arrays = {}
        for name, leaf in _named_arrays(state).items():
            whole = distributed.gather(leaf)
            if self._manager is not None:
                arrays[name] = self._trimmed(name, whole)
        if self._manager is not None:
            import orbax.checkpoint as ocp

            self._manager.save(step, args=ocp.args.StandardSave(arrays))

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None, in every process."""

        def newest() -> int | None:
            return None if self._manager is None else self._manager.latest_step()

        return distributed.broadcast_from_main(newest)

    def restore(self, step: int, like: PeerState) -> PeerState:
        """The saved state in the shape and placement of ``like`` [P, R, ...].

        Padding peers, which never act, keep their state in ``like``. All processes
        must call it.

        Args:
          step: of a complete checkpoint.
          like: a state. ``jax.ShapeDtypeStruct``s without padding will do, then the
            result is on the default device.

        Raises:
          ConfigError: the checkpoint has another structure or other shapes.
        """
        saved = distributed.broadcast_from_main(lambda: self._read(step, like))

        def merge(path: Any, leaf: Any) -> Any:
            own, raw = saved.get(_name(path)), _raw(leaf)
            if own is None:  # an empty array
                return leaf if isinstance(leaf, jax.Array) else jnp.zeros_like(leaf)
            if _name(path) == _TRUST:  # none in padding peers
                padding = raw.shape[-1] - self._peers
                own = np.pad(own, ((0, 0), (0, 0), (0, padding)))
            if raw.shape[0] > self._peers:
                own = np.concatenate([own, distributed.gather(raw)[self._peers :]])
            placed = jnp.asarray(own)
            if isinstance(raw, jax.Array):
                placed = distributed.put(own, raw.sharding)
            return jax.random.wrap_key_data(placed) if _is_key(leaf) else placed

        return jax.tree_util.tree_map_with_path(merge, like)

    def _read(self, step: int, like: PeerState) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint by name, without padding, in process 0."""
        import orbax.checkpoint as ocp

        target = {
            name: self._trimmed(name, np.broadcast_to(raw.dtype.type(), raw.shape))
            for name, raw in _named_arrays(like).items()
        }
        mismatch = ConfigError(
            f"checkpoint {step} in {str(self._folder)!r} does not hold the "
            "state of this configuration in this version of the package"
        )
        manager = self._manager
        if manager is None:
            raise RuntimeError("only process 0 reads checkpoints")
        try:
            saved = manager.restore(step, args=ocp.args.StandardRestore(target))
        except ValueError as error:  # another structure
            raise mismatch from error
        if any(saved[name].shape != array.shape for name, array in target.items()):
            raise mismatch
        return dict(saved)

    def _trimmed(self, name: str, leaf: np.ndarray) -> np.ndarray:
        """Without padding peers, on the first axis and on the last one of trust."""
        leaf = leaf[: self._peers]
        # A copy: the checkpointer wants arrays that own their memory.
        return np.array(leaf[..., : self._peers] if name == _TRUST else leaf)

    def close(self) -> None:
        """Finishes pending work."""
        if self._manager is not None:
            self._manager.close()


def _open(folder: Path, reading: bool) -> ocp.CheckpointManager:
    """The manager of a folder; it waits for no process other than 0."""
    import orbax.checkpoint as ocp

    options = ocp.options.MultiprocessingOptions()
    if distributed.processes() > 1:
        options = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}
        )
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=None,
            create=False,
            cleanup_tmp_directories=not reading,
            enable_async_checkpointing=False,
            multiprocessing_options=options,
        ),
    )


def _named_arrays(state: PeerState) -> dict[str, Any]:
    """Path and raw array, or its shape, of every leaf that is not empty."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    raws = {_name(path): _raw(leaf) for path, leaf in leaves}
    return {name: raw for name, raw in raws.items() if np.prod(raw.shape)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    """The key data of a key; shapes stay shapes."""
    if not _is_key(leaf):
        return leaf
    if isinstance(leaf, jax.Array):
        return jax.random.key_data(leaf)
    return jax.eval_shape(jax.random.key_data, leaf)
