"""Paths as users write them, atomic writes, JSON that carries a digest."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from p2p_sac_jax.config import ConfigError

_DIGEST = "sha256"  # the last entry of an object, over all others


class DamagedFile(ConfigError):
    """A file does not hold what was written to it."""


def user_path(text: str | os.PathLike[str], field: str = "path") -> Path:
    """The path that a user means: ``~`` and ``~name`` are home folders.

    Args:
      text: as given; relative paths stay relative.
      field: what the user calls it, for messages.

    Raises:
      ConfigError: no such user, no home folder, or no possible path.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path  # may be created, or is refused where it is used
    except RuntimeError as error:
        raise ConfigError(f"{field}={str(text)!r}: {error}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{field}={str(text)!r}: {reason}") from error
    return path


def write_atomic(
    path: Path, content: bytes, mode: int = 0o666, draft: str = ""
) -> None:
    """Writes a file through a temporary one: it is whole or as it was, at any moment.

    Args:
      path: of the file; its folder exists.
      content: of the file, which is on disk afterwards.
      mode: of the file, before the process's umask.
      draft: name of the temporary file, where one process alone writes to the folder;
        by default it is one of this process.

    Raises:
      OSError: the write failed; the file is unchanged.
    """
    temporary = path.with_name(draft or f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # left by a kill
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def strict_json(content: Any) -> str:
    """JSON that every reader accepts: a number that is not finite becomes null."""
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    odd = isinstance(content, float) and not math.isfinite(content)
    return None if odd else content


def save_json(path: Path, content: Any, mode: int = 0o666) -> None:
    """Writes JSON atomically; an object carries a digest that ``load_json`` checks.

    Args:
      path: of the file; its folder exists.
      content: of the file.
      mode: of the file, before the process's umask.

    Raises:
      OSError: the write failed; the file is unchanged.
    """
    content = _finite(content)
    if isinstance(content, dict):
        content = content | {_DIGEST: _digest(content)}
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), mode)


def load_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file, without its digest.

    Raises:
      DamagedFile: it is not what ``save_json`` wrote. An object without a digest was
        written by hand, and passes.
      ConfigError: the file cannot be read.
    """
    try:
        loaded = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if not isinstance(loaded, dict):
        raise DamagedFile(f"{path} is damaged: it holds no JSON object")
    digest = loaded.pop(_DIGEST, None)
    if digest not in (None, _digest(loaded)):
        raise DamagedFile(f"{path} is damaged: its content has changed")
    return loaded


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
