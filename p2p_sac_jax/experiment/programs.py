"""The compiled programs of a run, and the time compiling them took."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.experiment.setup import Setup
from p2p_sac_jax.peer import PeerState

# Half the compile time at the same speed: the programs are many small loops.
_CPU_OPTIONS: Any = {"xla_backend_optimization_level": "1"}


class Programs(NamedTuple):
    """Compiled once each; see ``population.Population``. States are donated."""

    run_chunk: Any
    evaluate: Any
    rehearse: Any  # None where nobody joins late
    seconds: float  # spent compiling


def compile_programs(setup: Setup) -> tuple[PeerState, Programs]:
    """Compiles ahead of time, so that compiling is seen and counted apart.

    Returns:
      The initial state [P, R, ...], and the programs that move it.
    """
    population, newcomers = setup.population, setup.config.population.newcomers
    inputs = setup.members, setup.runs
    began = time.perf_counter()
    state = compile_program(population.init, inputs)(*inputs)
    arguments = state, *inputs, jnp.zeros((), jnp.int32)
    run_chunk = compile_program(population.run_chunk, arguments, donate_argnums=0)
    evaluate = compile_program(population.evaluate, arguments)
    rehearse = None
    if newcomers:
        rehearse = compile_program(population.rehearse, arguments, donate_argnums=0)
    seconds = time.perf_counter() - began
    return state, Programs(run_chunk, evaluate, rehearse, seconds)


def compile_program(function: Any, arguments: tuple[Any, ...], **options: Any) -> Any:
    """``function``, compiled for these arguments as every program of a run is."""
    lowered = jax.jit(function, **options).lower(*arguments)
    on_cpu = jax.default_backend() == "cpu"
    return lowered.compile(compiler_options=_CPU_OPTIONS if on_cpu else None)
