"""The memory that an experiment needs, and the memory that is free."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.peer import PeerState

_HEADROOM = 0.9  # of the free memory; the rest is for uncounted allocations
_CONTROL_GROUP = Path("/sys/fs/cgroup")  # limits of a container


class InsufficientMemoryError(ConfigError):
    """A run needs more memory than is free."""


class StateMemory(NamedTuple):
    """Bytes of the state of all peers and runs."""

    state: int
    replay: int  # of these, the replay buffers

    def __str__(self) -> str:
        """For the log."""
        return f"{readable(self.state)} of state, {readable(self.replay)} of it replay"


def state_memory(experiment: Experiment) -> StateMemory:
    """Bytes that the state will take; nothing is compiled or allocated."""
    shapes: PeerState = jax.eval_shape(
        experiment.population.init, experiment.peer_inputs, experiment.run_inputs
    )
    return StateMemory(num_bytes(shapes), num_bytes(shapes.replay))


def check_fits(
    config: TrainConfig, what: str, needed: float, devices: int | None = None
) -> None:
    """Checks that ``needed`` bytes fit into the free memory.

    Args:
      config: its fields are named in the message.
      what: the thing that needs memory.
      needed: bytes, over all devices of all processes.
      devices: number of devices of this process that the run uses; None is all.

    Raises:
      InsufficientMemoryError: less is free.
    """
    here = needed / distributed.processes()
    free = free_memory() if devices is None else free_memory(devices)
    if here > _HEADROOM * free:
        reason = f"{what} needs {readable(here)}, {readable(free)} are free"
        raise_insufficient(config, reason)


def raise_insufficient(config: TrainConfig, reason: str) -> NoReturn:
    """Raises the error, naming the fields that a user can change."""
    capacity = config.sac.replay_capacity or config.steps
    raise InsufficientMemoryError(
        f"population.peers={config.population.peers} with sac.replay_capacity="
        f"{capacity} does not fit into memory: {reason}"
    )


def free_memory(devices: int | None = None) -> float:
    """Free bytes of this process's accelerators, or else of its machine.

    Several processes on one host each see the same main memory.

    Args:
      devices: number of accelerators that count, from the first; None is all. The
        fullest one determines what is free on each.
    """
    used = jax.local_devices()[:devices]
    if used[0].platform != "cpu":
        free = [_free_on_device(device.memory_stats() or {}) for device in used]
        if None not in free:
            return len(free) * min(count for count in free if count is not None)
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        available = 1024.0 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        return math.inf
    return min(available, _free_in_control_group())


def _free_on_device(statistics: dict[str, int]) -> float | None:
    """Free bytes of a device, None where it has no statistics."""
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)


def _free_in_control_group() -> float:
    """Free bytes of this process's control group, inf without a limit."""
    try:
        limit, used = (
            float((_CONTROL_GROUP / f"memory.{name}").read_text("utf-8"))
            for name in ("max", "current")
        )
        lines = (_CONTROL_GROUP / "memory.stat").read_text("utf-8").splitlines()
        statistics = dict(line.split() for line in lines)
        # Inactive pages of files are given back on demand.
        return limit - used + float(statistics.get("inactive_file", 0))
    except (OSError, ValueError):  # no group, or limit "max"
        return math.inf


def program_memory(program: Any, devices: int) -> dict[str, int]:
    """Bytes of a compiled program over all devices; zeros where not available."""
    analysis = program.memory_analysis()

    def size_of(name: str) -> int:
        return devices * int(getattr(analysis, f"{name}_size_in_bytes", 0))

    arguments, temporaries = size_of("argument"), size_of("temp")
    outputs = max(0, size_of("output") - size_of("alias"))
    return {
        "arguments": arguments,
        "temporaries": temporaries,
        "outputs": outputs,
        "total": arguments + temporaries + outputs,
    }


def num_bytes(shapes: Any) -> int:
    """Bytes of all leaves; a typed key counts its key data."""

    def size(leaf: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return 8 * math.prod(leaf.shape)
        return leaf.dtype.itemsize * math.prod(leaf.shape)

    return sum(size(leaf) for leaf in jax.tree.leaves(shapes))


def readable(count: float) -> str:
    """Bytes in MB or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
