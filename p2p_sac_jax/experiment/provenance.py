"""Provenance of a run: resolved configuration, code, versions, devices, peers."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import config_hash, to_dict
from p2p_sac_jax.exchange import mixing
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.experiment.privacy_budget import describe_privacy

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# What of ``run.json`` decides whether a resumed run is bit-identical.
BIT_RELEVANT = (
    "layout",
    "layout_devices",
    "processes",
    "device_kind",
    "versions",
    "git_commit",
    "git_dirty",
)


def describe_run(experiment: Experiment, placement: Placement) -> dict[str, Any]:
    """Content of ``run.json``."""
    config = experiment.config
    return {
        "config": to_dict(config),
        "config_hash": config_hash(config),
        **_git(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        "device_kind": jax.devices()[0].device_kind,
        "processes": distributed.processes(),
        "layout": placement.layout,
        "layout_devices": placement.devices,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arms": list(dict.fromkeys(arm for arm, _ in experiment.labels)),
        "seeds": sorted({seed for _, seed in experiment.labels}),
        "peers": _peers(experiment),
        "byzantine": np.flatnonzero(experiment.byzantine).tolist(),
        "adjacency": experiment.adjacency.tolist(),
        "network": mixing.describe(experiment.adjacency, experiment.partners),
        "privacy": describe_privacy(config, experiment.accountant),
        "channels": exchange_channels(config),
    }


def _peers(experiment: Experiment) -> list[dict[str, Any]]:
    """Number and name of every peer; its name by seed where each draws its own."""
    worlds = experiment.worlds
    if experiment.config.population.drawn_by_seed:
        peers = range(experiment.config.population.peers)
        return [
            {"peer": p, "names": {seed: w.names[p] for seed, w in worlds.items()}}
            for p in peers
        ]
    world = next(iter(worlds.values()))
    return [{"peer": peer, "name": name} for peer, name in enumerate(world.names)]


def exchange_channels(config: TrainConfig) -> dict[str, str]:
    """By channel of the exchange, "active" or why it has no effect."""
    exchange, active = config.exchange, "active"
    off = ""
    if exchange.network_weight == 0:
        off = "off: exchange.network_weight is 0"
    elif exchange.topology == "empty" or config.population.peers == 1:
        off = "off: no neighbours"
    prior = std = value = off or active
    if not off:
        if config.memory.kind != "demand" or config.memory.pooling == "none":
            prior = "off: no demand is shared"
        if exchange.value_sharing == "none":
            value = "off: exchange.value_sharing is none"
        elif exchange.mode == "public":
            value = "off: exchange.mode is public, which sends no values"
        elif config.sac.discount == 0 and exchange.value_sharing != "shaping":
            value = "off: sac.discount is 0, so targets use no state values"
        if config.learner != "sac":
            std = value = f"off: learner={config.learner} has no policy and no values"
    return {
        "demand prior": prior,
        "exploration std": std,
        "value target": value,
    }


def _git() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    if not (root / "setup.cfg").exists():  # an installed package
        return {"git_commit": None, "git_dirty": None}

    def git(*arguments: str) -> str | None:
        try:
            process = subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return process.stdout.strip()

    dirty = git("status", "--porcelain")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if dirty is None else bool(dirty),
    }
