"""What an adjacency implies: mixing weights, and the rate of convergence of gossip.

Everything here is NumPy, and any positive entry of an adjacency is an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.topology import Matrix

# Relative size at which what is left of a disagreement is rounding error.
_NOTHING = 1e-12


def mixing_weights(name: str, adjacency: Matrix) -> Matrix:
    """Edge weights of each neighbour for each receiver, before any message.

    Args:
      name: "uniform", all alike; or "metropolis", which damps a peer with many
        receivers: Metropolis–Hastings weights without the diagonal, relative to the
        largest of their row, so that the heaviest neighbour keeps its full weight.
      adjacency: [P, P]; entries other than 0 and 1 scale the weight.

    Returns:
      [P, P] float32, positive where ``adjacency`` is; itself for "uniform".

    Raises:
      ConfigError: the graph is directed and has no Metropolis–Hastings weights.
    """
    return MIXINGS[name](adjacency)


def _uniform(adjacency: Matrix) -> Matrix:
    return np.asarray(adjacency, np.float32)


def _metropolis(adjacency: Matrix) -> Matrix:
    weights = metropolis_hastings(adjacency)
    np.fill_diagonal(weights, 0.0)
    largest = weights.max(axis=1, keepdims=True)
    relative = weights / np.where(largest > 0.0, largest, 1.0)
    return (relative * adjacency).astype(np.float32)


# The choices of ``exchange.mixing``.
MIXINGS: dict[str, Callable[[Matrix], Matrix]] = {
    "uniform": _uniform,
    "metropolis": _metropolis,
}


def metropolis_hastings(adjacency: Matrix) -> Matrix:
    """Symmetric doubly stochastic mixing matrix of an undirected graph.

    W_ij = 1/(1 + max(d_i, d_j)) on edges, the rest on the diagonal (Xiao, Boyd and
    Lall 2006, "Distributed average consensus with time-varying Metropolis weights").

    Args:
      adjacency: [P, P].

    Returns:
      [P, P] float64.

    Raises:
      ConfigError: an edge has no counterpart in the other direction.
    """
    pair = _one_way(adjacency)
    if pair is not None:
        raise ConfigError(
            "exchange.mixing='metropolis' must be 'uniform' for a directed graph;"
            f" peers {pair[0]} and {pair[1]} exchange one way only"
        )
    edges = np.asarray(adjacency) > 0.0
    degree = edges.sum(axis=1)
    mixing = edges / (1.0 + np.maximum.outer(degree, degree))
    return mixing + np.diag(1.0 - mixing.sum(axis=1))


def uniform_mixing(adjacency: Matrix) -> Matrix:
    """Row-stochastic mixing matrix: each peer and its d senders weigh 1/(1 + d).

    Args:
      adjacency: [P, P], directed or not.

    Returns:
      [P, P] float64.
    """
    edges = (np.asarray(adjacency) > 0.0) + np.eye(len(adjacency))
    return edges / edges.sum(axis=1, keepdims=True)


def spectral_gap(W: Matrix) -> float:
    """1 - |λ₂| of a stochastic matrix: the rate at which gossip removes disagreement.

    Args:
      W: [P, P], rows sum to 1.

    Returns:
      In [0, 1]; 0 where no peer's messages reach all others, 1 for a single peer.
    """
    return cycle_gap([W])


def cycle_gap(rounds: Iterable[Matrix]) -> float:
    """Spectral gap, per round, of gossip that mixes differently in every round.

    1 - |λ₂(W_C ⋯ W_1)|^(1/C): the gap of a constant W that would forget as much over
    a cycle of C rounds.

    Args:
      rounds: C matrices [P, P] in the order in which they act, rows sum to 1.

    Returns:
      In [0, 1]; 1 where a cycle ends in exact consensus.
    """
    # Disagreement is x_i - x_0, on which W acts as B_ij = W_ij - W_0j: without the
    # eigenvalue of consensus, the product can be rescaled as it shrinks.
    product, log_scale, cycle = None, 0.0, 0
    for W in rounds:
        W = np.asarray(W, np.float64)
        disagreement = (W - W[:1])[1:, 1:]
        product = disagreement if product is None else disagreement @ product
        size = np.linalg.norm(product)
        if size < _NOTHING:
            return 1.0
        product, log_scale = product / size, log_scale + math.log(size)
        cycle += 1
    if product is None:
        raise ValueError("a cycle must have at least one round")
    radius = np.abs(np.linalg.eigvals(product)).max()
    if radius < _NOTHING:
        return 1.0
    kept = math.exp((log_scale + math.log(radius)) / cycle)
    return float(np.clip(1.0 - kept, 0.0, 1.0))


def describe(adjacency: Matrix, partners: np.ndarray | None = None) -> dict[str, Any]:
    """The shape of a network, for the record of a run.

    Args:
      adjacency: [P, P]; of a time-varying network all edges used in some round.
      partners: [P, C] the one sender of each round of a cycle, -1 for none
        (see ``schedules.partners``); None where all send in every round.

    Returns:
      ``edges`` (directed); senders of a peer, ``in_min``, ``in_mean``, ``in_max``;
      receivers of a peer, ``out_min``, ``out_max``; ``isolated``, peers without either;
      ``senders_per_round`` of a peer, on average; and ``spectral_gap`` of ``mixing``:
      "metropolis" for a graph of mutual edges, else "uniform". Of a time-varying
      network it is the gap per round over the whole cycle, each peer weighing its
      partner like itself; a schedule drawn at random has one cycle, the run.
    """
    edges = np.asarray(adjacency) > 0.0
    senders, receivers = edges.sum(axis=1), edges.sum(axis=0)
    if partners is None:
        senders_per_round = float(senders.mean())
        mutual = _one_way(adjacency) is None
        name = "metropolis" if mutual else "uniform"
        W = metropolis_hastings(adjacency) if mutual else uniform_mixing(adjacency)
        gap = spectral_gap(W)
    else:
        senders_per_round = float((partners >= 0).mean())
        everyone = np.arange(len(edges))[None]
        rounds = (edges & (chosen[:, None] == everyone) for chosen in partners.T)
        name, gap = "uniform", cycle_gap(map(uniform_mixing, rounds))
    return {
        "edges": int(edges.sum()),
        "in_min": int(senders.min()),
        "in_mean": float(senders.mean()),
        "in_max": int(senders.max()),
        "out_min": int(receivers.min()),
        "out_max": int(receivers.max()),
        "isolated": int(((senders + receivers) == 0).sum()),
        "senders_per_round": senders_per_round,
        "mixing": name,
        "spectral_gap": gap,
    }


def _one_way(adjacency: Matrix) -> tuple[int, int] | None:
    """The first pair of peers with an edge in one direction only."""
    edges = np.asarray(adjacency) > 0.0
    pairs = np.argwhere(edges != edges.T)
    return (int(pairs[0, 0]), int(pairs[0, 1])) if len(pairs) else None
