"""Trains one batch of runs in one compiled program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.ablation.plan import Batch, Shape
from p2p_sac_jax.ablation.results import RunResult
from p2p_sac_jax.ablation.run_curves import curves_of_rows
from p2p_sac_jax.ablation.runs import Run
from p2p_sac_jax.ablation.uniform_price import best_uniform_price
from p2p_sac_jax.arms import RunSpec
from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.config_io import to_dict
from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.experiment.build import Experiment, adjacency_of, build_experiment
from p2p_sac_jax.experiment.device_memory import check_fits, state_memory
from p2p_sac_jax.experiment.devices import Placement, choose_placement
from p2p_sac_jax.experiment.divergence import describe_divergence
from p2p_sac_jax.experiment.input_files import digests, read_inputs
from p2p_sac_jax.experiment.metrics import Row
from p2p_sac_jax.experiment.programs import Programs, compile_programs, train_chunk
from p2p_sac_jax.experiment.provenance import describe_run

_FILLER = ""  # label of the runs that fill a batch up to its size
_PROVENANCE = (
    "versions",
    "platform",
    "device_kind",
    "layout",
    "layout_devices",
    "git_commit",
    "git_dirty",
    "started",
)


class TrainedBatch(NamedTuple):
    """The results of a batch."""

    results: list[tuple[Run, RunResult]]
    failures: list[tuple[Run, str]]  # with the reason
    compile_s: float
    run_s: float


def train_batch(
    batch: Batch,
    compiled: dict[Shape, Programs],
    updates: int,
    on_chunk: Callable[[int, int], None],
) -> TrainedBatch:
    """Trains a batch from the first step to the last.

    Args:
      batch: its runs, and the size of its program.
      compiled: programs by shape; new ones are added.
      updates: gradient updates that a new program will do in this and later batches.
      on_chunk: called with (steps done, steps in all) after every chunk; an exception
        that it raises ends the batch.

    Raises:
      ConfigError: a run is impossible, or the batch does not fit into memory.
    """
    inputs = {run.key: read_inputs(run.config) for run in batch.runs}
    experiment, placement = _build(batch)
    config = experiment.config
    compile_s = 0.0
    if batch.shape in compiled:
        programs = compiled[batch.shape]
        state = programs.init(experiment.peer_inputs, experiment.run_inputs)
    else:
        state, programs = compile_programs(experiment, updates)
        check_fits(config, "the program", programs.extra_bytes)
        compiled[batch.shape], compile_s = programs, programs.compile_s
    began = time.perf_counter()
    rows: dict[str, list[Row]] = {}
    for step in range(0, config.steps, config.evaluate_every):
        state, new = train_chunk(experiment, programs, state, step)
        for row in new:
            rows.setdefault(row["run"], []).append(row)
        on_chunk(step + config.evaluate_every, config.steps)
    trained = TrainedBatch([], [], compile_s, time.perf_counter() - began)
    meta = _shared_meta(batch, experiment, placement, trained)
    joins = np.asarray(experiment.run_inputs.senders.joins)[: config.population.peers]
    for run in batch.runs:
        diverged = next((row for row in rows[run.key] if "diverged" in row), None)
        if diverged:
            trained.failures.append((run, describe_divergence(diverged)))
            continue
        curves = curves_of_rows(rows[run.key], joins, experiment.byzantine)
        own = {
            "config": to_dict(run.config),
            "seed": run.config.seed,
            "adjacency": adjacency_of(run.config, inputs[run.key]).astype(int).tolist(),
            "inputs": digests(inputs[run.key]),
            "names": list(experiment.worlds[run.config.seed].names),
            "uniform_fraction": _uniform_fraction(
                run.config.environment,
                run.config.population,
                run.config.evaluation_weeks,
                run.config.seed if run.config.population.drawn_by_seed else 0,
            ),
        }
        trained.results.append((run, RunResult(own | meta, curves)))
    return trained


def _build(batch: Batch) -> tuple[Experiment, Placement]:
    """The inputs of a batch; nothing is compiled yet."""
    # The settings of an isolated run are canonical: take those of a networked one.
    networked = [run for run in batch.runs if not run.isolated]
    config = (networked or batch.runs)[0].config
    peers = batch.runs[0].config.population
    if batch.pad_to:
        peers = dataclasses.replace(peers, pad_to=batch.pad_to)
    config = dataclasses.replace(config, population=peers)
    specs = [RunSpec(r.key, r.config.seed, r.config, r.isolated) for r in batch.runs]
    specs += [specs[-1]._replace(label=_FILLER)] * (batch.size - len(specs))
    placement = choose_placement(config, len(specs))
    experiment = build_experiment(config, placement, runs=specs)
    what = f"a batch of {batch.size} runs"
    check_fits(config, what, state_memory(experiment).state)
    return experiment, placement


def _shared_meta(
    batch: Batch, experiment: Experiment, placement: Placement, trained: TrainedBatch
) -> dict[str, Any]:
    """What the ``run.json`` of all runs of a batch have in common."""
    described = describe_run(experiment, placement)
    return {
        "batch_runs": batch.size,
        "masked_to": batch.pad_to,
        **{name: described[name] for name in _PROVENANCE},
        "run_s": trained.run_s / batch.size,
        "compile_s": trained.compile_s / batch.size,
    }


@cache
def _uniform_fraction(
    environment: EnvironmentConfig,
    population: PopulationConfig,
    weeks: int,
    seed: int,
) -> list[float] | None:
    """[P] share of the oracle's profit at the best constant price; None unsold."""
    world = make_world(environment, population, seed)
    if world.environment.demand is None:
        return None
    return best_uniform_price(world, weeks, seed=0)[1].tolist()
