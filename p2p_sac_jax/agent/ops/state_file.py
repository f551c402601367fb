"""State on disk that survives a kill at any moment.

A state is one safetensors file. It is written under a temporary name, made durable,
and then renamed, which is atomic. The last two states are kept: the newest file is
complete at any time, and the one before replaces it if the disk damages it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.files import write_atomic

KEPT = 2  # states in a folder
_SUFFIX = ".safetensors"
_DRAFT = "unfinished.tmp"  # one for all, so that kills leave one at most
_DIGEST = "sha256"  # in a file's metadata, over all names, types, shapes and values

_log = logging.getLogger(__name__)


def save_state(folder: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """Writes one state; returns its number, one above the newest.

    Args:
      folder: created if missing; one process at a time writes to it.
      arrays: by name.

    Raises:
      OSError: the write failed; the states before are unchanged.
    """
    numbers = _numbers(folder)
    number = numbers[-1] + 1 if numbers else 0
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = save(whole, metadata={_DIGEST: _digest(whole)})
    write_durable(_path(folder, number), content)
    for old in _numbers(folder)[:-KEPT]:
        _path(folder, old).unlink(missing_ok=True)
    return number


def has_state(folder: Path) -> bool:
    """Whether a state is in the folder."""
    return bool(_numbers(folder))


def load_state(
    folder: Path, like: Mapping[str, np.ndarray], rows: str | None = None
) -> dict[str, np.ndarray]:
    """The newest readable state; a warning is logged if a newer one is not readable.

    Args:
      folder: as given to ``save_state``.
      like: arrays of the names, shapes and types that are expected.
      rows: arrays whose names begin so may have another first axis.

    Raises:
      ConfigError: there is none, or none with the expected arrays.
    """
    numbers = _numbers(folder)
    expected = _forms(like, rows)
    for number in reversed(numbers):
        try:
            arrays = _read(_path(folder, number))
        except (OSError, SafetensorError, ValueError) as error:
            reason = str(error)
        else:
            if _forms(arrays, rows) == expected:
                return arrays
            reason = "its arrays are those of another agent or configuration"
        data = {"state": number, "reason": reason}
        _log.warning("state not used", extra={"data": data})
    whose = "this agent, as it is configured" if numbers else "an agent"
    raise ConfigError(f"folder={str(folder)!r} must hold a state of {whose}")


def write_durable(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a file, by default for its owner alone, atomically and durably.

    Raises:
      OSError: the write failed; the file is unchanged.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, content, mode, draft=_DRAFT)


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file.

    Raises:
      SafetensorError: the file is torn or of another format.
      ValueError: the content is not the one that was written.
    """
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = (file.metadata() or {}).get(_DIGEST)
    if digest != _digest(arrays):
        raise ValueError("it is damaged")
    return arrays


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _forms(
    arrays: Mapping[str, np.ndarray], rows: str | None
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape by name, without the first axis where that is free."""
    free = {name for name in arrays if rows is not None and name.startswith(rows)}
    return {
        name: (array.dtype.str, array.shape[int(name in free) :])
        for name, array in arrays.items()
    }


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_SUFFIX}"


def _numbers(folder: Path) -> list[int]:
    """Numbers of the states, oldest first."""
    stems = (path.stem for path in folder.glob(f"*{_SUFFIX}"))
    return sorted(int(stem) for stem in stems if stem.isdigit())
