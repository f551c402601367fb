"""Default run: sixteen stores of one chain price one brand for four years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.config import WEEK_S, TrainConfig
from p2p_sac_jax.config_io import to_dict


def get_config() -> ConfigDict:
    """The population ``chain``, with one week per step."""
    config = ConfigDict(to_dict(TrainConfig()))
    # A step is a week: with the default of one day every insight would expire.
    config.exchange.recency_tau_s = 26 * WEEK_S
    # Tuned, see docs/lab_notes.md: large steps at first, then averaging.
    config.sac.learning_rate = 4e-3
    config.sac.learning_rate_half_life = 30.0
    config.sac.initial_alpha = 0.05
    config.model_rollouts.fraction = 0.97
    # Fifteen others explore too, and their data make a narrow prior.
    config.exploration.std_max = 0.07
    config.exploration.std_min = 0.02
    config.exchange.network_weight = 0.05
    # The policy takes a year to learn what the memory's model says at once.
    config.memory.model_blend_half_life = 200.0
    return config
