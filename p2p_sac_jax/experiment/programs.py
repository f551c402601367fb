"""The compiled programs of an experiment, and one chunk of training with them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxlib.version import __version__ as jaxlib_version

from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.experiment.device_memory import program_memory
from p2p_sac_jax.experiment.metrics import Row, chunk_rows
from p2p_sac_jax.peer import PeerState

# Half the compile time at the same speed: the programs are many small loops.
_CPU_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": "1"}
# A third less of it for code that runs up to a sixth slower; later jaxlibs have no
# other emitters to fall back on.
_CPU_QUICK_OPTIONS = _CPU_OPTIONS | (
    {"xla_cpu_use_fusion_emitters": False} if jaxlib_version < "0.11" else {}
)
# A run of fewer gradient updates takes less time to run than to compile.
QUICK_UPDATES = 100_000


class Programs(NamedTuple):
    """Compiled once each; see ``population.Population``. States are donated."""

    init: Any
    run_chunk: Any
    evaluate: Any
    pretrain_on_model: Any  # None where no peer joins late
    compile_s: float  # seconds
    extra_bytes: int  # that a chunk needs beside state and inputs, on all devices


def compile_programs(
    experiment: Experiment, updates: int | None = None
) -> tuple[PeerState, Programs]:
    """Compiles ahead of time, so that compile time is counted separately.

    The compiler uses about half of a core, so programs compile in parallel threads.

    Args:
      experiment: programs and inputs.
      updates: gradient updates that the programs will do in all; None is one run.

    Returns:
      The initial state [P, R, ...] and the programs.
    """
    population, config = experiment.population, experiment.config
    inputs = experiment.peer_inputs, experiment.run_inputs
    updates = _planned_updates(experiment) if updates is None else updates
    quick = updates < QUICK_UPDATES
    began = time.perf_counter()
    init = compile_program(population.init, inputs, quick=True)
    state = init(*inputs)
    arguments = state, *inputs, jnp.zeros((), jnp.int32)
    with ThreadPoolExecutor() as pool:

        def start(function: Any, quick: bool = True, **options: Any) -> Any:
            lowered = jax.jit(function, **options).lower(*arguments)
            return pool.submit(_compile, lowered, quick)

        run_chunk = start(population.run_chunk, quick, donate_argnums=0)
        evaluate = start(population.evaluate)
        pretrain_on_model = None
        if config.population.newcomers:
            pretrain_on_model = start(population.pretrain_on_model, donate_argnums=0)
        programs = Programs(
            init,
            run_chunk.result(),
            evaluate.result(),
            None if pretrain_on_model is None else pretrain_on_model.result(),
            compile_s=0.0,
            extra_bytes=0,
        )
    need = program_memory(programs.run_chunk, len(state.steps.devices()))
    return state, programs._replace(
        compile_s=time.perf_counter() - began,
        extra_bytes=need["total"] - need["arguments"],
    )


def train_chunk(
    experiment: Experiment, programs: Programs, state: PeerState, step: int
) -> tuple[PeerState, list[Row]]:
    """Trains ``evaluate_every`` steps from ``step`` on, and evaluates.

    Peers that join at ``step`` pretrain on their model first. ``state`` is donated.

    Returns:
      The state [P, R, ...] after the chunk, and its rows for ``metrics.jsonl``.
    """
    config, clock = experiment.config, jnp.asarray(step, jnp.int32)
    inputs = experiment.peer_inputs, experiment.run_inputs, clock
    if programs.pretrain_on_model is not None and step == config.population.join_step:
        state = programs.pretrain_on_model(state, *inputs)
    state, metrics = programs.run_chunk(state, *inputs)
    evaluation = programs.evaluate(state, *inputs)
    end = step + config.evaluate_every
    return state, chunk_rows(experiment, end, metrics, evaluation, state.trust)


def _planned_updates(experiment: Experiment) -> int:
    """Gradient updates of the whole run, all peers and runs."""
    config = experiment.config
    each = config.steps * config.sac.updates_per_step
    return each * config.population.peers * len(experiment.labels)


def compile_program(
    function: Any, arguments: tuple[Any, ...], *, quick: bool = False, **options: Any
) -> Any:
    """``function``, compiled with the options of a run.

    Args:
      function: to compile.
      arguments: arrays, or their shapes.
      quick: compile in less time, for programs that will not run for long.
      **options: of ``jax.jit``.
    """
    return _compile(jax.jit(function, **options).lower(*arguments), quick)


def _compile(lowered: Any, quick: bool) -> Any:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    options = _CPU_QUICK_OPTIONS if quick else _CPU_OPTIONS
    given = os.environ.get("XLA_FLAGS", "")  # the user's choice wins
    return lowered.compile(
        {name: value for name, value in options.items() if name not in given}
    )
