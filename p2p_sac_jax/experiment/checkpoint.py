"""Checkpoints of the full state: ``DIR/checkpoints/<step>/``, written atomically.

A checkpoint is a flat dict of arrays named by their path in ``PeerState``, without
padding peers, so it can be read without this package and restored under another
layout, device count or number of processes. Its ``notes.json`` holds a digest of all
other files, the identity of the run, and where ``metrics.jsonl`` ended: what is damaged
is not used. Process 0 alone uses the folder.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.metrics import FileMark
from p2p_sac_jax.files import DamagedFile, load_json, save_json
from p2p_sac_jax.peer import PeerState

if TYPE_CHECKING:  # slow to import: not before a run needs it
    import orbax.checkpoint as ocp

_TRUST = "trust"  # the one leaf whose last axis is one of peers too
_NOTES = "notes.json"
_UNFINISHED = ".unfinished"
_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a checkpoint holds."""

    step: int
    state: PeerState  # [P, R, ...]
    rows: FileMark  # where ``metrics.jsonl`` ended


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        workdir: Path,
        peers: int,
        identity: str,
        *,
        reading: bool = False,
        log: Callable[[str], None] = _log.warning,
    ) -> None:
        """Opens the folder; leftovers of an interrupted save are removed.

        Args:
          workdir: folder of the run.
          peers: number of peers without padding.
          identity: of the run; see ``input_files.run_identity``.
          reading: change nothing in the folder, which a running process may use.
          log: takes a line for every checkpoint that cannot be used.

        Raises:
          ConfigError: the folder holds checkpoints of another run.
        """
        self._peers, self._identity, self._log = peers, identity, log
        self._folder = (workdir / "checkpoints").absolute()
        self._checkpointer = _checkpointer() if distributed.is_main() else None
        if self._checkpointer is not None and not reading:
            self._folder.mkdir(parents=True, exist_ok=True)
            for unfinished in self._folder.glob(f"*{_UNFINISHED}*"):
                shutil.rmtree(unfinished)
        distributed.broadcast_from_main(self._check_identity)

    def _check_identity(self) -> None:
        for step in self._steps():
            try:
                notes = load_json(self._folder / str(step) / _NOTES)
            except ConfigError:  # damaged: not used
                continue
            if notes["identity"] != self._identity:
                raise self._mismatch(step)

    def _mismatch(self, step: int) -> ConfigError:
        return ConfigError(
            f"checkpoint {step} in {str(self._folder)!r} does not hold the "
            "state of this configuration in this version of the package"
        )

    def _steps(self) -> list[int]:
        """Steps of all checkpoints, the newest first."""
        names = [path.name for path in self._folder.glob("[0-9]*")]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def save(self, step: int, state: PeerState, rows: FileMark) -> None:
        """Writes the state [P, R, ...] reached after ``step`` environment steps.

        It replaces a checkpoint of that step. All processes must call it.

        Args:
          step: environment steps.
          state: to save.
          rows: where ``metrics.jsonl`` ends.

        Raises:
          OSError: the write failed; the checkpoints before are unchanged.
        """
        arrays = {}
        for name, leaf in _named_arrays(state).items():
            whole = distributed.gather(leaf)
            if self._checkpointer is not None:
                arrays[name] = self._trimmed(name, whole)
        if self._checkpointer is None:
            return
        import orbax.checkpoint as ocp

        path = self._folder / str(step)
        draft = path.with_suffix(_UNFINISHED)
        try:
            self._checkpointer.save(
                draft, args=ocp.args.StandardSave(arrays), force=True
            )
        except (OSError, ValueError) as error:  # ValueError: of tensorstore
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise OSError(errno.EIO, reason[:200], str(path)) from error
        notes = {"files": _files_digest(draft), "identity": self._identity}
        save_json(draft / _NOTES, notes | {"rows": list(rows)})
        if path.exists():
            shutil.rmtree(path)
        draft.rename(path)

    def restore(
        self, like: PeerState, usable: Callable[[FileMark], bool] = lambda mark: True
    ) -> Restored | None:
        """The newest checkpoint that is whole, or None if there is none at all.

        Padding peers, which never act, keep their state in ``like``. All processes
        must call it.

        Args:
          like: a state [P, R, ...], whose shape and placement the result takes.
            ``jax.ShapeDtypeStruct``s without padding will do, then the result is on
            the default device.
          usable: whether the rows that belong to a checkpoint are there.

        Raises:
          ConfigError: the newest whole checkpoint has other arrays, or none is whole.
        """
        found = distributed.broadcast_from_main(lambda: self._newest(like, usable))
        if found is None:
            return None
        step, saved, rows = found

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

        return Restored(step, jax.tree_util.tree_map_with_path(merge, like), rows)

    def _newest(
        self, like: PeerState, usable: Callable[[FileMark], bool]
    ) -> tuple[int, dict[str, np.ndarray], FileMark] | None:
        """Step, arrays by name without padding, and mark, in process 0."""
        steps = self._steps()
        for step in steps:
            try:
                notes, arrays = self._read(step)
            except DamagedFile as error:
                self._log(str(error))
                continue
            mark = FileMark(*notes["rows"])
            if not usable(mark):
                self._log(f"metrics.jsonl is damaged before its rows of step {step}")
                continue
            expected = {n: _form(raw) for n, raw in _named_arrays(like).items()}
            found = {name: _form(array) for name, array in arrays.items()}
            for name, (kind, shape) in expected.items():
                shape = (self._peers, *shape[1:])
                if name == _TRUST:
                    shape = (*shape[:-1], self._peers)
                expected[name] = kind, shape
            if found != expected:
                raise self._mismatch(step)
            return step, arrays, mark
        if steps:
            raise ConfigError(
                f"{str(self._folder)!r} holds no checkpoint that can be used;"
                " --overwrite starts the run anew"
            )
        return None

    def _read(self, step: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The notes and arrays of a checkpoint.

        Raises:
          DamagedFile: they are not those that were saved.
        """
        import orbax.checkpoint as ocp

        if self._checkpointer is None:
            raise RuntimeError("only process 0 reads checkpoints")
        path = self._folder / str(step)
        try:
            notes = load_json(path / _NOTES)
            whole = _files_digest(path) == notes["files"]
        except (ConfigError, OSError):
            whole = False
        if not whole:
            raise DamagedFile(f"checkpoint {step} in {str(self._folder)!r} is damaged")
        return notes, self._checkpointer.restore(path, args=ocp.args.StandardRestore())

    def _trimmed(self, name: str, leaf: np.ndarray) -> np.ndarray:
        """Without padding peers, on the first axis and on the last one of trust."""
        leaf = leaf[: self._peers]
        # A copy: the checkpointer wants arrays that own their memory.
        return np.array(leaf[..., : self._peers] if name == _TRUST else leaf)

    def close(self) -> None:
        """Finishes pending work."""
        if self._checkpointer is not None:
            self._checkpointer.close()


def _files_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files but the notes."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name != _NOTES:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def _checkpointer() -> ocp.Checkpointer:
    """Writes and reads in process 0; it waits for no other process."""
    import orbax.checkpoint as ocp

    options = ocp.options.MultiprocessingOptions()
    if distributed.processes() > 1:
        options = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}
        )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _named_arrays(state: PeerState) -> dict[str, Any]:
    """Path and raw array, or its shape, of every leaf that is not empty."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    raws = {_name(path): _raw(leaf) for path, leaf in leaves}
    return {name: raw for name, raw in raws.items() if np.prod(raw.shape)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _form(array: Any) -> tuple[str, tuple[int, ...]]:
    return np.dtype(array.dtype).str, tuple(array.shape)


def _raw(leaf: Any) -> Any:
    """The key data of a key; shapes stay shapes."""
    if not _is_key(leaf):
        return leaf
    if isinstance(leaf, jax.Array):
        return jax.random.key_data(leaf)
    return jax.eval_shape(jax.random.key_data, leaf)
