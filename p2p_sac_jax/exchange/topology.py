"""Who receives from whom: adjacency matrices and schedules of named graphs.

Everything here is NumPy: a topology is fixed before a program is traced. A new
topology is one function and one entry of ``TOPOLOGIES``; one that varies over time
names its schedule there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.adjacency_file import Matrix, check_matrix

Partners = np.ndarray[Any, np.dtype[np.integer[Any]]]

NOBODY = -1  # a round without a sender

# Streams of the seed, apart from every other draw.
_GRAPH_STREAM, _SCHEDULE_STREAM = 0x6A4F, 0x3A7C4


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
    return np.kron(ring(rows), np.eye(columns)) + np.kron(np.eye(rows), ring(columns))


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


def one_peer_exponential(peers: int, rounds: int, seed: int) -> Partners:
    """Peer i receives from (i - 2^(t mod L)) mod P in round t, L = ceil(log2 P).

    With P = 2^L and weights 1/2, any L rounds in a row end in exact consensus
    (Assran et al. 2019, "Stochastic gradient push"; Ying et al. 2021, "Exponential
    graph is provably efficient for decentralized deep training").
    """
    del rounds, seed
    hops = exponential_hops(peers)
    if not hops:
        return np.full((peers, 1), NOBODY)
    return (np.arange(peers)[:, None] - np.array(hops)[None]) % peers


def random_matching(peers: int, rounds: int, seed: int) -> Partners:
    """Every round pairs all peers anew, uniformly at random; of an odd P one is left.

    Pairwise gossip (Boyd et al. 2006, "Randomized gossip algorithms"), all pairs
    at once.
    """
    rng = np.random.default_rng([seed, _SCHEDULE_STREAM])
    partners = np.full((peers, rounds), NOBODY)
    for t in range(rounds):
        order = rng.permutation(peers)
        one, other = order[: peers // 2], order[peers // 2 : 2 * (peers // 2)]
        partners[one, t], partners[other, t] = other, one
    return partners


class Topology(NamedTuple):
    """A named graph; of one that varies over time, with every edge of the schedule."""

    # (peers) -> [P, P]; (peers, degree, edge_chance, rng) where drawn at random
    edges: Callable[..., Matrix]
    drawn: bool = False
    # (peers, rounds, seed) -> [P, C], the one sender of each round
    schedule: Callable[[int, int, int], Partners] | None = None


TOPOLOGIES: dict[str, Topology] = {
    "complete": Topology(complete),
    "ring": Topology(ring),
    "torus": Topology(torus),
    "star": Topology(star),
    "line": Topology(line),
    "exponential": Topology(exponential),
    "empty": Topology(empty),
    "one_peer_exponential": Topology(exponential, schedule=one_peer_exponential),
    "random_matching": Topology(complete, schedule=random_matching),
    "k_regular": Topology(k_regular, drawn=True),
    "small_world": Topology(small_world, drawn=True),
    "erdos_renyi": Topology(erdos_renyi, drawn=True),
}
DYNAMIC = tuple(name for name, graph in TOPOLOGIES.items() if graph.schedule)


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
      name: a key of ``TOPOLOGIES``, or "matrix" for one given explicitly.
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
        return check_matrix(matrix, peers, "exchange.matrix")
    if name not in TOPOLOGIES:
        allowed = ", ".join([*TOPOLOGIES, "matrix"])
        raise ConfigError(f"exchange.topology={name!r} must be one of: {allowed}")
    graph = TOPOLOGIES[name]
    rng = np.random.default_rng([seed, _GRAPH_STREAM])
    drawn = (degree, edge_chance, rng) if graph.drawn else ()
    return graph.edges(peers, *drawn).astype(np.float32)


def partners(name: str, peers: int, rounds: int, seed: int = 0) -> Partners | None:
    """The sender of each peer, round by round.

    Args:
      name: a topology.
      peers: P, at least 1.
      rounds: number of rounds of the run, at least 1.
      seed: of the random schedules.

    Returns:
      [P, C] int32: in round t peer i receives from ``[i, t % C]`` alone, -1 for
      nobody. None where the topology is the same in every round.
    """
    graph = TOPOLOGIES.get(name)
    schedule = None if graph is None else graph.schedule
    return None if schedule is None else schedule(peers, rounds, seed).astype(np.int32)


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
