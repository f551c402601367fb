"""State on disk that survives a kill at any moment.

A state is written whole into a folder of its own, with a digest of every file, made
durable, and only then given its number by one rename, which is atomic. The last two
are kept: the newest is complete whatever happens, and the one before it stands in if
the disk fails it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError

KEPT = 2  # states in a folder
_STATES = "states"
_DIGESTS = "digests.json"  # in each state, of its other files
_SHAPES = "arrays.json"  # in each state, shape and type of its arrays by name

_log = logging.getLogger(__name__)


def save_state(folder: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """Writes one state; returns its number, one above the newest.

    Args:
      folder: made if it does not exist; one process at a time writes to it.
      arrays: by name; those without elements are left out.

    Raises:
      OSError: the disk does not take it; what was there before stays.
    """
    import orbax.checkpoint as ocp  # slow to import: not before it is needed

    states = folder / _STATES
    states.mkdir(parents=True, exist_ok=True)
    states.chmod(0o700)  # what is sold, and the key of the noise
    for leftover in states.glob("*tmp*"):  # orbax writes beside its target, too
        shutil.rmtree(leftover, ignore_errors=True)
    known = _numbers(states)
    number = known[-1] + 1 if known else 0
    written = states / f"{uuid.uuid4().hex}.tmp"
    filled = {name: array for name, array in arrays.items() if array.size}
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(written.absolute(), args=ocp.args.StandardSave(filled))
    except (RuntimeError, ValueError) as error:  # how the writer says it of a disk
        reason = str(error).splitlines()[0] if str(error) else "not written"
        raise OSError(reason) from error
    shapes = {name: [x.shape, x.dtype.str] for name, x in filled.items()}
    (written / _SHAPES).write_text(json.dumps(shapes) + "\n", encoding="utf-8")
    digests = json.dumps(_digests(written), indent=1)
    (written / _DIGESTS).write_text(digests + "\n", encoding="utf-8")
    for path in (*written.rglob("*"), written):
        _make_durable(path)
    written.rename(states / f"{number:08d}")
    _make_durable(states)
    for old in _numbers(states)[:-KEPT]:
        shutil.rmtree(states / f"{old:08d}", ignore_errors=True)
    return number


def has_state(folder: Path) -> bool:
    """Whether a complete state is in the folder."""
    return bool(_numbers(folder / _STATES))


def load_state(
    folder: Path, like: Mapping[str, np.ndarray], rows: str | None = None
) -> dict[str, np.ndarray]:
    """The newest state that can be read; it is logged if that is not the newest one.

    Args:
      folder: that ``save_state`` wrote to.
      like: arrays of the names, shapes and types that are wanted.
      rows: arrays whose names begin so may have another first axis.

    Raises:
      ConfigError: there is none, or it is the state of something else.
    """
    states = folder / _STATES
    numbers = _numbers(states)
    wanted = {name: _Form.of(array) for name, array in like.items() if array.size}
    for number in reversed(numbers):
        path = (states / f"{number:08d}").absolute()
        if not _is_sound(path):
            _log.warning("state %d is damaged: an older one has to do", number)
            continue
        found = _forms(path)
        if _alike(found, rows) == _alike(wanted, rows):
            return {**like, **_restore(path, found)}
        _log.warning("state %d is of something else: is there an older one?", number)
    whose = "this agent, as it is configured" if numbers else "any agent"
    raise ConfigError(f"folder={str(folder)!r} must hold the state of {whose}")


class _Form(NamedTuple):
    """What an array looks like."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.ndarray) -> _Form:
        return cls(array.shape, array.dtype.str)


def _forms(state: Path) -> dict[str, _Form]:
    """Of all arrays of a sound state, by name."""
    content = json.loads((state / _SHAPES).read_text(encoding="utf-8"))
    return {
        name: _Form(tuple(shape), dtype) for name, (shape, dtype) in content.items()
    }


def _alike(forms: Mapping[str, _Form], rows: str | None) -> dict[str, _Form]:
    """Forms as they have to agree: without the first axis where it is free."""
    return {
        name: form._replace(shape=form.shape[1:])
        if rows is not None and name.startswith(rows)
        else form
        for name, form in forms.items()
    }


def _restore(state: Path, forms: Mapping[str, _Form]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    like = {name: np.zeros(shape, dtype) for name, (shape, dtype) in forms.items()}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        saved = checkpointer.restore(state, args=ocp.args.StandardRestore(like))
    return {name: np.asarray(array) for name, array in saved.items()}


def write_json(path: Path, content: Any) -> None:
    """Writes a small file, its owner's alone, whole and durable when this returns.

    Raises:
      OSError: the disk does not take it; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # of an earlier kill, with rights of its own
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
    _make_durable(temporary)
    temporary.replace(path)
    _make_durable(path.parent)


def _numbers(states: Path) -> list[int]:
    """Numbers of the complete states, oldest first."""
    if not states.is_dir():
        return []
    return sorted(int(path.name) for path in states.iterdir() if path.name.isdigit())


def _digests(state: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path there."""
    return {
        path.relative_to(state).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.name != _DIGESTS
    }


def _is_sound(state: Path) -> bool:
    """Whether every file is there and as it was written."""
    try:
        digests = json.loads((state / _DIGESTS).read_text(encoding="utf-8"))
        return _SHAPES in digests and digests == _digests(state)
    except (OSError, ValueError):
        return False


def _make_durable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flatten(state: Any) -> dict[str, np.ndarray]:
    """Leaves of a pytree by path, as NumPy arrays of their own."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.array(leaf)
        for path, leaf in leaves
    }


def unflatten(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The pytree of the structure of ``like`` with these leaves."""
    leaves = [arrays[name] for name in flatten(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
