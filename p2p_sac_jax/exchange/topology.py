"""Who receives from whom: adjacency matrices and what they imply for gossip.

Everything here is NumPy: a topology is settled before a program is traced.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import ConfigError

Matrix = np.ndarray[Any, np.dtype[np.floating[Any]]]


def complete(peers: int) -> Matrix:
    """Everyone receives from everyone else."""
    return 1.0 - np.eye(peers)


def ring(peers: int) -> Matrix:
    """Each peer receives from its two neighbours on a circle."""
    nodes = np.arange(peers)
    edges = np.zeros((peers, peers))
    edges[nodes, (nodes + 1) % peers] = 1.0
    edges[nodes, (nodes - 1) % peers] = 1.0
    np.fill_diagonal(edges, 0.0)
    return edges


def star(peers: int) -> Matrix:
    """Peer 0 exchanges with all others, who know only peer 0."""
    edges = np.zeros((peers, peers))
    edges[0, 1:] = edges[1:, 0] = 1.0
    return edges


def empty(peers: int) -> Matrix:
    """Nobody receives anything."""
    return np.zeros((peers, peers))


# A new topology is one function from the number of peers, and one entry here.
TOPOLOGIES: dict[str, Callable[[int], Matrix]] = {
    "complete": complete,
    "ring": ring,
    "star": star,
    "empty": empty,
}


def adjacency(name: str, peers: int, matrix: Matrix | None = None) -> Matrix:
    """Adjacency of a named topology.

    Args:
      name: a key of ``TOPOLOGIES``, or "matrix" for one given explicitly.
      peers: P, at least 1.
      matrix: [P, P] for name="matrix" (see ``load_matrix``), else unused.

    Returns:
      [P, P] float32 with zero diagonal; ``[i, j] > 0``: i receives from j.

    Raises:
      ConfigError: unknown name, no peers, or a matrix missing or not allowed.
    """
    if peers < 1:
        raise ConfigError(f"population.peers={peers} must be at least 1")
    if name == "matrix":
        if matrix is None:
            raise ConfigError(
                "exchange.matrix='' must name a .npy or .csv file where"
                " exchange.topology='matrix'"
            )
        return _checked(matrix, peers, "exchange.matrix")
    if name not in TOPOLOGIES:
        raise ConfigError(
            f"exchange.topology={name!r} must be one of:"
            f" {', '.join([*TOPOLOGIES, 'matrix'])}"
        )
    return TOPOLOGIES[name](peers).astype(np.float32)


def load_matrix(path: str, peers: int) -> Matrix:
    """Reads an explicit adjacency from a file.

    Args:
      path: a .npy array, or a .csv of comma-separated rows without a header.
      peers: P.

    Returns:
      [P, P] float32.

    Raises:
      ConfigError: the file is missing or unreadable, or the matrix is not [P, P]
        with finite entries in [0, 1] and a zero diagonal.
    """
    field = f"exchange.matrix={path!r}"
    if not path.endswith((".npy", ".csv")):
        raise ConfigError(f"{field} must name a .npy or .csv file")
    if not os.path.isfile(path):
        raise ConfigError(f"{field} is not a file; it must name a .npy or .csv file")
    try:
        if path.endswith(".npy"):
            matrix = np.load(path, allow_pickle=False)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an empty file is refused below
                matrix = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{field} cannot be read ({reason}); it must hold a {peers} x {peers}"
            " matrix of numbers"
        ) from error
    return _checked(matrix, peers, field)


def _checked(matrix: Any, peers: int, field: str) -> Matrix:
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


def metropolis_hastings(adjacency: Matrix) -> Matrix:
    """Symmetric doubly stochastic mixing matrix of an undirected graph.

    W_ij = 1/(1 + max(d_i, d_j)) on edges, the rest on the diagonal (Xiao, Boyd and
    Lall 2006, "Distributed average consensus with time-varying Metropolis weights").

    Args:
      adjacency: [P, P]; any positive entry is an edge.

    Returns:
      [P, P] float64.

    Raises:
      ValueError: an edge has no counterpart in the other direction.
    """
    edges = np.asarray(adjacency) > 0.0
    if (edges != edges.T).any():
        i, j = np.argwhere(edges != edges.T)[0]
        raise ValueError(
            f"adjacency must be symmetric; peers {i} and {j} exchange one way only"
        )
    degree = edges.sum(axis=1)
    mixing = edges / (1.0 + np.maximum.outer(degree, degree))
    return mixing + np.diag(1.0 - mixing.sum(axis=1))


def spectral_gap(W: Matrix) -> float:
    """1 - |λ₂| of a stochastic matrix: how fast gossip forgets disagreement.

    Args:
      W: [P, P], rows sum to 1.

    Returns:
      In [0, 1]; 0 where the graph is not connected, 1 for a single peer.
    """
    moduli = np.sort(np.abs(np.linalg.eigvals(np.asarray(W, np.float64))))
    if moduli.size < 2:
        return 1.0
    return float(np.clip(1.0 - moduli[-2], 0.0, 1.0))


class DegreeStatistics(NamedTuple):
    """How an adjacency spreads its edges."""

    edges: int  # directed
    in_min: int  # fewest senders any peer hears
    in_mean: float
    in_max: int
    out_min: int  # fewest receivers any peer reaches
    out_max: int
    isolated: int  # peers that neither hear nor reach anyone


def degree_statistics(adjacency: Matrix) -> DegreeStatistics:
    """Counts edges of an adjacency [P, P]; any positive entry is one."""
    edges = np.asarray(adjacency) > 0.0
    senders, receivers = edges.sum(axis=1), edges.sum(axis=0)
    return DegreeStatistics(
        edges=int(edges.sum()),
        in_min=int(senders.min()),
        in_mean=float(senders.mean()),
        in_max=int(senders.max()),
        out_min=int(receivers.min()),
        out_max=int(receivers.max()),
        isolated=int(((senders + receivers) == 0).sum()),
    )
