"""Trains the missing runs of a grid, batch after batch; may be stopped at any time.

A run is finished or absent. A sweep that is killed and started again trains what is
missing only, and a run that several points share is trained once. Processes that share
a folder claim their runs, and wait for those of the others at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from p2p_sac_jax.ablation import results
from p2p_sac_jax.ablation.batch_training import TrainedBatch, train_batch
from p2p_sac_jax.ablation.grid import Grid, grid_points
from p2p_sac_jax.ablation.plan import (
    SERVER_THROUGHPUT,
    Batch,
    Plan,
    Shape,
    Throughput,
    batches_of,
    estimate_seconds,
    expected_throughput,
    make_plan,
    masked,
    run_seconds,
    shard_runs,
)
from p2p_sac_jax.ablation.runs import Run
from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.devices import find_devices, request_devices
from p2p_sac_jax.experiment.programs import Programs
from p2p_sac_jax.experiment.signals import Interrupted, StopRequest

_POLL_S = 1.0  # between two looks at runs that are computed elsewhere
_MIN_MEASURED_S = 2.0  # shorter batches do not measure throughput


class SweepOutcome(NamedTuple):
    """What one call of ``ablate`` did."""

    computed: int  # runs
    failed: int  # runs
    compilations: int
    seconds: float


def ablate(
    grid: Grid,
    folder: Path,
    *,
    name: str = "sweep",
    shard: tuple[int, int] = (0, 1),
    reporter: Reporter | None = None,
) -> SweepOutcome:
    """Trains every run of ``grid`` that ``folder`` does not hold yet.

    Args:
      grid: the sweep.
      folder: of the sweep, created if need be; see ``results``.
      name: of the sweep, for the report.
      shard: (i, n) trains the i-th of n shards of the grid.
      reporter: shows progress; None shows none.

    Raises:
      ConfigError: the folder cannot be used or holds another sweep.
      Interrupted: SIGINT or SIGTERM arrived.
    """
    reporter = reporter or Reporter(quiet=True)
    points = list(grid_points(grid))
    results.save_sweep(folder, name, grid, points)
    for point in points:
        if point.reason:
            values = " ".join(f"{name}={value}" for name, value in point.values.items())
            reporter.log(f"cannot run: {point.arm} {values}: {point.reason}")
    runs = {run.key: run for point in points for run in point.runs if run is not None}
    if not runs:
        return SweepOutcome(0, 0, 0, 0.0)
    request_devices(grid.config)
    find_devices(grid.config)
    use_compilation_cache()
    # Shards are cut from the whole grid, finished or not: all processes agree on them.
    mine = shard_runs(make_plan(runs.values(), SERVER_THROUGHPUT), *shard)
    missing = [run for run in mine if not results.is_done(folder, run)]
    throughput = expected_throughput()
    plan = make_plan(missing, throughput)
    named = sum(run is not None for point in points for run in point.runs)
    reporter.log(
        f"{len(points)} points, {named} results, {len(mine)} different runs, "
        f"{len(mine) - len(missing)} finished, {len(missing)} to compute"
    )
    if missing:
        batches = batches_of(plan)
        seconds, programs = estimate_seconds(batches, throughput)
        reporter.log(
            f"{len(batches)} batches, at most {programs} programs, "
            f"about {_readable_time(seconds)}"
        )
    with StopRequest() as stop:
        return _SweepTrainer(folder, reporter, stop, mine, throughput).train(plan)


def _readable_time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class _SweepTrainer:
    """The loop over batches, with what it has measured of the machine so far."""

    def __init__(
        self,
        folder: Path,
        reporter: Reporter,
        stop: StopRequest,
        runs: Sequence[Run],
        throughput: Throughput,
    ) -> None:
        self._folder, self._reporter, self._stop = folder, reporter, stop
        self._runs, self._throughput = runs, throughput
        self._compiled: dict[Shape, Programs] = {}
        self._waiting: list[Batch] = []
        self._elsewhere: list[Run] = []  # claimed by other processes
        self._computed = self._failed = self._compilations = 0

    def train(self, plan: Plan) -> SweepOutcome:
        began = time.perf_counter()
        self._train_plan(plan)
        if self._elsewhere:
            self._reporter.log(f"{len(self._elsewhere)} runs are computed elsewhere")
        while self._elsewhere:  # a process that dies leaves its runs to this one
            self._on_chunk(0, 1)
            time.sleep(_POLL_S)
            runs, self._elsewhere = self._elsewhere, []
            self._train_plan(make_plan(runs, self._throughput))
        seconds = time.perf_counter() - began
        return SweepOutcome(self._computed, self._failed, self._compilations, seconds)

    def _train_plan(self, plan: Plan) -> None:
        self._waiting = batches_of(plan)
        for family in plan:
            larger: list[Batch] = []  # of the family, with a compiled program
            for batch in family:
                self._waiting.remove(batch)
                for part in self._masked_if_cheaper(batch, larger):
                    if self._train_claimed(part):
                        larger.append(part)

    def _train_claimed(self, batch: Batch) -> bool:
        """Trains those runs of a batch that no other process computes."""
        with ExitStack() as claims:
            mine = []
            for run in batch.runs:
                claim = results.claim_run(self._folder, run.key)
                if claim is None:
                    self._elsewhere.append(run)
                    continue
                claims.enter_context(claim)
                if not results.is_done(self._folder, run):
                    mine.append(run)
            return bool(mine) and self._train_batch(batch._replace(runs=mine))

    def _masked_if_cheaper(self, batch: Batch, larger: Sequence[Batch]) -> list[Batch]:
        """``batch`` in a program of its own, or masked in one of more peers."""
        if batch.shape in self._compiled or not larger:
            return [batch]

        def seconds(parts: list[Batch]) -> float:
            return sum(run_seconds(part, self._throughput) for part in parts)

        parts = min((masked(batch, program) for program in larger), key=seconds)
        own, shared = self._throughput.compile_s + seconds([batch]), seconds(parts)
        self._reporter.log(
            f"{batch.peers} peers: {shared:.0f} s masked to {parts[0].peers}, "
            f"{own:.0f} s in a program of their own"
        )
        return parts if shared < own else [batch]

    def _train_batch(self, batch: Batch) -> bool:
        """Trains and saves one batch; an error fails its runs only."""
        same = [other for other in self._waiting if other.shape == batch.shape]
        updates = batch.updates + sum(other.updates for other in same)
        try:
            trained = train_batch(batch, self._compiled, updates, self._on_chunk)
        except Interrupted:
            raise
        except Exception as error:  # any error: the other batches are trained
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            self._save_failures([(run, reason) for run in batch.runs])
            return False
        self._save_failures(trained.failures)
        for run, result in trained.results:
            results.save_run(self._folder, run.key, result)
        self._computed += len(trained.results)
        self._measure(batch, trained)
        left, _ = estimate_seconds(self._waiting, self._throughput, self._compiled)
        self._reporter.log(
            f"{len(batch.runs)} runs of {batch.runs[0].config.population.peers} "
            f"peers: compiled in {trained.compile_s:.1f} s, ran "
            f"{trained.run_s:.1f} s; at most {_readable_time(left)} left"
        )
        return True

    def _save_failures(self, failures: Sequence[tuple[Run, str]]) -> None:
        for run, reason in failures:
            results.save_failure(self._folder, run.key, reason)
        self._failed += len(failures)
        for reason in dict.fromkeys(reason for _, reason in failures):
            count = sum(other == reason for _, other in failures)
            self._reporter.log(f"failed: {count} runs: {reason}")

    def _measure(self, batch: Batch, trained: TrainedBatch) -> None:
        """Updates the throughput from what a batch took."""
        if trained.compile_s > 0:
            self._compilations += 1
            self._throughput = self._throughput._replace(compile_s=trained.compile_s)
        if trained.run_s > _MIN_MEASURED_S:
            update_s = trained.run_s / max(batch.work, 1e-9)
            self._throughput = self._throughput._replace(update_s=update_s)

    def _on_chunk(self, step: int, steps: int) -> None:
        if self._stop.signal and step < steps:
            finished = sum(results.is_done(self._folder, run) for run in self._runs)
            saved = f"{finished} of {len(self._runs)} runs finished"
            raise Interrupted(self._stop.signal, saved)
