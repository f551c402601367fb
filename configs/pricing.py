"""Default run: sixteen stores of one chain price one brand for four years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.config import WEEK_S, TrainConfig
from p2p_sac_jax.config_io import to_dict


def get_config() -> ConfigDict:
    """The private population, with one week per step."""
    config = ConfigDict(to_dict(TrainConfig()))
    # A step is a week: with the default of one day nothing would survive a round.
    config.exchange.recency_tau_s = 26 * WEEK_S
    return config
