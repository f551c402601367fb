"""Markets that change: the demand of a store jumps about every two years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """Regime shifts, and a memory that discounts old weeks."""
    config = pricing.get_config()
    config.environment.regime_hazard = 1.0 / 104.0
    config.memory.decay = 0.99
    return config
