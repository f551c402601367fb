"""Population-vmapped Soft Actor-Critic whose peers learn together.

The public API; everything else may change without notice:

- ``TrainConfig`` and its sections, ``validate``, ``ConfigError``
- ``train(config, workdir) -> summary``, ``Interrupted``, ``Diverged``
- ``load_policy(workdir) -> Policy``, ``PriceAdvice``, ``PriceRegion``,
  ``observation``
- ``write_report(workdir) -> path``, ``read_metrics(workdir) -> DataFrame``

Names load on first use, so importing the package starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2p_sac_jax.config import (
        ConfigError,
        EnvironmentConfig,
        ExchangeConfig,
        ExplorationConfig,
        MemoryConfig,
        ModelRolloutsConfig,
        PopulationConfig,
        SacConfig,
        TrainConfig,
    )
    from p2p_sac_jax.environments.observation import observation
    from p2p_sac_jax.experiment.divergence import Diverged
    from p2p_sac_jax.experiment.metrics_frame import read_metrics
    from p2p_sac_jax.experiment.policy import (
        Policy,
        PriceAdvice,
        PriceRegion,
        load_policy,
    )
    from p2p_sac_jax.experiment.signals import Interrupted
    from p2p_sac_jax.experiment.train import train
    from p2p_sac_jax.report import write_report
    from p2p_sac_jax.validation import validate

__version__ = "0.1.0"

_MODULES = {
    "config": (
        "ConfigError",
        "EnvironmentConfig",
        "ExchangeConfig",
        "ExplorationConfig",
        "ModelRolloutsConfig",
        "MemoryConfig",
        "PopulationConfig",
        "SacConfig",
        "TrainConfig",
    ),
    "environments.observation": ("observation",),
    "experiment.divergence": ("Diverged",),
    "experiment.metrics_frame": ("read_metrics",),
    "experiment.policy": ("Policy", "PriceAdvice", "PriceRegion", "load_policy"),
    "report": ("write_report",),
    "experiment.signals": ("Interrupted",),
    "experiment.train": ("train",),
    "validation": ("validate",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ConfigError",
    "Diverged",
    "EnvironmentConfig",
    "ExchangeConfig",
    "ExplorationConfig",
    "Interrupted",
    "MemoryConfig",
    "ModelRolloutsConfig",
    "Policy",
    "PopulationConfig",
    "PriceAdvice",
    "PriceRegion",
    "SacConfig",
    "TrainConfig",
    "load_policy",
    "observation",
    "read_metrics",
    "train",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
