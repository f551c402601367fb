"""What has to fit together in the environment and the memory of it."""

from __future__ import annotations

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.registry import make_environment
from p2p_sac_jax.fields import refuse


def check(config: TrainConfig) -> None:
    """Refuses what would crash or be scored wrongly.

    Raises:
      ConfigError: the first setting that does not fit.
    """
    environment, kind = config.environment, config.memory.kind
    if environment.reference_effect > 0 and environment.regime_hazard > 0:
        refuse(
            "environment.regime_hazard",
            environment.regime_hazard,
            "must be 0 where environment.reference_effect > 0: "
            "no exact oracle is known for both together",
        )
    if environment.reference_effect > 0 and environment.world != "logit":
        refuse(
            "environment.world",
            environment.world,
            "must be 'logit' where environment.reference_effect > 0: no exact oracle"
            " is known for both together",
        )
    demand = make_environment(environment).demand
    if demand is None and kind != "none":
        reason = f"must be 'none' for environment.name={environment.name!r}"
        refuse("memory.kind", kind, f"{reason}: it sells nothing")
