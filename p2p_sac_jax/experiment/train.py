"""Training: a Python loop over one compiled chunk, safe to kill at any moment.

Every chunk ends with its rows written first and its checkpoint second. Resuming takes
the newest checkpoint that is whole, as are its rows, and drops the rows after it, so
rows and state always agree.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import (
    config_hash,
    differing_fields,
    replace_fields,
    to_dict,
)
from p2p_sac_jax.environments.base import Environment, EnvironmentFactory
from p2p_sac_jax.environments.registry import own_environment
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment, build_experiment
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.compilation_cache import (
    cache_words,
    use_compilation_cache,
)
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
from p2p_sac_jax.experiment.divergence import Diverged, divergence_lines
from p2p_sac_jax.experiment.input_files import FOLDER as INPUTS
from p2p_sac_jax.experiment.input_files import (
    PLACEMENT_FIELDS,
    digests,
    keep_inputs,
    read_inputs,
    run_identity,
)
from p2p_sac_jax.experiment.metrics import MetricsFile, Row
from p2p_sac_jax.experiment.privacy_budget import exhausted_budgets
from p2p_sac_jax.experiment.programs import compile_programs, train_chunk
from p2p_sac_jax.experiment.provenance import (
    BIT_RELEVANT,
    describe_run,
    exchange_channels,
)
from p2p_sac_jax.experiment.signals import Interrupted, StopRequest
from p2p_sac_jax.experiment.summary import (
    closing_table,
    figure,
    measured_channels,
    summarise,
)
from p2p_sac_jax.experiment.tensorboard import FOLDER as EVENTS
from p2p_sac_jax.experiment.tensorboard import TensorBoardSink
from p2p_sac_jax.experiment.timing import RunTimer, throughput
from p2p_sac_jax.files import DamagedFile, load_json, save_json, user_path
from p2p_sac_jax.folder_lock import FolderLock
from p2p_sac_jax.validation import validate

Summary = dict[str, Any]
Sink = Callable[[list[Row]], None]


def train(
    config: TrainConfig,
    workdir: str | Path,
    *,
    environment: Environment | EnvironmentFactory | None = None,
    callback: Sink | None = None,
    tensorboard: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Summary:
    """Trains every arm at every seed, or resumes an earlier call.

    Args:
      config: of the run; see ``docs/configuration.md``.
      workdir: folder of the run, created if need be. It will hold ``run.json``,
        ``inputs/``, ``metrics.jsonl``, ``checkpoints/``, ``times.json``,
        ``summary.json`` and ``stores.json``; ``write_report`` adds ``report.html``.
      environment: one's own, in place of the one that ``config`` names; see
        ``docs/extending.md``. ``run.json`` has its ``module:NAME``; without
        a name in the module of its function, it must be passed to resume as well.
      callback: called after every evaluation with its rows (``docs/runs.md``), in
        process 0; what it raises ends the run.
      tensorboard: write the rows as TensorBoard events too.
      overwrite: remove an earlier run in ``workdir`` first.
      quiet: print nothing.

    Returns:
      The content of ``summary.json``. A finished run returns at once.

    Where ``distributed.start`` has connected several processes, each of them must
    call this with the same configuration; process 0 alone uses ``workdir`` and prints.

    Raises:
      ConfigError: the configuration is impossible, or ``workdir`` cannot be used,
        is in use by another process or holds another run.
      OSError: a file cannot be written; the run resumes from the last checkpoint.
      Interrupted: SIGINT or SIGTERM arrived; the state is saved.
      Diverged: a peer diverged and ``config.on_divergence`` is ``stop``.
    """
    if environment is not None:
        config = replace_fields(
            config, {"environment.name": own_environment(environment)}
        )
    validate(config)
    request_devices(config)
    if distributed.processes() > 1:
        find_devices(config)  # the processes communicate through their devices
        distributed.check_same("configuration", config_hash(config))
    workdir = distributed.run_on_all(lambda: user_path(workdir, "workdir"))
    reporter = Reporter(quiet or not distributed.is_main())
    if not overwrite and distributed.broadcast_from_main(
        lambda: _find_earlier_run(config, workdir, log=lambda line: None)[1]
    ):
        reporter.log(f"{workdir} is finished; --overwrite starts it anew")
        return _show_summary(config, reporter, workdir)
    started = time.perf_counter()
    with contextlib.ExitStack() as ownership:

        def own_folder() -> None:
            ownership.enter_context(FolderLock(workdir))

        distributed.broadcast_from_main(own_folder)
        sinks = [] if callback is None else [callback]
        if tensorboard and distributed.is_main():
            sinks.append(ownership.enter_context(TensorBoardSink(workdir)))
        _train_in_folder(config, workdir, overwrite, reporter, started, sinks)
    return _show_summary(config, reporter, workdir)


def _train_in_folder(
    config: TrainConfig,
    workdir: Path,
    overwrite: bool,
    reporter: Reporter,
    started: float,
    sinks: Sequence[Sink],
) -> None:
    """Trains in a folder that this process owns."""
    earlier: Summary | None = None
    if not overwrite:
        earlier, _ = distributed.broadcast_from_main(
            lambda: _find_earlier_run(config, workdir, reporter.log)
        )
    recorded = (earlier or {}).get("inputs", {})
    inputs = distributed.broadcast_from_main(
        lambda: read_inputs(config, workdir, recorded)
    )
    use_compilation_cache()
    placement = distributed.run_on_all(lambda: choose_placement(config))
    experiment = distributed.run_on_all(
        lambda: build_experiment(config, placement, inputs=inputs)
    )
    needed, devices = state_memory(experiment), placement.local_devices
    reporter.log(f"memory: {needed}; {readable(free_memory(devices))} free")
    distributed.run_on_all(
        lambda: check_fits(config, "the state", needed.state, devices)
    )
    description = describe_run(experiment, placement) | {"inputs": digests(inputs)}
    if overwrite and distributed.is_main():
        # The request is known to be possible: an earlier run may be removed.
        _remove_run(workdir)
    identity = run_identity(config, digests(inputs))
    checkpoints = Checkpoints(
        workdir, config.population.peers, identity, log=reporter.log
    )
    if earlier is not None:
        _log_bit_relevant_changes(reporter, earlier, description)
    elif distributed.is_main():
        keep_inputs(config, workdir, inputs)
        save_json(workdir / "run.json", description)
    try:
        with StopRequest() as stop:
            _train(experiment, workdir, checkpoints, reporter, stop, started, sinks)
    finally:
        checkpoints.close()


def _train(
    experiment: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    reporter: Reporter,
    stop: StopRequest,
    started: float,
    sinks: Sequence[Sink],
) -> None:
    """Trains from the newest checkpoint to the end and writes the result files."""
    config = experiment.config
    state, programs = compile_programs(experiment)
    distributed.run_on_all(
        lambda: check_fits(config, "the program", programs.extra_bytes)
    )
    distributed.barrier()
    processes = distributed.processes()
    reporter.log(
        f"{config.population.peers} peers x {len(experiment.labels)} runs on "
        f"{len(state.steps.devices())} {jax.default_backend()} device(s)"
        f"{f' of {processes} processes' if processes > 1 else ''}; "
        f"compiled in {programs.compile_s:.1f} s, {cache_words()}"
    )
    metrics_file = MetricsFile(workdir / "metrics.jsonl")
    start, restored = 0, checkpoints.restore(state, metrics_file.holds)
    if restored is not None:
        start, state = restored.step, restored.state
        reporter.log(f"resuming at step {start}")
    names = {seed: world.names for seed, world in experiment.worlds.items()}
    metrics_file.resume(restored and restored.rows)
    timer, saved = RunTimer(workdir, start, started), start
    timer.start_training(programs.compile_s)
    with reporter:
        for step in range(start, config.steps, config.evaluate_every):
            state, rows = train_chunk(experiment, programs, state, step)
            for line in exhausted_budgets(
                experiment.accountant, names, metrics_file.rows, rows
            ):
                reporter.log(line)
            lines = [*divergence_lines(rows, metrics_file.rows)]
            metrics_file.append(rows)
            for sink in sinks if distributed.is_main() else ():
                sink(rows)
            if lines and config.on_divergence == "stop":
                raise Diverged(_what_is_kept(lines[0], saved))
            for line in lines:
                reporter.log(line)
            done = step + config.evaluate_every
            planned = done % config.checkpoint_every == 0 or done == config.steps
            signal = distributed.allreduce_max(stop.signal)
            if planned or signal:
                checkpoints.save(done, state, metrics_file.mark())
                timer.save(done)
                saved = done
            if signal and done < config.steps:
                raise Interrupted(signal, f"saved at step {done}")
            reporter.advance(done, config.steps, _latest_scores(rows))
    _save_on_main(workdir / "stores.json", demand_curves(experiment, state))
    times = timer.times()
    rows = metrics_file.rows
    summary = {
        "config_hash": config_hash(config),
        **times,
        **throughput(state, config.population.peers, times["run_s"]),
        **summarise(config, rows),
        "diverged": [*divergence_lines(rows)],
        "channels": measured_channels(rows, exchange_channels(config)),
    }
    _save_on_main(workdir / "summary.json", summary)


def _what_is_kept(line: str, saved: int) -> str:
    return (
        f"{line}; stopped, rows and the state of step {saved} are kept;"
        " --config.on_divergence=warn goes on"
    )


def _save_on_main(path: Path, content: Any) -> None:
    if distributed.is_main():
        save_json(path, content)


def _find_earlier_run(
    config: TrainConfig, workdir: Path, log: Callable[[str], None]
) -> tuple[dict[str, Any] | None, bool]:
    """The ``run.json`` to resume, None for a new run, and whether it is finished.

    A damaged one is written anew: the checkpoints know their configuration.

    Raises:
      ConfigError: ``workdir`` holds a run of another configuration.
    """
    earlier = _load_or_log(workdir / "run.json", log)
    if earlier is None:
        return None, False
    names = differing_fields(earlier.get("config", {}), to_dict(config))
    differing = [name for name in names if name not in PLACEMENT_FIELDS]
    if differing:
        raise ConfigError(
            f"workdir={str(workdir)!r} holds a run that differs in "
            f"{', '.join(differing)}; choose another folder or add --overwrite"
        )
    return earlier, _load_or_log(workdir / "summary.json", log) is not None


def _load_or_log(path: Path, log: Callable[[str], None]) -> dict[str, Any] | None:
    """The object in a file; None, with a line, if it is damaged; None without one."""
    if not path.exists():
        return None
    try:
        return load_json(path)
    except DamagedFile as error:
        log(f"{error}; it is written anew")
        return None


def _log_bit_relevant_changes(
    reporter: Reporter, earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    changed = [
        f"{name} {earlier.get(name)} -> {now[name]}"
        for name in BIT_RELEVANT
        if earlier.get(name) != now[name]
    ]
    if changed:
        reporter.log(f"not bit-identical to the start: {'; '.join(changed)}")


def _remove_run(workdir: Path) -> None:
    """Removes the files of an earlier run and nothing else.

    The files that mark a run as finished go first and those that mark it as begun go
    last: after a crash in between, the run is unfinished, never finished without state.
    """
    for name in ("summary.json", "report.html", "stores.json", "times.json"):
        (workdir / name).unlink(missing_ok=True)
    for name in ("checkpoints", EVENTS):
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in ("metrics.jsonl", "run.json"):
        (workdir / name).unlink(missing_ok=True)
    shutil.rmtree(workdir / INPUTS, ignore_errors=True)


def _latest_scores(rows: list[dict[str, Any]]) -> str:
    """Latest score of every arm, for the progress bar."""
    latest: dict[str, list[float]] = {}
    for row in rows:
        if "population" in row:
            score = row.get("oracle_fraction", row["evaluation_reward"])
            latest.setdefault(row["run"], []).append(score)
    means = {arm: float(np.mean(values)) for arm, values in latest.items()}
    return "  ".join(f"{arm} {figure(mean, '.3f')}" for arm, mean in means.items())


def _show_summary(config: TrainConfig, reporter: Reporter, workdir: Path) -> Summary:
    """Prints the closing table of a finished run and returns its summary."""
    summary = distributed.broadcast_from_main(
        lambda: load_json(workdir / "summary.json")
    )
    seeds = summary["seeds"]
    known = " [95 % bootstrap confidence interval]" if "intervals" in summary else ""
    sample = f"Means over {seeds} seeds{known or ': indicative'}."
    caption = "\n".join(
        [
            "1 seed: indicative." if seeds == 1 else sample,
            "Channels of the exchange:",
            *(f"{name}: {status}" for name, status in summary["channels"].items()),
            *summary["diverged"],
        ]
    )
    table = closing_table(config, summary)
    reporter.table(table, f"after {summary['steps']} steps", caption)
    return summary
