"""What a configuration may say: choices, ranges, and what fits together.

The two tables name every field that is not a switch or free text, so the error
a user reads and the reference in ``docs/configuration.md`` come from one place.
"""

from __future__ import annotations

import math
from typing import Any

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, from_dict, to_dict
from p2p_sac_jax.hyper import arm_names

CHOICES: dict[str, tuple[str, ...]] = {
    "layout": ("auto", "vmap", "map", "shard"),
    "device": ("auto", "cpu", "gpu", "tpu"),
    "environment.name": ("pricing", "pendulum", "lqr"),
    "population.name": ("private", "consortium", "public"),
    "memory.kind": ("demand", "bins", "none"),
    "memory.pooling": ("prior", "pooled", "none"),
    "exploration.source": ("memory", "policy", "fixed"),
    "exchange.mode": ("private",),
    "exchange.topology": ("complete", "ring", "star", "empty", "matrix"),
    "exchange.estimation": ("none", "seed_scalar", "keyed", "precision"),
}

# Interval notation: a round bracket leaves its end out. All values are finite.
RANGES: dict[str, str] = {
    "seed": "[0, 2147483647]",
    "seeds": "[1, inf)",
    "steps": "[1, inf)",
    "evaluate_every": "[1, inf)",
    "checkpoint_every": "[1, inf)",
    "evaluation_weeks": "[1, inf)",
    "environment.reference_effect": "[0, inf)",
    "environment.regime_hazard": "[0, 1]",
    "environment.inventory": "[0, inf)",
    "environment.seconds_per_step": "(0, inf)",
    "population.peers": "[1, inf)",
    "population.pad_to": "[0, inf)",
    "population.newcomers": "[0, inf)",
    "population.join_step": "[0, inf)",
    "sac.hidden": "[1, inf)",
    "sac.batch_size": "[1, inf)",
    "sac.learning_rate": "(0, 1]",
    "sac.discount": "[0, 1)",
    "sac.tau": "(0, 1]",
    "sac.target_entropy": "(-inf, inf)",
    "sac.initial_alpha": "(0, inf)",
    "sac.updates_per_step": "[1, inf)",
    "sac.replay_capacity": "[0, inf)",
    "sac.learning_starts": "[0, inf)",
    "sac.warmup": "[0, inf)",
    "sac.max_grad_norm": "[0, inf)",
    "memory.decay": "(0, 1]",
    "memory.rehearsal_updates": "[0, inf)",
    "imagination.fraction": "[0, 1]",
    "imagination.anneal_steps": "[0, inf)",
    "exploration.std_max": "(0, 1]",
    "exploration.std_min": "(0, 1]",
    "exploration.bonus": "[0, inf)",
    "exchange.interval": "[1, inf)",
    "exchange.local_weight": "[0, inf)",
    "exchange.network_weight": "[0, inf)",
    "exchange.recency_tau_s": "(0, inf)",
    "exchange.age_max_s": "[0, inf)",
    "exchange.n0": "(0, inf)",
    "exchange.td_penalty": "[0, inf)",
    "exchange.anneal_steps": "(0, inf)",
}

_UNBUILT_MODES = ("consortium", "public")
_CONTROL_TASKS = ("pendulum", "lqr")
# Control tasks have no demand to remember or imagine, and no stores to hold out.
_CONTROL_FIELDS: dict[str, Any] = {
    "memory.kind": "none",
    "imagination.fraction": 0.0,
    "environment.reference_effect": 0.0,
    "environment.regime_hazard": 0.0,
    "population.held_out": False,
}


def validate(config: TrainConfig) -> None:
    """Accepts a configuration that can run.

    Args:
      config: the configuration, however it was made.

    Raises:
      ConfigError: the first thing wrong, on one line: field, value, what is
        allowed.
    """
    fields = dict(flatten(to_dict(from_dict(to_dict(config)))))  # checks the types
    if config.exchange.mode in _UNBUILT_MODES:
        _refuse(
            "exchange.mode",
            config.exchange.mode,
            f"is not available yet; allowed: {', '.join(CHOICES['exchange.mode'])}",
        )
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            _refuse(name, fields[name], f"must be one of {', '.join(choices)}")
    for name, interval in RANGES.items():
        if not _inside(fields[name], interval):
            _refuse(name, fields[name], f"must be in {interval}")
    _validate_time(config)
    _validate_population(config)
    _validate_environment(config, fields)
    _validate_memory(config)
    _validate_exchange(config)
    arm_names(config)


def _refuse(name: str, value: Any, reason: str) -> None:
    raise ConfigError(f"{name}={value!r} {reason}")


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)


def _multiple(config: TrainConfig, name: str, value: int, of: str, unit: int) -> None:
    if value % unit:
        _refuse(name, value, f"must be a multiple of {of}={unit}")


def _validate_time(config: TrainConfig) -> None:
    chunk = config.evaluate_every
    _multiple(config, "steps", config.steps, "evaluate_every", chunk)
    every = config.checkpoint_every
    _multiple(config, "checkpoint_every", every, "evaluate_every", chunk)
    interval = config.exchange.interval
    _multiple(config, "evaluate_every", chunk, "exchange.interval", interval)
    last = 2**31 - config.seeds
    if config.seed > last:
        _refuse(
            "seed", config.seed, f"must be at most {last} with {config.seeds} seeds"
        )


def _validate_population(config: TrainConfig) -> None:
    population = config.population
    peers, pad_to, joined = population.peers, population.pad_to, population.join_step
    if 0 < pad_to < peers:
        allowed = f"must be 0 or at least population.peers={peers}"
        _refuse("population.pad_to", pad_to, allowed)
    if population.newcomers >= peers:
        allowed = f"must be below population.peers={peers}"
        _refuse("population.newcomers", population.newcomers, allowed)
    if not population.newcomers:
        if joined:
            _refuse("population.join_step", joined, "must be 0 without newcomers")
        return
    if not 0 < joined < config.steps:
        allowed = f"must be above 0 and below steps={config.steps}"
        _refuse("population.join_step", joined, allowed)
    chunk = config.evaluate_every
    _multiple(config, "population.join_step", joined, "evaluate_every", chunk)


def _validate_environment(config: TrainConfig, fields: dict[str, Any]) -> None:
    environment = config.environment
    if environment.inventory:
        _refuse(
            "environment.inventory",
            environment.inventory,
            "must be 0: markets with stock are not available yet",
        )
    if environment.reference_effect > 0 and environment.regime_hazard > 0:
        _refuse(
            "environment.regime_hazard",
            environment.regime_hazard,
            "must be 0 where environment.reference_effect > 0: "
            "no exact oracle is known for both together",
        )
    if environment.name in _CONTROL_TASKS:
        reason = f"for environment.name={environment.name!r}"
        for name, value in _CONTROL_FIELDS.items():
            if fields[name] != value:
                _refuse(name, fields[name], f"must be {value!r} {reason}")


def _validate_memory(config: TrainConfig) -> None:
    kind, source = config.memory.kind, config.exploration.source
    fraction = config.imagination.fraction
    if fraction > 0 and kind != "demand":
        reason = f"must be 0 with memory.kind={kind!r}: only 'demand' can imagine"
        _refuse("imagination.fraction", fraction, reason)
    if source == "memory" and kind == "none":
        reason = "must be policy or fixed with memory.kind='none'"
        _refuse("exploration.source", source, reason)
    std_min, std_max = config.exploration.std_min, config.exploration.std_max
    if std_min > std_max:
        reason = f"must be at most exploration.std_max={std_max}"
        _refuse("exploration.std_min", std_min, reason)


def _validate_exchange(config: TrainConfig) -> None:
    exchange = config.exchange
    if exchange.local_weight + exchange.network_weight <= 0:
        reason = "must be above 0 where exchange.network_weight is 0"
        _refuse("exchange.local_weight", exchange.local_weight, reason)
    if exchange.topology == "matrix":
        if not exchange.matrix.endswith((".npy", ".csv")):
            reason = "must name a .npy or .csv file with exchange.topology='matrix'"
            _refuse("exchange.matrix", exchange.matrix, reason)
    elif exchange.matrix:
        reason = "must be empty unless exchange.topology='matrix'"
        _refuse("exchange.matrix", exchange.matrix, reason)
