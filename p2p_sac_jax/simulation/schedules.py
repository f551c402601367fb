"""Time-varying topologies: in each round a peer receives from one sender alone."""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.simulation.wrappers import Wrapper, on_edges
from p2p_sac_jax.types import Array


def scheduled(partners: Array, round_index: Array) -> Wrapper:
    """Leaves each receiver the edge from its partner of the round.

    Args:
      partners: [I, C] int32, see ``topology.partners``.
      round_index: [] int32, t at least 0.
    """
    return on_edges(lambda inputs: edges_of_round(inputs.edges, partners, round_index))


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
