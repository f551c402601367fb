"""What has to fit together in a configuration, field against field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NoReturn

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.hyper import arm_names

_ONE_AT_A_TIME = ("one_peer_exponential", "random_matching")
_CONTROL_TASKS = ("pendulum", "lqr")
# Control tasks have no demand to remember or imagine, and no stores to hold out.
_CONTROL_FIELDS: dict[str, Any] = {
    "memory.kind": "none",
    "model_rollouts.fraction": 0.0,
    "environment.reference_effect": 0.0,
    "environment.regime_hazard": 0.0,
    "population.held_out": False,
    "population.heterogeneity": 1.0,
}


def check_consistency(config: TrainConfig, fields: dict[str, Any]) -> None:
    """Accepts a configuration whose fields, each allowed by itself, agree.

    Args:
      config: the configuration.
      fields: the same, by dotted name.

    Raises:
      ConfigError: the first pair that does not agree, on one line.
    """
    _validate_time(config)
    _validate_population(config)
    _validate_environment(config, fields)
    _validate_memory(config)
    _validate_learner(config)
    _validate_replay(config)
    _validate_exchange(config)
    _validate_weights(config)
    _validate_defence(config)
    _validate_privacy(config)
    _validate_faults(config)
    _validate_attack(config)


def refuse(name: str, value: Any, reason: str) -> NoReturn:
    """Raises ``ConfigError``: field, value, and what is allowed."""
    raise ConfigError(f"{name}={value!r} {reason}")


def _multiple(config: TrainConfig, name: str, value: int, of: str, unit: int) -> None:
    if value % unit:
        refuse(name, value, f"must be a multiple of {of}={unit}")


def _validate_time(config: TrainConfig) -> None:
    chunk = config.evaluate_every
    _multiple(config, "steps", config.steps, "evaluate_every", chunk)
    every = config.checkpoint_every
    _multiple(config, "checkpoint_every", every, "evaluate_every", chunk)
    interval = config.exchange.interval
    _multiple(config, "evaluate_every", chunk, "exchange.interval", interval)
    capacity = config.sac.replay_capacity
    if capacity and not interval <= capacity < 2**31:
        refuse(
            "sac.replay_capacity",
            capacity,
            f"must be 0, or from exchange.interval={interval} to {2**31 - 1}",
        )
    last = 2**31 - config.seeds
    if config.seed > last:
        refuse("seed", config.seed, f"must be at most {last} with {config.seeds} seeds")


def _validate_population(config: TrainConfig) -> None:
    population = config.population
    peers, pad_to, joined = population.peers, population.pad_to, population.join_step
    if 0 < pad_to < peers:
        allowed = f"must be 0 or at least population.peers={peers}"
        refuse("population.pad_to", pad_to, allowed)
    if config.devices > peers:
        allowed = f"must be at most population.peers={peers}: a device holds a peer"
        refuse("devices", config.devices, allowed)
    if population.newcomers >= peers:
        allowed = f"must be below population.peers={peers}"
        refuse("population.newcomers", population.newcomers, allowed)
    if not population.newcomers:
        if joined:
            refuse("population.join_step", joined, "must be 0 without newcomers")
        return
    if not 0 < joined < config.steps:
        allowed = f"must be above 0 and below steps={config.steps}"
        refuse("population.join_step", joined, allowed)
    chunk = config.evaluate_every
    _multiple(config, "population.join_step", joined, "evaluate_every", chunk)


def _validate_environment(config: TrainConfig, fields: dict[str, Any]) -> None:
    environment = config.environment
    if environment.inventory:
        refuse(
            "environment.inventory",
            environment.inventory,
            "must be 0: markets with stock are not available yet",
        )
    if environment.reference_effect > 0 and environment.regime_hazard > 0:
        refuse(
            "environment.regime_hazard",
            environment.regime_hazard,
            "must be 0 where environment.reference_effect > 0: "
            "no exact oracle is known for both together",
        )
    if environment.name in _CONTROL_TASKS:
        reason = f"for environment.name={environment.name!r}"
        for name, value in _CONTROL_FIELDS.items():
            if fields[name] != value:
                refuse(name, fields[name], f"must be {value!r} {reason}")


def _validate_memory(config: TrainConfig) -> None:
    kind, source = config.memory.kind, config.exploration.source
    fraction = config.model_rollouts.fraction
    if fraction > 0 and kind != "demand":
        reason = f"must be 0 with memory.kind={kind!r}: only 'demand' can imagine"
        refuse("model_rollouts.fraction", fraction, reason)
    if source == "memory" and kind == "none":
        reason = "must be policy or fixed with memory.kind='none'"
        refuse("exploration.source", source, reason)
    std_min, std_max = config.exploration.std_min, config.exploration.std_max
    if std_min > std_max:
        reason = f"must be at most exploration.std_max={std_max}"
        refuse("exploration.std_min", std_min, reason)


def _validate_learner(config: TrainConfig) -> None:
    if config.learner == "sac":
        return
    kind, reason = config.memory.kind, f"with learner={config.learner!r}"
    if kind != "demand":
        wanted = f"must be 'sac' with memory.kind={kind!r}: only 'demand' names a price"
        refuse("learner", config.learner, wanted)
    if "plain" in arm_names(config):
        wanted = f"must leave out plain {reason}: it would be the arm memory again"
        refuse("arms", config.arms, wanted)
    if config.sac.replay != "own":
        refuse("sac.replay", config.sac.replay, f"must be 'own' {reason}: none studies")
    threshold = config.synchronisation.threshold
    if threshold:
        wanted = f"must be 0 {reason}: it has no values that could move"
        refuse("synchronisation.threshold", threshold, wanted)


def _validate_replay(config: TrainConfig) -> None:
    replay, mode = config.sac.replay, config.exchange.mode
    if replay == "own":
        return
    if mode != "private":
        reason = f"must be 'own' with exchange.mode={mode!r}: it shares raw weeks"
        refuse("sac.replay", replay, reason)
    capacity = config.sac.replay_capacity or config.steps
    rows = config.population.peers * capacity + config.exchange.interval
    if rows >= 2**31:
        reason = f"must be 'own' with more than {2**31 - 1} transitions in all"
        refuse("sac.replay", replay, reason)


def _validate_exchange(config: TrainConfig) -> None:
    exchange = config.exchange
    if exchange.local_weight + exchange.network_weight <= 0:
        reason = "must be above 0 where exchange.network_weight is 0"
        refuse("exchange.local_weight", exchange.local_weight, reason)
    if exchange.topology == "matrix":
        if not exchange.matrix.endswith((".npy", ".csv")):
            reason = "must name a .npy or .csv file with exchange.topology='matrix'"
            refuse("exchange.matrix", exchange.matrix, reason)
    elif exchange.matrix:
        reason = "must be empty unless exchange.topology='matrix'"
        refuse("exchange.matrix", exchange.matrix, reason)


def _validate_weights(config: TrainConfig) -> None:
    weights, mode = config.weights, config.exchange.mode
    if weights.performance_filter and mode != "private":
        reason = f"must be False with exchange.mode={mode!r}: no earnings leave a peer"
        refuse("weights.performance_filter", weights.performance_filter, reason)
    if weights.similarity_width and config.environment.name in _CONTROL_TASKS:
        name = config.environment.name
        reason = f"must be 0 for environment.name={name!r}: its peers have no context"
        refuse("weights.similarity_width", weights.similarity_width, reason)
    sync = config.synchronisation
    if sync.threshold and not sync.max_interval:
        reason = (
            "must be 0 with synchronisation.max_interval=0: a peer that speaks at"
            " every round waits for nothing"
        )
        refuse("synchronisation.threshold", sync.threshold, reason)
    if 0 < sync.tokens < 1 and not sync.refill:
        reason = "must be 0 or at least 1 with synchronisation.refill=0"
        refuse("synchronisation.tokens", sync.tokens, reason)
    if sync.refill and not sync.tokens:
        reason = "must be 0 with synchronisation.tokens=0: tokens are unlimited"
        refuse("synchronisation.refill", sync.refill, reason)


def _validate_defence(config: TrainConfig) -> None:
    exchange, rate = config.exchange, config.weights.trust_rate
    if exchange.topology not in _ONE_AT_A_TIME:
        return
    reason = f"with exchange.topology={exchange.topology!r}: one voice a round"
    if exchange.aggregator != "mean":
        wanted = f"must be 'mean' {reason} has no median"
        refuse("exchange.aggregator", exchange.aggregator, wanted)
    if rate:
        wanted = f"must be 0 {reason} is compared with no other"
        refuse("weights.trust_rate", rate, wanted)


def _validate_privacy(config: TrainConfig) -> None:
    privacy, mode = config.privacy, config.exchange.mode
    rounds = config.steps // config.exchange.interval
    if mode == "private":
        for field in dataclasses.fields(privacy):
            value = getattr(privacy, field.name)
            if value != field.default and field.name != "epsilon":
                reason = f"must be {field.default!r} with exchange.mode='private'"
                refuse(f"privacy.{field.name}", value, f"{reason}: all is shared")
        return
    if privacy.min_weeks >= config.steps:
        reason = f"must be below steps={config.steps}"
        refuse("privacy.min_weeks", privacy.min_weeks, reason)
    if privacy.trend_window >= rounds and mode == "public" and rounds > 1:
        reason = f"must be below the {rounds} rounds of the run"
        refuse("privacy.trend_window", privacy.trend_window, reason)
    remembered = math.inf if config.memory.decay == 1 else 1 / (1 - config.memory.decay)
    if remembered < privacy.min_weeks:
        reason = f"must be at most the {remembered:.3g} weeks that memory.decay keeps"
        refuse("privacy.min_weeks", privacy.min_weeks, reason)
    peers, needed = config.population.peers, config.privacy.min_peers
    if config.exchange.mode == "public" and 1 < peers <= needed:
        reason = (
            f"must be below population.peers={peers} with exchange.mode='public':"
            " nobody would ever hear that many others"
        )
        refuse("privacy.min_peers", needed, reason)


def _validate_faults(config: TrainConfig) -> None:
    _validate_churn(config)
    _validate_partition(config)
    faults, peers = config.faults, config.population.peers
    rounds = config.steps // config.exchange.interval
    if faults.delay >= rounds and faults.delay:
        reason = f"must be below the {rounds} rounds of the run"
        refuse("faults.delay", faults.delay, reason)
    if not faults.delay and faults.stragglers != 1.0:
        reason = "must be 1.0 where faults.delay=0: nothing is delayed"
        refuse("faults.stragglers", faults.stragglers, reason)
    somebody = f"must make at least one of population.peers={peers}"
    if faults.delay and not round(faults.stragglers * peers):
        refuse("faults.stragglers", faults.stragglers, somebody)


def _validate_churn(config: TrainConfig) -> None:
    faults, steps, peers = config.faults, config.steps, config.population.peers
    leave, rejoin = faults.leave_step, faults.rejoin_step
    if not faults.churn:
        reason = "must be 0 where faults.churn=0.0: nobody leaves"
        if leave:
            refuse("faults.leave_step", leave, reason)
        if rejoin:
            refuse("faults.rejoin_step", rejoin, reason)
        return
    somebody = f"must make at least one of population.peers={peers}"
    if not round(faults.churn * peers):
        refuse("faults.churn", faults.churn, somebody)
    if not 0 < leave < steps:
        reason = f"must be above 0 and below steps={steps} where faults.churn > 0"
        refuse("faults.leave_step", leave, reason)
    if rejoin and leave < rejoin:
        _meets_a_round(config, "faults.rejoin_step", leave, rejoin)
    if rejoin and not leave < rejoin < steps:
        reason = f"must be 0 (never), or above faults.leave_step={leave}"
        refuse("faults.rejoin_step", rejoin, f"{reason} and below steps={steps}")


def _validate_partition(config: TrainConfig) -> None:
    faults, steps = config.faults, config.steps
    start, heal = faults.partition_step, faults.heal_step
    if not heal:
        if start:
            reason = "must be 0 where faults.heal_step=0: there is no partition"
            refuse("faults.partition_step", start, reason)
        return
    if not start < heal <= steps:
        reason = f"must be 0 (no partition), or above faults.partition_step={start}"
        refuse("faults.heal_step", heal, f"{reason} and at most steps={steps}")
    _meets_a_round(config, "faults.heal_step", start, heal)


def _meets_a_round(config: TrainConfig, name: str, start: int, end: int) -> None:
    interval = config.exchange.interval
    if -(-start // interval) * interval >= end:
        reason = f"must leave a round (every {interval} steps) between {start} and it"
        refuse(name, end, reason)


def _validate_attack(config: TrainConfig) -> None:
    attack, population = config.attack, config.population
    if (attack.kind == "none") != (attack.byzantine == 0):
        allowed = "0 with" if attack.kind == "none" else "above 0 with"
        reason = f"must be {allowed} attack.kind={attack.kind!r}"
        refuse("attack.byzantine", attack.byzantine, reason)
    honest = population.peers - population.newcomers
    if attack.byzantine >= honest:
        reason = f"must be below the {honest} peers that are there from the start"
        refuse("attack.byzantine", attack.byzantine, reason)
