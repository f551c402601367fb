"""What a run was: resolved configuration, code, versions, devices, peers."""

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
from p2p_sac_jax.privacy.accountant import UNLIMITED

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# What may change between start and resume without making it another experiment,
# and what of it makes the bits differ.
PLACEMENT_FIELDS = frozenset({"layout", "device", "devices"})
BIT_RELEVANT = (
    "layout",
    "layout_devices",
    "processes",
    "device_kind",
    "versions",
    "git_commit",
    "git_dirty",
)


def describe(setup: Experiment, placement: Placement) -> dict[str, Any]:
    """Content of ``run.json``."""
    config = setup.config
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
        "arms": list(dict.fromkeys(arm for arm, _ in setup.labels)),
        "seeds": sorted({seed for _, seed in setup.labels}),
        "peers": [
            {"peer": peer, "name": name} for peer, name in enumerate(setup.world.names)
        ],
        "byzantine": np.flatnonzero(setup.byzantine).tolist(),
        "adjacency": setup.adjacency.tolist(),
        "network": mixing.describe(setup.adjacency, setup.partners),
        "privacy": privacy(setup),
        "channels": channels(config),
    }


def privacy(setup: Experiment) -> dict[str, Any]:
    """What of the exchange carries a privacy guarantee, of what kind, and why not."""
    accountant, config = setup.accountant, setup.config
    return {
        "mode": config.exchange.mode,
        "adjacency": accountant.adjacency,
        "channels": accountant.channels,
        "epsilon_budget": config.privacy.epsilon,
        "messages_allowed": None
        if accountant.allowed == UNLIMITED
        else accountant.allowed,
    }


def channels(config: TrainConfig) -> dict[str, str]:
    """Which channels of the exchange can act in this configuration, and why not."""
    exchange, active = config.exchange, "active"
    silent = ""
    if exchange.network_weight == 0:
        silent = "off: exchange.network_weight is 0"
    elif exchange.topology == "empty" or config.population.peers == 1:
        silent = "off: nobody to hear"
    prior = std = value = silent or active
    if not silent:
        if config.memory.kind != "demand" or config.memory.pooling == "none":
            prior = "off: no demand is shared"
        if exchange.value_sharing == "none":
            value = "off: exchange.value_sharing is none"
        elif exchange.mode == "public":
            value = "off: exchange.mode is public, where values never leave a peer"
        elif config.sac.discount == 0 and exchange.value_sharing != "shaping":
            value = "idle: sac.discount is 0, so no target looks ahead"
        if config.learner != "sac":
            std = value = f"off: learner is {config.learner}, without policy and values"
    return {
        "demand prior": prior,
        "exploration std": std,
        "value target": value,
    }


def _git() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    if not (root / "setup.cfg").exists():  # installed: no repository of ours
        return {"git_commit": None, "git_dirty": None}

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    dirty = ask("status", "--porcelain")
    return {
        "git_commit": ask("rev-parse", "HEAD"),
        "git_dirty": None if dirty is None else bool(dirty),
    }
