"""Which edge weight earns its place? One at a time off, or on."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import brands
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "memory": arms.MEMORY,
    "network": arms.NETWORK,
    "no recency": {"weights.recency": False},
    "no confidence": {"weights.confidence": False},
    "trust": {"weights.trust_rate": 0.3},
    "similarity": {"weights.similarity_width": 1.0},
    "performance filter": {"weights.performance_filter": True},
    "louder network": {"exchange.network_weight": 0.3},
    "no bonus": {"exploration.bonus": 0.0},
    "no demand prior": {"memory.pooling": "none"},
    "pooled demand": {"memory.pooling": "pooled"},
}


def get_config() -> ConfigDict:
    """Two years of the population ``brands``, where stores differ most."""
    return arms.populations(brands.get_config(), seeds=5, steps=104)
