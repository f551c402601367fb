"""Computes one batch of cells in one compiled program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.ablation.plan import Batch, Shape, shape_of
from p2p_sac_jax.ablation.run_curves import Curves, gather
from p2p_sac_jax.ablation.runs import Cell
from p2p_sac_jax.ablation.uniform_price import best_uniform_price
from p2p_sac_jax.config import (
    ConfigError,
    EnvironmentConfig,
    PopulationConfig,
    TrainConfig,
)
from p2p_sac_jax.config_io import to_dict
from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.experiment import provenance
from p2p_sac_jax.experiment.build import Experiment, adjacency_of, build_experiment
from p2p_sac_jax.experiment.chunk import advance
from p2p_sac_jax.experiment.device_memory import check_fits, state_memory
from p2p_sac_jax.experiment.devices import Placement, choose_placement
from p2p_sac_jax.experiment.metrics import Row
from p2p_sac_jax.experiment.programs import Programs, compile_programs
from p2p_sac_jax.hyper import RunSpec

_FILLER = ""  # label of a run that makes up the number


class Prepared(NamedTuple):
    """A batch with its inputs; nothing is compiled yet."""

    batch: Batch
    setup: Experiment
    placement: Placement
    need: int  # bytes of state


class Finished(NamedTuple):
    """What came out of a batch."""

    cells: list[tuple[Cell, dict[str, Any], Curves]]
    compile_s: float
    run_s: float


def prepare(batch: Batch) -> Prepared:
    """Builds the inputs of a batch.

    Raises:
      ConfigError: a cell cannot run, or the state does not fit into memory.
    """
    config = batch.cells[0].config
    if batch.pad_to:
        population = dataclasses.replace(config.population, pad_to=batch.pad_to)
        config = dataclasses.replace(config, population=population)
    runs = [RunSpec(c.key, c.config.seed, c.config, c.isolated) for c in batch.cells]
    runs += [runs[-1]._replace(label=_FILLER)] * (batch.size - len(runs))
    placement = choose_placement(config, len(runs))
    setup = build_experiment(_heard(config, batch.cells), placement, planned=runs)
    need = state_memory(setup)
    check_fits(config, f"a batch of {batch.size} runs", need.state)
    return Prepared(batch, setup, placement, need.state)


def _heard(config: TrainConfig, cells: Sequence[Cell]) -> TrainConfig:
    """The settings of whoever hears somebody: those of the isolated ones are blank."""
    heard = next((cell.config for cell in cells if not cell.isolated), config)
    return dataclasses.replace(heard, population=config.population)


def compute(
    prepared: Prepared,
    compiled: dict[Shape, Programs],
    updates: int,
    on_chunk: Callable[[int, int], None],
) -> Finished:
    """Runs a batch from the first step to the last.

    Args:
      prepared: the batch.
      compiled: programs by shape; new ones are added.
      updates: gradient updates that a new program will do in this and later batches.
      on_chunk: called with (steps done, steps in all) after every chunk; what it
        raises ends the batch.

    Raises:
      ConfigError: the program does not fit into memory.
    """
    setup, batch = prepared.setup, prepared.batch
    config, shape = setup.config, shape_of(batch)
    compile_s = 0.0
    if shape in compiled:
        programs = compiled[shape]
        state = programs.init(setup.peer_inputs, setup.run_inputs)
    else:
        state, programs = compile_programs(setup, updates)
        check_fits(config, "the program", programs.beside)
        compiled[shape], compile_s = programs, programs.seconds
    began = time.perf_counter()
    rows: list[Row] = []
    for step in range(0, config.steps, config.evaluate_every):
        state, new = advance(setup, programs, state, step)
        rows += new
        on_chunk(step + config.evaluate_every, config.steps)
    run_s = time.perf_counter() - began
    taken = {"run_s": run_s / batch.size, "compile_s": compile_s / batch.size}
    described = _described(prepared) | taken
    by_cell: dict[str, list[Row]] = {}
    for row in rows:
        by_cell.setdefault(row["run"], []).append(row)
    joins = np.asarray(setup.run_inputs.senders.joins)[: config.population.peers]
    return Finished(
        [
            (
                cell,
                _meta(cell, described),
                _finite(cell, gather(by_cell[cell.key], joins, setup.byzantine)),
            )
            for cell in batch.cells
        ],
        compile_s,
        run_s,
    )


def _finite(cell: Cell, curves: Curves) -> Curves:
    """Refuses a population that left the numbers behind."""
    late = np.isfinite(curves.score[-1])
    if not late.all():
        peers = np.flatnonzero(~late).tolist()
        raise ConfigError(f"cell {cell.key}: peers {peers} end without a finite score")
    return curves


def _meta(cell: Cell, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": to_dict(cell.config),
        "seed": cell.config.seed,
        "adjacency": adjacency_of(cell.config).astype(int).tolist(),
        **described,
    }


@cache
def _uniform(
    environment: EnvironmentConfig, population: PopulationConfig, weeks: int
) -> list[float] | None:
    """[P] what the best constant price earns, a share of the oracle's; None unsold."""
    world = make_world(environment, population)
    if world.environment.demand is None:
        return None
    return best_uniform_price(world, weeks, seed=0)[1].tolist()


def _described(prepared: Prepared) -> dict[str, Any]:
    """What the cells of a batch have in common, for whoever asks later."""
    config = prepared.batch.cells[0].config
    whole = provenance.describe(prepared.setup, prepared.placement)
    names = ("versions", "platform", "device_kind", "layout", "layout_devices")
    commit = ("git_commit", "git_dirty", "started")
    return {
        "names": list(prepared.setup.world.names),
        "uniform_fraction": _uniform(
            config.environment, config.population, config.evaluation_weeks
        ),
        "batch_runs": prepared.batch.size,
        "masked_to": prepared.batch.pad_to,
        **{name: whole.get(name) for name in (*names, *commit)},
    }
