"""State on disk that survives a kill at any moment.

A state is written whole into a folder of its own, with a digest of every file, made
durable, and only then given its number by one rename, which is atomic. The last two
are kept: the newest is complete whatever happens, and the one before it stands in if
the disk fails it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError

KEPT = 2  # states in a folder
_STATES = "states"
_DIGESTS = "digests.json"  # in each state, of its other files


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
    for leftover in states.glob("*tmp*"):  # orbax writes beside its target, too
        shutil.rmtree(leftover, ignore_errors=True)
    known = _numbers(states)
    number = known[-1] + 1 if known else 0
    written = states / f"{uuid.uuid4().hex}.tmp"
    filled = {name: array for name, array in arrays.items() if array.size}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(written.absolute(), args=ocp.args.StandardSave(filled))
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


def load_state(folder: Path, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The newest state that can be read.

    Args:
      folder: that ``save_state`` wrote to.
      like: arrays of the names, shapes and types that are wanted.

    Raises:
      ConfigError: there is none, or it is the state of something else.
    """
    import orbax.checkpoint as ocp

    states = folder / _STATES
    numbers = _numbers(states)
    filled = {name: array for name, array in like.items() if array.size}
    shapes = {name: (array.shape, array.dtype) for name, array in filled.items()}
    for number in reversed(numbers):
        path = (states / f"{number:08d}").absolute()
        if not _is_sound(path):
            continue
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                saved = checkpointer.restore(
                    path, args=ocp.args.StandardRestore(filled)
                )
        except (KeyError, TypeError, ValueError):  # of another structure
            continue
        saved = {name: np.asarray(array) for name, array in saved.items()}
        if shapes == {name: (x.shape, x.dtype) for name, x in saved.items()}:
            return {**like, **saved}
    whose = "this agent, as it is configured" if numbers else "any agent"
    raise ConfigError(f"folder={str(folder)!r} must hold the state of {whose}")


def write_json(path: Path, content: Any) -> None:
    """Writes a small file that is whole and durable when this returns.

    Raises:
      OSError: the disk does not take it; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
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
        return digests == _digests(state)
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
