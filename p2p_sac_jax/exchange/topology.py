"""Who receives from whom: adjacency matrices of named graphs and of files.

Everything here is NumPy: a topology is settled before a program is traced.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError

Matrix = np.ndarray[Any, np.dtype[np.floating[Any]]]

_STREAM = 0x6A4F  # apart from every other draw made from the seed


def complete(peers: int) -> Matrix:
    """Everyone receives from everyone else."""
    return 1.0 - np.eye(peers)


def ring(peers: int) -> Matrix:
    """Each peer receives from its two neighbours on a circle."""
    return _circulant(peers, [1, -1])


def torus(peers: int) -> Matrix:
    """Each peer receives from its four neighbours on a grid without borders.

    The grid is the one of P cells, row by row, that is nearest to a square. Sides of
    two wrap onto the same neighbour, and of a prime P nothing is left but a ring.
    """
    rows = max(n for n in range(1, math.isqrt(peers) + 1) if peers % n == 0)
    columns = peers // rows
    edges = np.kron(ring(rows), np.eye(columns)) + np.kron(np.eye(rows), ring(columns))
    return edges


def star(peers: int) -> Matrix:
    """Peer 0 exchanges with all others, who know only peer 0."""
    edges = np.zeros((peers, peers))
    edges[0, 1:] = edges[1:, 0] = 1.0
    return edges


def line(peers: int) -> Matrix:
    """Each peer receives from those next to it."""
    return np.eye(peers, k=1) + np.eye(peers, k=-1)


def exponential(peers: int) -> Matrix:
    """Peer i receives from (i - 2^m) mod P for all 2^m < P; directed.

    The static exponential graph of Assran et al. 2019, "Stochastic gradient push".
    """
    return _circulant(peers, exponential_hops(peers))


def exponential_hops(peers: int) -> list[int]:
    """The ceil(log2 P) powers of two below P."""
    return [2**m for m in range((peers - 1).bit_length())]


def empty(peers: int) -> Matrix:
    """Nobody receives anything."""
    return np.zeros((peers, peers))


def k_regular(
    peers: int, degree: int, edge_chance: float, rng: np.random.Generator
) -> Matrix:
    """A random graph in which each peer exchanges with ``degree`` others.

    Open ends of edges are joined at random, and all is begun anew where the last of
    them do not fit (Steger and Wormald 1999, "Generating random regular graphs
    quickly"). It need not be connected; with a degree of 3 and more it mostly is.
    """
    del edge_chance
    _check_degree(degree, peers)
    if peers * degree % 2:
        reason = f"must be even where population.peers={peers} is odd"
        raise ConfigError(f"exchange.degree={degree} {reason}")
    if 2 * degree >= peers:  # dense graphs seldom fit; what they leave out does
        left_out = _join_open_ends(peers, peers - 1 - degree, rng)
        return complete(peers) - left_out
    return _join_open_ends(peers, degree, rng)


def small_world(
    peers: int, degree: int, edge_chance: float, rng: np.random.Generator
) -> Matrix:
    """A ring of ``degree`` nearest neighbours, some of its edges rewired.

    Each edge moves its far end, with chance ``edge_chance``, to a peer that is not
    yet a neighbour (Watts and Strogatz 1998, "Collective dynamics of 'small-world'
    networks").
    """
    _check_degree(degree, peers)
    if degree % 2:
        reason = "must be even for exchange.topology='small_world'"
        raise ConfigError(f"exchange.degree={degree} {reason}")
    hops = range(1, degree // 2 + 1)
    edges = _circulant(peers, [*hops, *(-hop for hop in hops)])
    for hop in hops:
        for near in range(peers):
            far = (near + hop) % peers
            free = np.flatnonzero(edges[near] == 0.0)
            free = free[free != near]
            if rng.random() < edge_chance and free.size:
                edges[near, far] = edges[far, near] = 0.0
                far = rng.choice(free)
                edges[near, far] = edges[far, near] = 1.0
    return edges


def erdos_renyi(
    peers: int, degree: int, edge_chance: float, rng: np.random.Generator
) -> Matrix:
    """Each pair exchanges with chance ``edge_chance``, independently (Gilbert 1959)."""
    del degree
    drawn = np.triu(rng.random((peers, peers)) < edge_chance, k=1)
    return (drawn | drawn.T).astype(np.float64)


# A new topology is one function from the number of peers, and one entry here. Of
# those that vary over time it is the support: whoever is heard in some round.
TOPOLOGIES: dict[str, Callable[[int], Matrix]] = {
    "complete": complete,
    "ring": ring,
    "torus": torus,
    "star": star,
    "line": line,
    "exponential": exponential,
    "empty": empty,
    "one_peer_exponential": exponential,
    "random_matching": complete,
}

# The same for graphs drawn at random: (peers, degree, edge_chance, rng) -> [P, P].
RANDOM_TOPOLOGIES: dict[
    str, Callable[[int, int, float, np.random.Generator], Matrix]
] = {
    "k_regular": k_regular,
    "small_world": small_world,
    "erdos_renyi": erdos_renyi,
}


def adjacency(
    name: str,
    peers: int,
    matrix: Matrix | None = None,
    *,
    degree: int = 4,
    edge_chance: float = 0.3,
    seed: int = 0,
) -> Matrix:
    """Adjacency of a named topology.

    Args:
      name: a key of ``TOPOLOGIES`` or ``RANDOM_TOPOLOGIES``, or "matrix" for one
        given explicitly.
      peers: P, at least 1.
      matrix: [P, P] for name="matrix" (see ``load_matrix``), else unused.
      degree: neighbours of a peer in "k_regular" and, on average, "small_world".
      edge_chance: of an edge in "erdos_renyi", of rewiring in "small_world".
      seed: of the random graphs.

    Returns:
      [P, P] float32 with zero diagonal; ``[i, j] > 0``: i receives from j.

    Raises:
      ConfigError: unknown name, no peers, a degree that so many peers cannot have,
        or a matrix missing or not allowed.
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
    if name in TOPOLOGIES:
        edges = TOPOLOGIES[name](peers)
    elif name in RANDOM_TOPOLOGIES:
        rng = np.random.default_rng([seed, _STREAM])
        edges = RANDOM_TOPOLOGIES[name](peers, degree, edge_chance, rng)
    else:
        raise ConfigError(
            f"exchange.topology={name!r} must be one of:"
            f" {', '.join([*TOPOLOGIES, *RANDOM_TOPOLOGIES, 'matrix'])}"
        )
    return edges.astype(np.float32)


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


def _circulant(peers: int, hops: list[int]) -> Matrix:
    """Each peer i receives from (i - hop) mod P, for every hop, but not itself."""
    nodes = np.arange(peers)
    edges = np.zeros((peers, peers))
    for hop in hops:
        edges[nodes, (nodes - hop) % peers] = 1.0
    np.fill_diagonal(edges, 0.0)
    return edges


def _join_open_ends(peers: int, degree: int, rng: np.random.Generator) -> Matrix:
    """Random graph [P, P] with ``degree`` edges at each peer, degree < P/2."""
    while True:
        edges, left = np.zeros((peers, peers)), np.full(peers, degree)
        while left.any():
            # A pair is as likely as it has pairs of open ends.
            fits = np.triu(np.outer(left, left) * (edges == 0.0), k=1).ravel()
            if not fits.any():
                break
            i, j = divmod(int(rng.choice(fits.size, p=fits / fits.sum())), peers)
            edges[i, j] = edges[j, i] = 1.0
            left[[i, j]] -= 1
        else:
            return edges


def _check_degree(degree: int, peers: int) -> None:
    if degree >= peers:
        allowed = f"must be below population.peers={peers}"
        raise ConfigError(f"exchange.degree={degree} {allowed}")
