"""Where the time of a training loop goes, as JAX's own profiler sees it."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import TrainConfig

# Frames of Python, and what only waits for the rest.
_NOT_WORK = ("$", "ThunkExecutor", "PjitFunction", "Wait", "Execute", "while", "call")


def show_profile(config: TrainConfig, most: int = 15) -> None:
    """Prints where a loop runs and which operations take most of its time."""
    loop = TrainingLoop(config)
    print(f"{loop.placement.layout}, {loop.placement.devices} device(s)")
    print(f"{'operation':<44}{'calls':>8}{'ms':>10}{'share':>8}")
    operations = profile(loop)
    total = sum(seconds for _, _, seconds in operations)
    for name, calls, seconds in operations[:most]:
        share = seconds / total
        print(f"{name[:43]:<44}{calls:>8}{1e3 * seconds:>10.2f}{share:>8.1%}")


def profile(loop: TrainingLoop) -> list[tuple[str, int, float]]:
    """Name, calls and seconds of the operations of one chunk, the largest first.

    Seconds are over all calls and devices. Watching costs about a microsecond an
    operation, so many small ones look larger than they are; waiting and loops are
    left out, their bodies count.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    loop.run()  # a first run warms up
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            loop.run()
        for path in Path(folder).rglob("*.xplane.pb"):
            planes = jax.profiler.ProfileData.from_file(str(path)).planes
            for name, took in _events(list(planes)):
                seconds[name].append(took)
    found = [(name, len(took), sum(took)) for name, took in seconds.items()]
    return sorted(found, key=lambda one: one[2], reverse=True)


def _events(planes: Sequence[Any]) -> list[tuple[str, float]]:
    """Name and seconds of every operation in the planes of a trace.

    An accelerator has planes of its own, and in them a line of XLA's operations or
    one for each stream of kernels; where both are, they show the same work. On a
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
