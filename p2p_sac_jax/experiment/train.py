"""Training: a Python loop over one compiled chunk, safe to kill at any moment.

The order at the end of a chunk is rows first, checkpoint second; resume takes the
newest checkpoint and forgets the rows after it, so that rows and state always
tell the same story, whatever moment the process died at.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import (
    config_hash,
    differing_fields,
    load_json,
    save_json,
    to_dict,
)
from p2p_sac_jax.experiment import distributed, provenance
from p2p_sac_jax.experiment.build import Experiment, build_experiment
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.chunk import advance
from p2p_sac_jax.experiment.compilation_cache import cache_folder, use_compilation_cache
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.demand_curves import demand_curves
from p2p_sac_jax.experiment.device_memory import (
    check_fits,
    free_memory,
    readable,
    state_memory,
)
from p2p_sac_jax.experiment.devices import (
    choose_placement,
    find_devices,
    request_devices,
)
from p2p_sac_jax.experiment.metrics import MetricsFile
from p2p_sac_jax.experiment.privacy_budget import exhausted_budgets
from p2p_sac_jax.experiment.programs import compile_programs
from p2p_sac_jax.experiment.signals import Interrupted, StopRequest
from p2p_sac_jax.experiment.summary import (
    closing_table,
    measured_channels,
    summarise,
)
from p2p_sac_jax.experiment.timing import Account, rates
from p2p_sac_jax.report import write_report
from p2p_sac_jax.validation import validate

Summary = dict[str, Any]


def train(
    config: TrainConfig,
    workdir: str | Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Summary:
    """Trains every arm at every seed, or goes on where an earlier call stopped.

    Args:
      config: what to run; see ``docs/configuration.md``.
      workdir: folder of the run, created if need be. It will hold ``run.json``,
        ``metrics.jsonl``, ``checkpoints/``, ``times.json``, ``summary.json``,
        ``stores.json`` and ``report.html``.
      overwrite: remove an earlier run in ``workdir`` first.
      quiet: print nothing.

    Returns:
      The content of ``summary.json``. A finished run returns at once.

    Where ``distributed.start`` has connected several processes, each of them must
    call this alike; process 0 alone uses ``workdir`` and prints.

    Raises:
      ConfigError: the configuration cannot run, or ``workdir`` cannot be used or
        holds another run.
      Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    validate(config)
    request_devices(config)
    if distributed.processes() > 1:
        find_devices(config)  # without which the processes could not talk
        distributed.check_same("configuration", config_hash(config))
    workdir, reporter = Path(workdir), Reporter(quiet or not distributed.is_main())
    earlier, finished = distributed.broadcast_from_main(
        lambda: _look(config, workdir, overwrite)
    )
    if finished:
        reporter.log(f"{workdir} is finished; --overwrite starts it anew")
        return _present(reporter, workdir)
    started = time.perf_counter()
    use_compilation_cache()
    placement = distributed.run_on_all(lambda: choose_placement(config))
    setup = distributed.run_on_all(lambda: build_experiment(config, placement))
    need = state_memory(setup)
    local = placement.local_devices
    reporter.log(f"memory: {need}; {readable(free_memory(local))} free")
    distributed.run_on_all(lambda: check_fits(config, "the state", need.state, local))
    description = provenance.describe(setup, placement)
    # From here on nothing is wrong with the request: an old run may go.
    distributed.broadcast_from_main(lambda: _make_folder(workdir, overwrite))
    if earlier is None:
        _save(workdir / "run.json", description)
    else:
        _warn_if_moved(reporter, earlier, description)
    checkpoints = Checkpoints(workdir, config.population.peers)
    try:
        with StopRequest() as stop:
            _train(setup, workdir, checkpoints, reporter, stop, started)
    finally:
        checkpoints.close()
    return _present(reporter, workdir)


def _train(
    setup: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    reporter: Reporter,
    stop: StopRequest,
    started: float,
) -> None:
    """From the newest checkpoint to the end, and the files that tell of it."""
    config = setup.config
    state, programs = compile_programs(setup)
    distributed.run_on_all(lambda: check_fits(config, "the program", programs.beside))
    distributed.barrier()
    reporter.log(
        f"{config.population.peers} peers x {len(setup.labels)} runs on "
        f"{len(state.steps.devices())} {jax.default_backend()} device(s)"
        f"{_of_processes()}; "
        f"compiled in {programs.seconds:.1f} s, kept in {cache_folder()}"
    )
    start = checkpoints.latest() or 0
    if start:
        state = checkpoints.restore(start, state)
        reporter.log(f"resuming at step {start}")
    metrics_file = MetricsFile(workdir / "metrics.jsonl", start)
    account = Account(workdir, start, started)
    account.start_running(programs.seconds)
    with reporter:
        for step in range(start, config.steps, config.evaluate_every):
            state, rows = advance(setup, programs, state, step)
            for line in exhausted_budgets(setup, metrics_file.rows, rows):
                reporter.log(line)
            metrics_file.append(rows)
            done = step + config.evaluate_every
            planned = done % config.checkpoint_every == 0 or done == config.steps
            signal = distributed.allreduce_max(
                stop.signal
            )  # of whichever process got one
            if planned or signal:
                checkpoints.save(done, state)
                account.note(done)
            if signal and done < config.steps:
                raise Interrupted(signal, done)
            reporter.advance(done, config.steps, _note(rows))
    _save(workdir / "stores.json", demand_curves(setup, state))
    times = account.times()
    summary = {
        "config_hash": config_hash(config),
        **times,
        **rates(state, config.population.peers, times["run_s"]),
        **summarise(config, metrics_file.rows),
        "channels": measured_channels(metrics_file.rows, provenance.channels(config)),
    }
    summary["table"] = closing_table(config, summary)
    _save(workdir / "summary.json", summary)
    if distributed.is_main():
        write_report(workdir)


def _of_processes() -> str:
    count = distributed.processes()
    return f" of {count} processes" if count > 1 else ""


def _save(path: Path, content: Any) -> None:
    if distributed.is_main():
        save_json(path, content)


def _look(
    config: TrainConfig, workdir: Path, overwrite: bool
) -> tuple[dict[str, Any] | None, bool]:
    """Content of ``run.json``, if it is to go on, and whether the run is finished."""
    earlier = None if overwrite else _earlier_run(config, workdir)
    finished = earlier is not None and (workdir / "summary.json").exists()
    if finished and not (workdir / "report.html").exists():
        write_report(workdir)
    return earlier, finished


def _earlier_run(config: TrainConfig, workdir: Path) -> dict[str, Any] | None:
    """Content of ``run.json`` if ``workdir`` holds this very run, None if none."""
    path = workdir / "run.json"
    if not path.exists():
        return None
    earlier = load_json(path)
    names = differing_fields(earlier.get("config", {}), to_dict(config))
    differing = [name for name in names if name not in provenance.PLACEMENT_FIELDS]
    if differing:
        raise ConfigError(
            f"workdir={str(workdir)!r} holds a run that differs in "
            f"{', '.join(differing)}; choose another folder or add --overwrite"
        )
    return earlier


def _warn_if_moved(
    reporter: Reporter, earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    changed = [
        f"{name} {earlier.get(name)} -> {now[name]}"
        for name in provenance.BIT_RELEVANT
        if earlier.get(name) != now[name]
    ]
    if changed:
        reporter.log(f"not bit-identical to the start: {'; '.join(changed)}")


def _make_folder(workdir: Path, overwrite: bool) -> None:
    """Creates the folder, or removes what an earlier run wrote and nothing else.

    What marks a run as finished goes first and what marks it as begun goes last: a
    crash in between leaves an unfinished run, never a finished one without state.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in ("summary.json", "report.html", "stores.json", "times.json"):
                (workdir / name).unlink(missing_ok=True)
            shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
            for name in ("metrics.jsonl", "run.json"):
                (workdir / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be used: {error.strerror}"
        ) from error


def _note(rows: list[dict[str, Any]]) -> str:
    """Latest score of every arm, for the progress bar."""
    latest: dict[str, list[float]] = {}
    for row in rows:
        if "population" in row:
            score = row.get("oracle_fraction", row["score"])
            latest.setdefault(row["run"], []).append(score)
    return "  ".join(f"{arm} {np.mean(values):.3f}" for arm, values in latest.items())


def _present(reporter: Reporter, workdir: Path) -> Summary:
    """Prints the closing table of a finished run and returns its summary."""
    summary = distributed.broadcast_from_main(
        lambda: load_json(workdir / "summary.json")
    )
    seeds = summary["seeds"]
    sample = f"Means over {seeds} seeds [95 % bootstrap confidence interval]."
    caption = "\n".join(
        [
            "1 seed: indicative." if seeds == 1 else sample,
            "Channels of the exchange:",
            *(f"{name}: {status}" for name, status in summary["channels"].items()),
        ]
    )
    reporter.table(summary["table"], f"after {summary['steps']} steps", caption)
    reporter.log(f"report: {workdir / 'report.html'}")
    return summary
