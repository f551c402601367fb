"""Which devices a run uses, and how its peers are laid out on them.

Two questions that have nothing to do with each other: ``devices`` says how many
devices share the peers, ``layout`` how one device runs those it holds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.hyper import arm_names
from p2p_sac_jax.simulation.population import make_mesh

_SMALL = 64 * 64  # hidden x batch
_AT_ONCE = 4  # learners of small networks, see BUILD_NOTES.md
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


class Placement(NamedTuple):
    """Where the peers live."""

    layout: str  # vmap | map: how one device runs its peers
    mesh: Mesh | None  # the devices, where there are several
    peers: int  # with padding, so that every device holds as many
    map_batch_size: int  # peers that a device runs as one batch; 0 is all it holds

    @property
    def devices(self) -> int:
        """Number of devices that hold peers."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def local_devices(self) -> int:
        """Those of this process; every process has as many."""
        return self.devices // distributed.processes()


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no such question on macOS and Windows
        return os.cpu_count() or 1


def choose_placement(config: TrainConfig, runs: int = 0) -> Placement:
    """Picks devices and layout; must run before anything else touches JAX.

    On a CPU every core becomes a device that takes one peer at a time, which beats
    one program over all peers (figures in BUILD_NOTES.md). Accelerators run one
    batched program each. Every process gives as many devices as the others.

    Args:
      config: a validated configuration.
      runs: runs of each peer, side by side; 0 is every arm at every seed.

    Raises:
      ConfigError: the requested device is absent, or there are too few.
    """
    request_devices(config)
    devices = find_devices(config)
    layout = config.layout
    if layout == "auto":
        one_by_one = devices[0].platform == "cpu" and config.population.peers > 1
        layout = "map" if one_by_one else "vmap"
    chosen = _chosen(config, devices)
    count = len(chosen)
    peers = max(config.population.peers, config.population.pad_to)
    mesh = make_mesh(chosen) if count > 1 else None
    held = -(-peers // count)
    runs = runs or len(arm_names(config)) * config.seeds
    map_batch_size = _map_batch_size(config, held, runs) if layout == "map" else 0
    return Placement(layout, mesh, held * count, map_batch_size)


def _map_batch_size(config: TrainConfig, held: int, runs: int) -> int:
    """Peers that layout "map" takes at a time, a divisor of those that a device holds.

    Small networks are bound by the number of operations, so a few learners share
    them; four were best, the runs of a peer counted. Large ones fill a core alone.
    """
    small = config.sac.hidden * config.sac.batch_size <= _SMALL
    most = max(1, _AT_ONCE // runs) if small else 1
    return max(count for count in range(1, most + 1) if held % count == 0)


def request_devices(config: TrainConfig) -> None:
    """Tells JAX what to start, unless it has started already; starts nothing.

    A CPU shows one device for each core, or more where ``devices`` asks for more.
    """
    count = config.devices // distributed.processes()
    try:
        if config.device != "auto":
            jax.config.update("jax_platforms", _PLATFORMS[config.device])
        jax.config.update("jax_num_cpu_devices", max(cores(), count))
    except RuntimeError:
        return  # the caller started JAX: its devices are what there is


def find_devices(config: TrainConfig) -> list[Any]:
    """All devices of all processes; starts JAX.

    Raises:
      ConfigError: the requested device is absent.
    """
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without any plugin
        reason = [*str(error).splitlines(), "this JAX was installed without it"][0]
        raise ConfigError(
            f"device={config.device!r} is not available here; allowed: auto, or a "
            f"device that JAX finds ({reason})"
        ) from error
    platform = devices[0].platform
    if config.device not in ("auto", platform):
        raise ConfigError(
            f"device={config.device!r} is not what JAX runs on here: {platform!r};"
            " choose it before anything else starts JAX"
        )
    return devices


def _chosen(config: TrainConfig, devices: Sequence[Any]) -> list[Any]:
    """The devices that hold peers, as many of each process."""
    count, peers = config.devices, config.population.peers
    owned: dict[int, list[Any]] = {}
    for device in devices:
        owned.setdefault(device.process_index, []).append(device)
    processes = len(owned)
    most = min(map(len, owned.values()))
    if peers < processes:
        raise ConfigError(
            f"population.peers={peers} must be at least the {processes} processes"
        )
    if count % processes:
        raise ConfigError(
            f"devices={count} must be a multiple of the {processes} processes"
        )
    if count > most * processes:
        where = f"{most * processes} {devices[0].platform} devices"
        if processes > 1:
            where += f" of {processes} processes"
        raise ConfigError(f"devices={count} must be at most the {where} that exist")
    each = count // processes or min(most, -(-peers // processes))
    if not count and processes == 1:
        if devices[0].platform == "cpu":
            each = min(each, cores())  # JAX may show more devices than cores
        # No more devices than it takes to hold so few each: less padding.
        peers = max(peers, config.population.pad_to)
        each = -(-peers // -(-peers // each))
    return [device for index in sorted(owned) for device in owned[index][:each]]
