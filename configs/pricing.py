"""Default run: sixteen stores of one chain price one brand for four years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.config import WEEK_S, TrainConfig
from p2p_sac_jax.config_io import to_dict


def get_config() -> ConfigDict:
    """The population ``chain``, with one week per step."""
    config = ConfigDict(to_dict(TrainConfig()))
    # A step is a week: with the default of one day nothing would survive a round.
    config.exchange.recency_tau_s = 26 * WEEK_S
    # Found by experiment, see BUILD_NOTES.md: fast at first, then averaging.
    config.sac.learning_rate = 4e-3
    config.sac.learning_rate_half_life = 30.0
    config.sac.initial_alpha = 0.05
    config.model_rollouts.fraction = 0.97
    # Fifteen others explore too, and the prior they make is narrow.
    config.exploration.std_max = 0.07
    config.exploration.std_min = 0.02
    config.exchange.network_weight = 0.05
    # The memory knows at once what the policy takes a year to learn from it.
    config.memory.model_blend_half_life = 200.0
    return config
