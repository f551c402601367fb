"""SAC implementations of other libraries, in an environment of their own.

Only ``benchmarks.bench_peers`` imports this folder. Each module imports its library
when it is called, after JAX has been given its devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Workload(NamedTuple):
    """What each agent does: one gradient update after each environment step."""

    peers: int  # P, agents with networks and replay of their own
    hidden: int  # width of both hidden layers, relu
    batch: int  # replay rows per update
    replay: int  # rows kept by each agent


class TrainingProgram(NamedTuple):
    """A training program that continues from where its last call stopped."""

    run: Callable[[int], int]  # chunks -> gradient updates done, over all agents
    compile_s: float  # seconds of compiling; 0 where nothing is compiled
