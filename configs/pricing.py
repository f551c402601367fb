"""Default run: sixteen stores of one chain price one brand for four years."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import to_dict


def get_config() -> ConfigDict:
    """The defaults of every field, with one week per step."""
    return ConfigDict(to_dict(TrainConfig()))
