"""Time-varying topologies: the one sender each peer hears in each round.

A schedule is settled before a program is traced; only ``edges_of_round`` is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.exchange.topology import exponential_hops
from p2p_sac_jax.types import Array

Partners = np.ndarray[Any, np.dtype[np.integer[Any]]]

NOBODY = -1
_STREAM = 0x3A7C4  # apart from every other draw made from the seed


def one_peer_exponential(peers: int, rounds: int, seed: int) -> Partners:
    """Peer i hears (i - 2^(t mod L)) mod P in round t, L = ceil(log2 P).

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
    rng = np.random.default_rng([seed, _STREAM])
    partners = np.full((peers, rounds), NOBODY)
    for t in range(rounds):
        order = rng.permutation(peers)
        one, other = order[: peers // 2], order[peers // 2 : 2 * (peers // 2)]
        partners[one, t], partners[other, t] = other, one
    return partners


# A new schedule is one function (peers, rounds, seed) -> [P, C], and one entry here;
# its name is also a topology, whose adjacency holds every edge of the schedule.
DYNAMIC: dict[str, Callable[[int, int, int], Partners]] = {
    "one_peer_exponential": one_peer_exponential,
    "random_matching": random_matching,
}


def partners(name: str, peers: int, rounds: int, seed: int = 0) -> Partners | None:
    """Whom each peer hears, round by round.

    Args:
      name: a topology.
      peers: P, at least 1.
      rounds: number of rounds of the run, at least 1.
      seed: of the random schedules.

    Returns:
      [P, C] int32: in round t peer i hears ``[i, t % C]`` alone, -1 for nobody. None
      where the topology is the same in every round.
    """
    if name not in DYNAMIC:
        return None
    return DYNAMIC[name](peers, rounds, seed).astype(np.int32)


def edges_of_round(adjacency: Array, partners: Array, round_index: Array) -> Array:
    """Edges over which messages travel in one round of a schedule.

    Args:
      adjacency: [I, J] non-negative.
      partners: [I, C] int32 positions among the J senders, -1 for nobody.
      round_index: [] int32, t at least 0.

    Returns:
      [I, J]: ``adjacency`` from the partner of the round, 0 from all others.
    """
    sender = jnp.take(partners, round_index % partners.shape[1], axis=1)
    chosen = sender[:, None] == jnp.arange(adjacency.shape[1])[None]
    return jnp.where(chosen, adjacency, 0.0)
