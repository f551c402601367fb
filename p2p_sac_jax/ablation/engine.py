"""Computes what is missing of a grid, batch after batch, and may be stopped anywhere.

A cell is finished or it is not there: a sweep that is killed and run again computes
only what is missing, and a cell that several points share is computed once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_sac_jax.ablation import plan
from p2p_sac_jax.ablation import results as files
from p2p_sac_jax.ablation.batch_training import compute, prepare
from p2p_sac_jax.ablation.grid import Grid, Point, points
from p2p_sac_jax.ablation.plan import Batch, Shape, Throughput, shape_of
from p2p_sac_jax.ablation.runs import Cell
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import load_json, save_json, to_dict
from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.device_memory import free_memory, readable
from p2p_sac_jax.experiment.devices import find_devices, request_devices
from p2p_sac_jax.experiment.programs import Programs
from p2p_sac_jax.experiment.signals import Interrupted, StopRequest

_TELLING_S = 2.0  # a batch that took less tells nothing of the pace


class Outcome(NamedTuple):
    """What one call did."""

    computed: int
    failed: int
    compilations: int
    seconds: float


class Stopped(Interrupted):
    """A signal ended a sweep between two chunks; finished cells are kept."""

    def __init__(self, number: int, finished: int, cells: int) -> None:
        """``finished`` of ``cells`` need not be computed again."""
        name = signal.Signals(number).name
        Exception.__init__(
            self, f"{name}: {finished} of {cells} cells finished; run again to go on"
        )
        self.exit_status = 128 + number


def ablate(
    grid: Grid,
    folder: Path,
    *,
    name: str = "sweep",
    share: tuple[int, int] = (0, 1),
    reporter: Reporter | None = None,
) -> Outcome:
    """Computes every cell of ``grid`` that ``folder`` does not hold yet.

    Args:
      grid: what is asked.
      folder: of the sweep, created if need be; see ``files``.
      name: of the sweep, for the report.
      share: (i, n) computes the i-th of n shares of what the grid holds.
      reporter: tells how it goes; None is silent.

    Raises:
      ConfigError: the folder cannot be used or holds another sweep, or a batch does
        not fit into memory.
      Stopped: SIGINT or SIGTERM arrived.
    """
    reporter = reporter or Reporter(quiet=True)
    asked = list(points(grid))
    _note_sweep(grid, asked, folder, name)
    for point in asked:
        if point.reason:
            reporter.log(f"cannot run: {point.arm} {_words(point)}: {point.reason}")
    cells = {c.key: c for p in asked for c in p.cells if c is not None}
    if not cells:
        return Outcome(0, 0, 0, 0.0)
    request_devices(grid.config)
    find_devices(grid.config)
    use_compilation_cache()
    # Shares are cut from the whole grid, finished or not: all processes cut alike.
    whole = plan.make_batches(cells.values(), plan.DEFAULT_THROUGHPUT)
    mine = [
        cell
        for family in plan.share(whole, *share)
        for batch in family
        for cell in batch.cells
    ]
    todo = [cell for cell in mine if not _is_done(folder, cell)]
    pace = plan.known_pace()
    batches = plan.make_batches(todo, pace)
    _announce(reporter, asked, mine, batches, pace)
    with StopRequest() as stop:
        return _Work(folder, reporter, stop, mine, pace).run(batches)


def _is_done(folder: Path, cell: Cell) -> bool:
    return files.is_done(folder, cell.key, cell.config)


def _words(point: Point) -> str:
    return " ".join(f"{name}={value}" for name, value in point.values.items())


def _note_sweep(grid: Grid, asked: Sequence[Point], folder: Path, name: str) -> None:
    """Writes ``sweep.json``; a wider sweep may take the place of an earlier one."""
    content: dict[str, Any] = {
        "name": name,
        "config": to_dict(grid.config),
        "factors": grid.factors,
        "arms": grid.arms,
        "seeds": grid.seeds,
        "points": [
            {
                "arm": point.arm,
                "values": point.values,
                "cells": [None if c is None else c.key for c in point.cells],
                "reason": point.reason,
            }
            for point in asked
        ],
    }
    path = folder / files.SWEEP
    if path.exists() and load_json(path).get("name") != name:
        raise ConfigError(
            f"workdir={str(folder)!r} holds the sweep {load_json(path).get('name')!r},"
            f" not {name!r}; choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_json(path, content)
    except OSError as error:
        raise ConfigError(
            f"workdir={str(folder)!r} cannot be used: {error.strerror}"
        ) from error


def _announce(
    reporter: Reporter,
    asked: Sequence[Point],
    mine: Sequence[Cell],
    batches: Sequence[Sequence[Batch]],
    pace: Throughput,
) -> None:
    """What there is to do, how long it will take, and whether it fits."""
    named = sum(cell is not None for point in asked for cell in point.cells)
    todo = sum(len(batch.cells) for family in batches for batch in family)
    reporter.log(
        f"{len(asked)} points, {named} results, {len(mine)} different cells to have, "
        f"{len(mine) - todo} finished, {todo} to compute"
    )
    if not todo:
        return
    seconds, programs = plan.estimate(batches, pace)
    largest = max(
        prepare(batch).need for batch in _one_of_each(batches)
    )  # raises where it cannot fit
    count = sum(map(len, batches))
    reporter.log(
        f"{count} batches, at most {programs} programs, about {_minutes(seconds)};"
        f" memory: {readable(largest)} of state at most, {readable(free_memory())} free"
    )


def _one_of_each(batches: Sequence[Sequence[Batch]]) -> list[Batch]:
    return list({shape_of(b): b for family in batches for b in family}.values())


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class _Work:
    """The loop over batches, and what it has learned of the machine so far."""

    def __init__(
        self,
        folder: Path,
        reporter: Reporter,
        stop: StopRequest,
        cells: Sequence[Cell],
        pace: Throughput,
    ) -> None:
        self._folder, self._reporter, self._stop = folder, reporter, stop
        self._cells, self._pace = cells, pace
        self._compiled: dict[Shape, Programs] = {}
        self._left: list[Batch] = []  # not yet begun
        self._done = self._failed = self._compilations = 0

    def run(self, batches: Sequence[Sequence[Batch]]) -> Outcome:
        began = time.perf_counter()
        self._left = [batch for family in batches for batch in family]
        for family in batches:
            programs: list[Batch] = []  # of the family, compiled
            for batch in family:
                self._left.remove(batch)
                for part in self._masked_if_cheaper(batch, programs):
                    if self._attempt(part):
                        programs.append(part)
        seconds = time.perf_counter() - began
        return Outcome(self._done, self._failed, self._compilations, seconds)

    def _masked_if_cheaper(
        self, batch: Batch, programs: Sequence[Batch]
    ) -> list[Batch]:
        """``batch`` in a program of its own, or masked in one of more peers."""
        if shape_of(batch) in self._compiled:
            return [batch]
        ways = [
            parts
            for parts in (plan.masked(batch, program) for program in programs)
            if shape_of(parts[0]) in self._compiled
        ]
        if not ways:
            return [batch]

        def seconds(parts: list[Batch]) -> float:
            return sum(map(self._pace.of, parts))

        parts = min(ways, key=seconds)
        own, shared = self._pace.compile_s + seconds([batch]), seconds(parts)
        self._reporter.log(
            f"{batch.peers} peers: {shared:.0f} s masked to {parts[0].peers}, "
            f"{own:.0f} s in a program of their own"
        )
        return parts if shared < own else [batch]

    def _attempt(self, batch: Batch) -> bool:
        """One batch; its error is noted for every cell, and the sweep goes on."""
        same = [other for other in self._left if shape_of(other) == shape_of(batch)]
        updates = batch.updates + sum(other.updates for other in same)
        try:
            finished = compute(prepare(batch), self._compiled, updates, self._on_chunk)
        except Stopped:
            raise
        except Exception as error:  # whatever it is, the other batches go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            for cell in batch.cells:
                files.save_failure(self._folder, cell.key, reason)
            self._failed += len(batch.cells)
            self._reporter.log(f"failed: {len(batch.cells)} cells: {reason}")
            return False
        for cell, meta, curves in finished.cells:
            files.save_cell(self._folder, cell.key, meta, curves)
        self._done += len(batch.cells)
        self._compilations += finished.compile_s > 0
        if finished.compile_s > 0:  # a later one would tell nothing of compiling
            self._pace = self._pace._replace(compile_s=finished.compile_s)
        if finished.run_s > _TELLING_S:
            self._pace = plan.measured_pace(batch, finished.run_s, self._pace.compile_s)
            plan.note_pace(self._pace)
        left, _ = plan.estimate([self._left], self._pace, set(self._compiled))
        self._reporter.log(
            f"{len(batch.cells)} cells of {batch.cells[0].config.population.peers} "
            f"peers: compiled in {finished.compile_s:.1f} s, ran "
            f"{finished.run_s:.1f} s; at most {_minutes(left)} left"
        )
        return True

    def _on_chunk(self, step: int, steps: int) -> None:
        if self._stop.signal and step < steps:
            finished = sum(_is_done(self._folder, c) for c in self._cells)
            raise Stopped(self._stop.signal, finished, len(self._cells))
