"""How much memory a run needs, and whether there is as much."""

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

_HEADROOM = 0.9  # of the free memory; the rest is for what nobody counts
_GROUP = Path("/sys/fs/cgroup")  # a container's own limit, where it has one


class InsufficientMemoryError(ConfigError):
    """A run that needs more memory than there is."""


class Need(NamedTuple):
    """Bytes that the state of a run takes, all peers and runs."""

    state: int
    replay: int  # of these, the replay buffers

    def __str__(self) -> str:
        """For a person to read before the start."""
        return f"{readable(self.state)} of state, {readable(self.replay)} of it replay"


def state_memory(setup: Experiment) -> Need:
    """What the state will take; nothing is compiled or allocated."""
    shapes: PeerState = jax.eval_shape(
        setup.population.init, setup.peer_inputs, setup.run_inputs
    )
    return Need(num_bytes(shapes), num_bytes(shapes.replay))


def check_fits(
    config: TrainConfig, what: str, needed: float, devices: int | None = None
) -> None:
    """Refuses what cannot fit beside what is in memory already.

    Args:
      config: names what to change.
      what: the thing that needs memory.
      needed: bytes, over all devices of all processes.
      devices: of this process that the run uses; None is all of them.

    Raises:
      InsufficientMemoryError: there is less.
    """
    here = needed / distributed.processes()
    free = free_memory() if devices is None else free_memory(devices)
    if here > _HEADROOM * free:
        refuse(config, f"{what} needs {readable(here)}, {readable(free)} are free")


def refuse(config: TrainConfig, reason: str) -> NoReturn:
    """Raises the error that names the fields a user can change."""
    capacity = config.sac.replay_capacity or config.steps
    raise InsufficientMemoryError(
        f"population.peers={config.population.peers} with sac.replay_capacity="
        f"{capacity} does not fit into memory: {reason}"
    )


def free_memory(devices: int | None = None) -> float:
    """Bytes that this process can have now: of its accelerators, or of its machine.

    Several processes on one host are each told of the same main memory: together
    they can have it once.

    Args:
      devices: how many of this process's accelerators count, from the first; None
        is all. As much as the fullest has free is free on each.
    """
    used = jax.local_devices()[:devices]
    if used[0].platform != "cpu":
        components = [_device_room(device.memory_stats() or {}) for device in used]
        if None not in components:
            return len(components) * min(
                room for room in components if room is not None
            )
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free = 1024.0 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # another system
        return math.inf
    return min(free, _group_room())


def _device_room(statistics: dict[str, int]) -> float | None:
    """Bytes that a device has left, None where it does not tell."""
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)


def _group_room() -> float:
    """Bytes that the control group of this process has left."""
    try:
        limit, used = (
            float((_GROUP / f"memory.{name}").read_text("utf-8"))
            for name in ("max", "current")
        )
        lines = (_GROUP / "memory.stat").read_text("utf-8").splitlines()
        kinds = dict(line.split() for line in lines)
        # Pages of files that nobody has used for a while are given back on demand.
        return limit - used + float(kinds.get("inactive_file", 0))
    except (OSError, ValueError):  # no group, or limit "max"
        return math.inf


def program_memory(program: Any, devices: int) -> dict[str, int]:
    """Bytes of a compiled program over all devices; zeros where nobody tells."""
    analysis = program.memory_analysis()

    def ask(name: str) -> int:
        return devices * int(getattr(analysis, f"{name}_size_in_bytes", 0))

    arguments, temporaries = ask("argument"), ask("temp")
    outputs = max(0, ask("output") - ask("alias"))
    return {
        "arguments": arguments,
        "temporaries": temporaries,
        "outputs": outputs,
        "total": arguments + temporaries + outputs,
    }


def num_bytes(shapes: Any) -> int:
    """Bytes of all leaves; a typed key counts what it is made of."""

    def size(leaf: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return 8 * math.prod(leaf.shape)
        return leaf.dtype.itemsize * math.prod(leaf.shape)

    return sum(size(leaf) for leaf in jax.tree.leaves(shapes))


def readable(count: float) -> str:
    """Bytes in MB or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
