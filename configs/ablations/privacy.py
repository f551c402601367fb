"""What does privacy cost? Modes, and noise in sensitivities."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing
from p2p_sac_jax.configs.ablations import arms

_CONSORTIUM = {"exchange.mode": "consortium"}
_PUBLIC = {"exchange.mode": "public"}
ARMS = {
    "memory": arms.MEMORY,
    "private": arms.NETWORK,
    "consortium, no noise": _CONSORTIUM | {"privacy.demand_noise": 0.0},
    "consortium, noise 0.3": _CONSORTIUM | {"privacy.demand_noise": 0.3},
    "consortium, noise 1": _CONSORTIUM,
    "public, noise 1": _PUBLIC,
}


def get_config() -> ConfigDict:
    """Two years of sixteen stores of one chain in every mode."""
    return arms.populations(pricing.get_config(), seeds=5, steps=104)
