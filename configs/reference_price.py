"""Buyers remember past prices: a discount today costs profit tomorrow."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """A market where the myopic price earns about .986 of the optimum."""
    config = pricing.get_config()
    config.environment.reference_effect = 0.2
    # Shoppers forget 30 % a week; a longer horizon adds more noise than it gains,
    # see docs/lab_notes.md.
    config.sac.discount = 0.5
    config.memory.model_blend_half_life = 30.0  # the memory's best price is myopic
    return config
