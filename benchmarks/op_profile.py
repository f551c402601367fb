"""Where the time of a training loop goes, as JAX's own profiler sees it."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig

# Frames of Python, and what only waits for the rest.
_NOT_WORK = ("$", "ThunkExecutor", "PjitFunction", "Wait", "Execute", "while", "call")


class Operation(NamedTuple):
    """One operation of the compiled program."""

    name: str  # as the compiler calls it
    calls: int
    seconds: float  # over all calls and devices
    share: float  # of all operations


def show_profile(config: TrainConfig) -> None:
    """Prints where a loop runs and which operations take most of its time."""
    loop = TrainingLoop(config)
    print(f"{loop.placement.layout}, {loop.placement.devices} device(s)")
    print(table(profile(loop)), flush=True)


def profile(loop: TrainingLoop, most: int = 15) -> list[Operation]:
    """The operations that take most of one chunk, which trains on as ``run`` does.

    Watching costs about a microsecond an operation, so many small ones look larger
    than they are; waiting and loops are left out, their bodies count.

    Args:
      loop: a compiled loop.
      most: number of operations.

    Returns:
      The largest first; fewer, or none, where the profiler sees no operations.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    seconds: dict[str, float] = collections.defaultdict(float)
    calls: collections.Counter[str] = collections.Counter()
    loop.run()  # a first run warms up
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            loop.run()
        for path in Path(folder).rglob("*.xplane.pb"):
            planes = jax.profiler.ProfileData.from_file(str(path)).planes
            for name, took in _events(list(planes)):
                seconds[name] += took
                calls[name] += 1
    total = sum(seconds.values())
    largest = sorted(seconds.items(), key=lambda pair: pair[1], reverse=True)
    return [
        Operation(name, calls[name], took, took / total)
        for name, took in largest[:most]
    ]


def table(operations: list[Operation]) -> str:
    """The operations as lines to print."""
    lines = [f"{'operation':<44}{'calls':>8}{'ms':>10}{'share':>8}"]
    for one in operations:
        lines.append(
            f"{one.name[:43]:<44}{one.calls:>8}{1e3 * one.seconds:>10.2f}"
            f"{one.share:>8.1%}"
        )
    return "\n".join(lines)


def _events(planes: Sequence[Any]) -> list[tuple[str, float]]:
    """Name and seconds of every operation in the planes of a trace.

    An accelerator has planes of its own, and in them a line of XLA's operations or
    one for each stream of kernels; where both are, they tell of the same work. On a
    CPU operations are mixed with what the host does, whose names have "::".
    """
    lines = _lines(planes, "/device:", "XLA Ops")
    lines = lines or _lines(planes, "/device:", "Stream")
    on_device = bool(lines)
    return [
        (event.name, event.duration_ns / 1e9)
        for line in lines or _lines(planes, "/host:CPU", "")
        for event in line.events
        if not event.name.startswith(_NOT_WORK)
        and (on_device or "::" not in event.name)
    ]


def _lines(planes: Sequence[Any], plane_prefix: str, line_prefix: str) -> list[Any]:
    return [
        line
        for plane in planes
        if plane.name.startswith(plane_prefix)
        for line in plane.lines
        if line.name.startswith(line_prefix)
    ]
