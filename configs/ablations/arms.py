"""Arms of the ablations: the fields of each, over a preset of the market."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from p2p_sac_jax.arms import arm_overrides

ALONE: dict[str, Any] = {"exchange.topology": "empty"}
# The price memory chooses the price: there is no policy to blend with.
THOMPSON: dict[str, Any] = {"learner": "thompson", "memory.model_blend_half_life": 0.0}

NETWORK: dict[str, Any] = {}
GUARDED: dict[str, Any] = {
    "exchange.aggregator": "median",
    "weights.trust_rate": 0.3,
}
MEMORY = ALONE | arm_overrides("memory")
# Explores more: reaches a high score sooner, at a price.
MEMORY_WIDE = MEMORY | {"exploration.std_max": 0.15, "exploration.std_min": 0.05}
PLAIN = ALONE | arm_overrides("plain")
POOLED_REPLAY = PLAIN | {"sac.replay": "pooled"}
BANDIT_ALONE = ALONE | THOMPSON
BANDIT_NETWORK = NETWORK | THOMPSON
BANDIT_POOLED = NETWORK | THOMPSON | {"memory.pooling": "pooled"}


def populations(config: ConfigDict, seeds: int, steps: int = 0) -> ConfigDict:
    """``config`` for populations that no setting was chosen on; 0 keeps its steps."""
    config.seed = 1000
    config.seeds = seeds
    config.steps = steps or config.steps
    return config
