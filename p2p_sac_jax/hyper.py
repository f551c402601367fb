"""Hyper-parameters that are traced, and the arms that override them.

One NamedTuple per room; each leaf is a float32 scalar in one run, ``[R]`` in a
population. Arms differ in these leaves and in the adjacency alone, so all arms
of a run share one compiled program and one stream of market noise.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig

if TYPE_CHECKING:  # so that a configuration is checked without loading JAX
    from p2p_sac_jax.types import Array

EXPLORATION_SOURCES = ("memory", "policy", "fixed")


class SacHyper(NamedTuple):
    """Traced part of ``SacConfig``."""

    learning_rate: Array
    learning_rate_half_life: Array
    discount: Array
    tau: Array
    target_entropy: Array
    learning_starts: Array
    warmup: Array


class MemoryHyper(NamedTuple):
    """Traced part of ``MemoryConfig``."""

    decay: Array
    model_blend_half_life: Array


class ModelRolloutsHyper(NamedTuple):
    """Traced part of ``ModelRolloutsConfig``."""

    fraction: Array
    half_life: Array


class ExplorationHyper(NamedTuple):
    """Traced part of ``ExplorationConfig``; ``source`` indexes the tuple above."""

    source: Array
    std_max: Array
    std_min: Array
    bonus: Array


class ExchangeHyper(NamedTuple):
    """Traced part of ``ExchangeConfig``."""

    local_weight: Array
    network_weight: Array
    recency_tau_s: Array
    age_max_s: Array
    n0: Array
    td_penalty: Array
    value_half_life: Array


class WeightsHyper(NamedTuple):
    """Traced part of ``WeightsConfig``; switches are 0 or 1."""

    recency: Array
    confidence: Array
    trust_rate: Array
    trust_temperature: Array
    performance_filter: Array
    performance_margin: Array
    max_share: Array


class SynchronisationHyper(NamedTuple):
    """Traced part of ``SynchronisationConfig``."""

    threshold: Array
    max_interval: Array
    tokens: Array
    refill: Array


class Hyper(NamedTuple):
    """All traced hyper-parameters of one run."""

    sac: SacHyper
    memory: MemoryHyper
    model_rollouts: ModelRolloutsHyper
    exploration: ExplorationHyper
    exchange: ExchangeHyper
    weights: WeightsHyper
    synchronisation: SynchronisationHyper


# Overrides of each arm; the adjacency of those in ``ISOLATED`` is empty.
_ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {
        "model_rollouts": {"fraction": 0.0},
        "exploration": {"source": "policy"},
        "sac": {"warmup": 32},
    },
    "memory": {},
    "network": {},
}
# In the market each isolated arm has the settings that were best for it. Those of the
# network are best for the lone memory too; without one, learning is slower.
_MARKET_ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {
        "model_rollouts": {"fraction": 0.0},
        "exploration": {"source": "fixed", "std_max": 0.15},
        "sac": {"warmup": 16, "learning_rate": 1e-3, "learning_rate_half_life": 0.0},
        "memory": {
            "model_blend_half_life": 0.0
        },  # it goes by what it has learned alone
    },
}
ISOLATED = frozenset({"plain", "memory"})


def arm_names(config: TrainConfig) -> tuple[str, ...]:
    """Names of the arms in ``config.arms``.

    Raises:
      ConfigError: an arm is unknown, named twice, or there is none.
    """
    names = tuple(name.strip() for name in config.arms.split(",") if name.strip())
    unknown = [name for name in names if name not in _ARMS]
    if unknown or not names or len(set(names)) != len(names):
        raise ConfigError(
            f"arms={config.arms!r} must name each of {', '.join(_ARMS)} at most once,"
            " comma-separated, and at least one"
        )
    return names


def arm_overrides(arm: str, environment: str = "pricing") -> dict[str, Any]:
    """What makes an arm, dotted field to value; that it hears nobody is apart.

    Raises:
      ConfigError: there is no such arm.
    """
    if arm not in _ARMS:
        raise ConfigError(f"arm {arm!r} must be one of {', '.join(_ARMS)}")
    return {
        f"{section}.{name}": value
        for section, fields in _settings(arm, environment).items()
        for name, value in fields.items()
    }


def _settings(arm: str, environment: str) -> dict[str, dict[str, Any]]:
    special = _MARKET_ARMS if environment == "pricing" else {}
    return special.get(arm, _ARMS[arm])


def arm_config(config: TrainConfig, arm: str) -> TrainConfig:
    """``config`` with the overrides of ``arm`` applied."""
    sections = {
        section: dataclasses.replace(getattr(config, section), **values)
        for section, values in _settings(arm, config.environment.name).items()
    }
    return dataclasses.replace(config, **sections)


class RunSpec(NamedTuple):
    """One population at one seed: a place on the run axis."""

    label: str  # the arm, or whatever else tells it from the other runs
    seed: int
    config: TrainConfig  # its traced fields, and whom it hears
    isolated: bool  # whether nobody hears anybody


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


def make_hyper(config: TrainConfig) -> Hyper:
    """Traced hyper-parameters of one run, as NumPy float32 scalars."""

    def section(kind: Any, fields: object, **replaced: float) -> Any:
        values = {name: getattr(fields, name) for name in kind._fields} | replaced
        return kind(**{name: np.float32(value) for name, value in values.items()})

    return Hyper(
        sac=section(SacHyper, config.sac),
        memory=section(MemoryHyper, config.memory),
        model_rollouts=section(ModelRolloutsHyper, config.model_rollouts),
        exploration=section(
            ExplorationHyper,
            config.exploration,
            source=EXPLORATION_SOURCES.index(config.exploration.source),
        ),
        exchange=section(ExchangeHyper, config.exchange),
        weights=section(WeightsHyper, config.weights),
        synchronisation=section(SynchronisationHyper, config.synchronisation),
    )
