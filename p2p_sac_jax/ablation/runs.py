"""A run of a sweep: one population at one seed, named by what it computes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from p2p_sac_jax.config import (
    AttackConfig,
    ExchangeConfig,
    FaultsConfig,
    PrivacyConfig,
    SynchronisationConfig,
    TrainConfig,
    WeightsConfig,
)
from p2p_sac_jax.config_io import flatten, replace_fields, to_dict
from p2p_sac_jax.exchange.topology import DYNAMIC
from p2p_sac_jax.experiment.input_files import MATRIX, digests, read_inputs
from p2p_sac_jax.fields import fields_of

_DEFAULTS = TrainConfig()
# These fields decide where a run is computed, not what it computes.
_PLACEMENT = ("layout", "devices", "device", "seeds", "on_divergence")
# The edges are an input of the compiled program, one row per run.
_EDGES = (
    "exchange.topology",
    "exchange.matrix",
    "exchange.degree",
    "exchange.edge_chance",
    "exchange.mixing",
    "weights.similarity_width",
)


class Run(NamedTuple):
    """One population at one seed."""

    config: TrainConfig  # canonical: equal results have equal configurations
    key: str  # name of its folder, a hash of ``config``

    @property
    def isolated(self) -> bool:
        """Whether no peer receives anything."""
        return self.config.exchange.topology == "empty"

    @property
    def updates_per_peer(self) -> int:
        """Gradient updates from the first step to the last."""
        learns = self.config.learner == "sac"
        return self.config.steps * self.config.sac.updates_per_step * learns


def make_run(config: TrainConfig, overrides: Mapping[str, Any], seed: int) -> Run:
    """The run of ``config`` with ``overrides`` at ``seed``.

    The key hashes the fields that differ from their defaults, so a new field does not
    rename existing runs, and the files that fields name; ``results.is_done`` compares
    the whole configuration.

    Args:
      config: the base.
      overrides: dotted field to value.
      seed: of the population.

    Raises:
      ConfigError: a field is unknown, a value has the wrong type, or a file cannot be
        read.
    """
    config = dataclasses.replace(
        replace_fields(config, overrides),
        **{name: getattr(_DEFAULTS, name) for name in _PLACEMENT},
        seed=seed,
        arms="network",
        checkpoint_every=config.steps,
    )
    alone = config.population.peers == 1 or config.exchange.network_weight == 0
    if alone or config.exchange.topology == "empty":
        config = _canonical_isolated(config)
    defaults = _fields(_DEFAULTS)
    changed = {n: v for n, v in _fields(config).items() if v != defaults[n]}
    if config.exchange.topology == "matrix":
        changed["files"] = digests(read_inputs(config))[MATRIX]
    return Run(config, _digest(changed))


def batch_key(config: TrainConfig) -> str:
    """Runs with equal keys can share a compiled program: all static fields agree."""
    fields = _fields(config)
    for field in fields_of(TrainConfig):
        if field.traced:  # an input of the compiled program
            fields.pop(field.name)
    # A time-varying schedule is drawn from the seed and shared by all runs.
    if config.exchange.topology not in DYNAMIC:
        for name in ("seed", *_EDGES):
            fields.pop(name)
    return _digest(fields)


def family_key(config: TrainConfig) -> str:
    """Runs with equal keys differ in the number of peers at most.

    The program of the most peers can run the others with peers masked.
    """
    return batch_key(replace_fields(config, {"population.peers": 1}))


def _fields(config: TrainConfig) -> dict[str, Any]:
    return dict(flatten(to_dict(config)))


def _canonical_isolated(config: TrainConfig) -> TrainConfig:
    """Resets the settings of an exchange that delivers nothing, so it has one name."""
    exchange = config.exchange
    return dataclasses.replace(
        config,
        exchange=ExchangeConfig(
            topology="empty",
            interval=exchange.interval,
            n0=exchange.n0,  # with ``td_penalty``, a peer's confidence in itself
            td_penalty=exchange.td_penalty,
        ),
        weights=WeightsConfig(),
        synchronisation=SynchronisationConfig(),
        privacy=PrivacyConfig(),
        faults=FaultsConfig(),
        # Byzantine peers count in no measure, isolated ones neither.
        attack=AttackConfig(byzantine=config.attack.byzantine),
    )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
