"""A cell: one population at one seed, named by what it computes."""

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
from p2p_sac_jax.config_io import flatten, from_dict, to_dict
from p2p_sac_jax.hyper import Hyper, make_hyper
from p2p_sac_jax.simulation.schedules import DYNAMIC

_DEFAULTS = TrainConfig()
# What says where a run is computed and in what company, not what it computes.
_ELSEWHERE = ("layout", "devices", "device", "seeds")
# Whom a peer hears is an input of the program, a row for each run.
_EDGES = (
    "exchange.topology",
    "exchange.matrix",
    "exchange.degree",
    "exchange.edge_chance",
    "exchange.mixing",
    "weights.similarity_width",
)


class Cell(NamedTuple):
    """One population at one seed."""

    config: TrainConfig  # canonical: equal results, equal configurations
    key: str  # its folder, from the content of ``config``

    @property
    def isolated(self) -> bool:
        """Whether nobody hears anybody."""
        return self.config.exchange.topology == "empty"

    @property
    def updates_of_a_peer(self) -> int:
        """Gradient updates of the whole run."""
        learns = self.config.learner == "sac"
        return self.config.steps * self.config.sac.updates_per_step * learns


def make_cell(config: TrainConfig, overrides: Mapping[str, Any], seed: int) -> Cell:
    """The cell of ``config`` with ``overrides`` at ``seed``.

    Args:
      config: the base.
      overrides: dotted field to value.
      seed: of the population.

    Raises:
      ConfigError: a field is unknown or a value of another type.
    """
    config = override(config, overrides)
    config = dataclasses.replace(
        config,
        **{name: getattr(_DEFAULTS, name) for name in _ELSEWHERE},
        seed=seed,
        arms="network",
        checkpoint_every=config.steps,
    )
    if _hears_nobody(config):
        config = _silenced(config)
    return Cell(config, key_of(config))


def key_of(config: TrainConfig) -> str:
    """The name of what ``config`` computes, a hash of what is not as by default.

    So a field that is new changes no name. ``files.is_done`` compares the rest.
    """
    plain = dict(flatten(to_dict(_DEFAULTS)))
    fields = flatten(to_dict(config))
    return _digest({n: value for n, value in fields if value != plain[n]})


def override(config: TrainConfig, overrides: Mapping[str, Any]) -> TrainConfig:
    """``config`` with dotted fields replaced.

    Raises:
      ConfigError: a field is unknown or a value of another type.
    """
    nested = to_dict(config)
    for name, value in overrides.items():
        place = nested
        *sections, leaf = name.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return from_dict(nested)


def batch_key(cell: Cell) -> str:
    """Cells with equal keys can be runs of one batch: they share all that is static."""
    fields = dict(flatten(to_dict(cell.config)))
    scheduled = cell.config.exchange.topology in DYNAMIC
    for name in traced_fields():
        fields.pop(name)
    if not scheduled:  # a schedule is shared by all runs, and drawn from the seed
        for name in ("seed", *_EDGES):
            fields.pop(name)
    return _digest(fields)


def family_key(cell: Cell) -> str:
    """Cells with equal keys differ in the number of peers at most.

    The program of the most peers then serves for fewer, the others masked.
    """
    population = dataclasses.replace(cell.config.population, peers=1)
    config = dataclasses.replace(cell.config, population=population)
    return batch_key(Cell(config, ""))


def traced_fields() -> list[str]:
    """Dotted names of the fields that a compiled program takes as inputs."""
    hyper: Hyper = make_hyper(_DEFAULTS)
    return [
        f"{section}.{name}"
        for section, fields in hyper._asdict().items()
        for name in fields._fields
    ]


def _hears_nobody(config: TrainConfig) -> bool:
    return (
        config.population.peers == 1
        or config.exchange.topology == "empty"
        or config.exchange.network_weight == 0
    )


def _silenced(config: TrainConfig) -> TrainConfig:
    """What nobody hears is the same whatever its settings, so it has but one name."""
    said = config.exchange
    byzantine = config.attack.byzantine
    unheard = AttackConfig("sign_flip", byzantine) if byzantine else AttackConfig()
    return dataclasses.replace(
        config,
        exchange=ExchangeConfig(
            topology="empty",
            interval=said.interval,
            n0=said.n0,  # with the next, how a peer rates its own confidence
            td_penalty=said.td_penalty,
        ),
        weights=WeightsConfig(),
        synchronisation=SynchronisationConfig(),
        privacy=PrivacyConfig(),
        faults=FaultsConfig(),
        attack=unheard,  # but liars are left out of every figure, here too
    )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
