"""The traced part of a configuration: what a compiled program takes as inputs.

Each section is a NamedTuple of the fields that ``config`` declares as traced, under
the same names; a leaf is a float32 scalar in one run and ``[R]`` in a population.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from p2p_sac_jax import config as sections
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.fields import fields_of


def _traced(section: type) -> Any:
    """A NamedTuple with the traced fields of a section."""
    names = [field.leaf for field in fields_of(section) if field.traced]
    return namedtuple(section.__name__, names)


class SacHyper(_traced(sections.SacConfig)):
    """Traced part of section ``sac``."""


class MemoryHyper(_traced(sections.MemoryConfig)):
    """Traced part of section ``memory``."""


class ModelRolloutsHyper(_traced(sections.ModelRolloutsConfig)):
    """Traced part of section ``model_rollouts``."""


class ExplorationHyper(_traced(sections.ExplorationConfig)):
    """Traced part of section ``exploration``; ``source`` is an index."""


class ExchangeHyper(_traced(sections.ExchangeConfig)):
    """Traced part of section ``exchange``."""


class WeightsHyper(_traced(sections.WeightsConfig)):
    """Traced part of section ``weights``; switches are 0 or 1."""


class SynchronisationHyper(_traced(sections.SynchronisationConfig)):
    """Traced part of section ``synchronisation``."""


class Hyper(NamedTuple):
    """All traced hyper-parameters of one run."""

    sac: SacHyper
    memory: MemoryHyper
    model_rollouts: ModelRolloutsHyper
    exploration: ExplorationHyper
    exchange: ExchangeHyper
    weights: WeightsHyper
    synchronisation: SynchronisationHyper


def make_hyper(config: TrainConfig) -> Hyper:
    """Traced hyper-parameters of one run, as NumPy float32 scalars."""

    def part(name: str, kind: type) -> Any:
        section = getattr(config, name)
        leaves = {
            field.leaf: np.float32(field.number(getattr(section, field.leaf)))
            for field in fields_of(type(section))
            if field.traced
        }
        return kind(**leaves)

    kinds = get_type_hints(Hyper)
    return Hyper(**{name: part(name, kind) for name, kind in kinds.items()})
