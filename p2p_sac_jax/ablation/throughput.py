"""Seconds that training takes on this machine, remembered between sweeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import save_json
from p2p_sac_jax.experiment.compilation_cache import cache_folder
from p2p_sac_jax.experiment.devices import cores

_STEP_WORK = 2.0  # updates that the rest of an environment step is worth
_TYPICAL = 64 * 64 * (64 + 16)  # batch x hidden x (hidden + inputs) of one unit


class Throughput(NamedTuple):
    """Seconds that things take on this machine."""

    update_s: float  # one gradient update of the typical size, with all cores busy
    compile_s: float  # compiling the programs of one batch


# Measured on two cores of a server, see BUILD_NOTES.md; used before any measurement.
DEFAULT_THROUGHPUT = Throughput(1.3e-4, 15.0)
_CORES = 2


def work_of(config: TrainConfig, updates: int, peers_and_runs: int) -> float:
    """Work of a batch, in gradient updates of the typical size.

    Args:
      config: of its runs.
      updates: gradient updates of all peers and runs.
      peers_and_runs: number of peers times number of runs.
    """
    hidden, rows = config.sac.hidden, config.sac.batch_size
    weight = rows * hidden * (hidden + 16) / _TYPICAL
    return _STEP_WORK * config.steps * peers_and_runs + updates * weight


def load_throughput() -> Throughput:
    """As measured by earlier sweeps on this machine, or the default."""
    try:
        found = json.loads(_path().read_text("utf-8"))
        return Throughput(float(found["update_s"]), float(found["compile_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        update_s = DEFAULT_THROUGHPUT.update_s * _CORES / cores()
        return DEFAULT_THROUGHPUT._replace(update_s=update_s)


def save_throughput(throughput: Throughput) -> None:
    """Remembers a measurement for later sweeps; does nothing where it cannot."""
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        save_json(_path(), throughput._asdict())
    except OSError:
        return  # only an estimate depends on it


def _path() -> Path:
    return cache_folder() / "ablation_throughput.json"
