"""Arms: runs side by side that differ in traced fields and in the adjacency alone.

So all arms of a run share one compiled program and one stream of market noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.fields import refuse

# Overrides of each arm; in ``ISOLATED`` ones no peer receives anything.
_ARMS: dict[str, dict[str, Any]] = {
    "plain": {
        "model_rollouts.fraction": 0.0,
        "exploration.source": "policy",
        "sac.warmup": 32,
    },
    "memory": {},
    "network": {},
}
# In the market each isolated arm has the settings that were best for it. Those of the
# network are best for the memory alone too; without one, learning is slower.
_MARKET_ARMS: dict[str, dict[str, Any]] = {
    "plain": {
        "model_rollouts.fraction": 0.0,
        "memory.model_blend_half_life": 0.0,
        "exploration.source": "fixed",
        "exploration.std_max": 0.15,
        "sac.warmup": 16,
        "sac.learning_rate": 1e-3,
        "sac.learning_rate_half_life": 0.0,
    },
}
ISOLATED = frozenset({"plain", "memory"})


class RunSpec(NamedTuple):
    """One population at one seed: a place on the run axis."""

    label: str  # the arm, or what else distinguishes it from the other runs
    seed: int
    config: TrainConfig  # its traced fields and adjacency
    isolated: bool  # whether no peer receives anything


def arm_names(config: TrainConfig) -> tuple[str, ...]:
    """Names of the arms in ``config.arms``.

    Raises:
      ConfigError: an arm is unknown, named twice, or there is none.
    """
    names = tuple(name.strip() for name in config.arms.split(",") if name.strip())
    if not names or not set(names) <= set(_ARMS) or len(set(names)) < len(names):
        reason = f"must name each of {', '.join(_ARMS)} at most once, comma-separated"
        refuse("arms", config.arms, f"{reason}, and at least one")
    return names


def arm_overrides(arm: str, environment: str = "pricing") -> dict[str, Any]:
    """What makes an arm, dotted field to value; isolation is apart.

    Raises:
      ConfigError: there is no such arm.
    """
    if arm not in _ARMS:
        refuse("arm", arm, f"must be one of {', '.join(_ARMS)}")
    special = _MARKET_ARMS if environment == "pricing" else {}
    return dict(special.get(arm, _ARMS[arm]))


def arm_config(config: TrainConfig, arm: str) -> TrainConfig:
    """``config`` with the overrides of ``arm`` applied."""
    return replace_fields(config, arm_overrides(arm, config.environment.name))


def planned_runs(config: TrainConfig) -> list[RunSpec]:
    """Every arm of ``config`` at every seed.

    Raises:
      ConfigError: as ``arm_names``.
    """
    seeds = range(config.seed, config.seed + config.seeds)
    return [
        RunSpec(arm, seed, arm_config(config, arm), arm in ISOLATED)
        for arm in arm_names(config)
        for seed in seeds
    ]
