"""What has to fit together between peers."""

from __future__ import annotations

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.fields import refuse


def check(config: TrainConfig) -> None:
    """Refuses what a mode does not let leave a peer.

    Raises:
      ConfigError: the first setting that does not fit.
    """
    exchange, weights = config.exchange, config.weights
    if exchange.topology == "matrix" and not exchange.matrix.endswith((".npy", ".csv")):
        reason = "must name a .npy or .csv file with exchange.topology='matrix'"
        refuse("exchange.matrix", exchange.matrix, reason)
    if exchange.mode != "private":
        where = f"with exchange.mode={exchange.mode!r}"
        if config.sac.replay != "own":
            reason = f"must be 'own' {where}: it shares raw transitions"
            refuse("sac.replay", config.sac.replay, reason)
        if exchange.value_sharing == "scalar":
            reason = "needs exchange.mode='private': it reads raw values"
            refuse("exchange.value_sharing", "scalar", reason)
        if weights.performance_filter:
            reason = f"must be False {where}: no performance leaves a peer"
            refuse("weights.performance_filter", True, reason)
