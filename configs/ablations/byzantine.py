"""A third of the peers are byzantine: what does it cost the others, what helps?"""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing
from p2p_sac_jax.configs.ablations import arms

ARMS = {
    "memory": arms.MEMORY,
    "plain mean": arms.NETWORK,
    "guarded": arms.GUARDED,
}
SWEEP = {"attack.kind": ["sign_flip", "gaussian", "alie"]}


def get_config() -> ConfigDict:
    """Five of sixteen peers are byzantine; figures are those of the others."""
    config = arms.populations(pricing.get_config(), seeds=10, steps=104)
    config.attack.kind = "sign_flip"
    config.attack.byzantine = 5
    return config
