"""Adjacency matrices read from files."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.files import user_path

Matrix = np.ndarray[Any, np.dtype[np.floating[Any]]]


def load_matrix(path: str, peers: int, content: bytes | None = None) -> Matrix:
    """Reads an explicit adjacency from a file.

    Args:
      path: a .npy array, or a .csv of comma-separated rows without a header.
      peers: P.
      content: of the file, where it has been read; None reads it.

    Returns:
      [P, P] float32.

    Raises:
      ConfigError: the file is missing or unreadable, or the matrix is not [P, P]
        with finite entries in [0, 1] and a zero diagonal.
    """
    field = f"exchange.matrix={path!r}"
    if not path.endswith((".npy", ".csv")):
        raise ConfigError(f"{field} must name a .npy or .csv file")
    file = user_path(path, "exchange.matrix")
    if content is None and not file.is_file():
        raise ConfigError(f"{field} is not a file; it must name a .npy or .csv file")
    try:
        stream = io.BytesIO(file.read_bytes() if content is None else content)
        if path.endswith(".npy"):
            matrix = np.load(stream, allow_pickle=False)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an empty file is refused below
                matrix = np.loadtxt(stream, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{field} cannot be read ({reason}); it must hold a {peers} x {peers}"
            " matrix of numbers"
        ) from error
    return check_matrix(matrix, peers, field)


def check_matrix(matrix: Any, peers: int, field: str) -> Matrix:
    """[P, P] float32 copy of an explicit matrix, or a one-line ``ConfigError``."""
    shape = np.shape(matrix)
    if shape != (peers, peers):
        found = " x ".join(str(size) for size in shape) or "a scalar"
        raise ConfigError(
            f"{field} must be {peers} x {peers}, one row per peer; found {found}"
        )
    if np.asarray(matrix).dtype.kind not in "biuf":
        raise ConfigError(f"{field} must hold real numbers")
    edges = np.array(matrix, np.float32)
    allowed = np.isfinite(edges) & (edges >= 0.0) & (edges <= 1.0)
    if not allowed.all():
        i, j = np.argwhere(~allowed)[0]
        raise ConfigError(
            f"{field} entry [{i}, {j}] = {edges[i, j]:g} must be finite and in [0, 1]"
        )
    if np.diagonal(edges).any():
        i = int(np.flatnonzero(np.diagonal(edges))[0])
        raise ConfigError(
            f"{field} entry [{i}, {i}] = {edges[i, i]:g} must be 0: a peer does not"
            " receive from itself"
        )
    return edges
