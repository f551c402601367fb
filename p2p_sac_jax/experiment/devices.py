"""Which devices a run uses, and how its peers are laid out on them.

``devices`` is the number of devices that share the peers, ``layout`` the way one
device runs the peers that it holds; the two are independent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from p2p_sac_jax.arms import arm_names
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.simulation.peer_axis import make_mesh

_SMALL = 64 * 64  # hidden x batch
_MAX_BATCHED = 4  # learners of small networks, see BUILD_NOTES.md
_CPUS = "jax_num_cpu_devices"
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


class Placement(NamedTuple):
    """The devices that hold the peers, and their layout."""

    layout: str  # vmap | map: how one device runs its peers
    mesh: Mesh | None  # the devices, where there are several
    peers: int  # with padding, the same number on every device
    map_batch_size: int  # peers that a device runs as one batch; 0 is all

    @property
    def devices(self) -> int:
        """Number of devices that hold peers."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def local_devices(self) -> int:
        """Number of devices of this process; the same in every process."""
        return self.devices // distributed.processes()


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def choose_placement(config: TrainConfig, runs: int = 0) -> Placement:
    """Picks devices and layout; must run before anything else touches JAX.

    On a CPU every core becomes a device that runs one peer at a time, which is faster
    than one program over all peers (timings in BUILD_NOTES.md). Accelerators run one
    batched program each. Every process contributes the same number of devices.

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
    """Peers that layout "map" batches, a divisor of those that a device holds.

    Small networks are bound by the number of operations, so a few learners share each;
    four learners, counting runs, were fastest. A large network fills a core alone.
    """
    small = config.sac.hidden * config.sac.batch_size <= _SMALL
    most = max(1, _MAX_BATCHED // runs) if small else 1
    return max(count for count in range(1, most + 1) if held % count == 0)


def request_devices(config: TrainConfig) -> None:
    """Configures the JAX backend without starting it; no effect once it runs.

    A CPU has one device per core, or as many as JAX_NUM_CPU_DEVICES says, or more
    where ``devices`` asks for more.
    """
    count = config.devices // distributed.processes()
    given = getattr(jax.config, _CPUS)  # -1 where nobody chose
    cpus = given if given > 0 else cores()
    try:
        if config.device != "auto":
            jax.config.update("jax_platforms", _PLATFORMS[config.device])
        jax.config.update(_CPUS, max(cpus, count))
    except RuntimeError:
        return  # JAX runs already: its devices are given


def find_devices(config: TrainConfig) -> list[Any]:
    """All devices of all processes; starts JAX.

    Raises:
      ConfigError: the requested device is absent.
    """
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a plugin
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
    """The devices that hold peers, the same number of each process."""
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
            each = min(each, cores())  # JAX may have more devices than cores
        # As few devices as hold that many peers each: less padding.
        peers = max(peers, config.population.pad_to)
        each = -(-peers // -(-peers // each))
    return [device for index in sorted(owned) for device in owned[index][:each]]
