"""Which devices a run uses, and how its peers are laid out on them."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.population import make_mesh

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


class Placement(NamedTuple):
    """Where the peers live."""

    layout: str  # vmap | map | shard
    mesh: Mesh | None  # devices of layout shard
    peers: int  # with padding, so that every device holds as many

    @property
    def devices(self) -> int:
        """Number of devices that hold peers."""
        return 1 if self.mesh is None else self.mesh.size


def choose_placement(config: TrainConfig) -> Placement:
    """Picks devices and layout; must run before anything else touches JAX.

    On a CPU every core becomes a device that takes one peer at a time, which beats
    one program over all peers (figures in BUILD_NOTES.md). Accelerators run one
    batched program.

    Raises:
      ConfigError: the requested device is absent.
    """
    _request(config)
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise ConfigError(
            f"device={config.device!r} is not available here; allowed: auto, or a "
            f"device that JAX finds ({str(error).splitlines()[0]})"
        ) from error
    platform = devices[0].platform
    if config.device not in ("auto", platform):
        raise ConfigError(
            f"device={config.device!r} is not what JAX runs on here: {platform!r};"
            " choose it before anything else starts JAX"
        )
    layout = config.layout
    count = min(len(devices), config.population.peers)
    if layout == "auto":
        layout = "shard" if platform == "cpu" and count > 1 else "vmap"
    peers = max(config.population.peers, config.population.pad_to)
    if layout != "shard":
        return Placement(layout, None, peers)
    mesh = make_mesh(devices[:count])
    return Placement(layout, mesh, -(-peers // count) * count)


def _request(config: TrainConfig) -> None:
    """Tells JAX what to start, unless it has started already."""
    try:
        if config.device != "auto":
            jax.config.update("jax_platforms", _PLATFORMS[config.device])
        if config.layout in ("auto", "shard"):
            cores = len(os.sched_getaffinity(0))
            jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        return  # the caller started JAX: its devices are what there is
