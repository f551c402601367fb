"""Training: a Python loop over one compiled chunk, safe to kill at any moment.

The order at the end of a chunk is rows first, checkpoint second; resume takes the
newest checkpoint and forgets the rows after it, so that rows and state always
tell the same story, whatever moment the process died at.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import config_hash, differing_fields, to_dict
from p2p_sac_jax.exchange.privacy import payload_bytes
from p2p_sac_jax.exchange.synchronisation import bytes_shared, due
from p2p_sac_jax.experiment import provenance
from p2p_sac_jax.experiment.cache import use_compilation_cache
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.experiment.metrics import MetricsFile, chunk_rows
from p2p_sac_jax.experiment.report import write_report
from p2p_sac_jax.experiment.setup import Setup, make_setup
from p2p_sac_jax.experiment.signals import Interrupted, StopRequest
from p2p_sac_jax.experiment.stores import store_beliefs
from p2p_sac_jax.experiment.summary import closing_table, summarise
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.validation import validate

Summary = dict[str, Any]

# Half the compile time at the same speed: the programs are many small loops.
_CPU_OPTIONS: Any = {"xla_backend_optimization_level": "1"}


class Programs(NamedTuple):
    """Compiled programs, and how long compiling them took."""

    run_chunk: Any
    evaluate: Any
    seconds: float


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
        ``metrics.jsonl``, ``checkpoints/``, ``summary.json``, ``stores.json`` and
        ``report.html``.
      overwrite: remove an earlier run in ``workdir`` first.
      quiet: print nothing.

    Returns:
      The content of ``summary.json``. A finished run returns at once.

    Raises:
      ConfigError: the configuration cannot run, or ``workdir`` holds another run.
      Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    validate(config)
    workdir = Path(workdir)
    if overwrite:
        _remove_run(workdir)
    reporter = Reporter(quiet)
    earlier = _earlier_run(config, workdir)
    if earlier is not None and (workdir / "summary.json").exists():
        summary = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
        reporter.say(f"{workdir} is finished; --overwrite starts it anew")
        _show_table(reporter, summary, earlier, workdir)
        return summary
    started = time.perf_counter()
    use_compilation_cache()
    placement = choose_placement(config)
    setup = make_setup(config, placement)
    description = provenance.describe(setup, placement)
    if earlier is None:
        workdir.mkdir(parents=True, exist_ok=True)
        provenance.write_json(workdir / "run.json", description)
    else:
        _warn_if_moved(reporter, earlier, description)
    checkpoints = Checkpoints(workdir, config.population.peers)
    try:
        with StopRequest() as stop:
            summary = _train(
                setup, workdir, checkpoints, reporter, stop, started=started
            )
    finally:
        checkpoints.close()
    _show_table(reporter, summary, earlier or description, workdir)
    return summary


def _train(
    setup: Setup,
    workdir: Path,
    checkpoints: Checkpoints,
    reporter: Reporter,
    stop: StopRequest,
    started: float,
) -> Summary:
    config = setup.config
    began = time.perf_counter()
    init = _compile(setup.population.init, (setup.members, setup.runs))
    state = init(setup.members, setup.runs)
    programs = _compile_programs(setup, state, began)
    start = checkpoints.latest() or 0
    if start:
        state = checkpoints.restore(start, state)
        reporter.say(f"resuming at step {start}")
    metrics_file = MetricsFile(workdir / "metrics.jsonl", start)
    reporter.say(
        f"{config.population.peers} peers x {len(setup.labels)} runs on "
        f"{len(state.steps.devices())} {jax.default_backend()} device(s); "
        f"compiled in {programs.seconds:.1f} s"
    )
    began = time.perf_counter()
    with reporter:
        for step in range(start, config.steps, config.evaluate_every):
            state, rows = _advance(setup, programs, state, step)
            metrics_file.append(rows)
            done = step + config.evaluate_every
            planned = done % config.checkpoint_every == 0 or done == config.steps
            if planned or stop.signal:
                checkpoints.save(done, state)
            if stop.signal and done < config.steps:
                raise Interrupted(stop.signal, done)
            reporter.advance(done, config.steps, _note(rows))
    run_s = time.perf_counter() - began
    steps = (config.steps - start) * config.population.peers * len(setup.labels)
    summary = {
        "config_hash": config_hash(config),
        "bytes_shared_per_peer": _bytes_shared_per_peer(setup, state),
        "compile_s": programs.seconds,
        "run_s": run_s,
        "env_steps_per_s": steps / run_s if steps else 0.0,
        "updates_per_s": steps * config.sac.updates_per_step / run_s if steps else 0.0,
        "resumed_at": start,
        **summarise(config, metrics_file.rows),
    }
    summary["table"] = closing_table(config, summary)
    provenance.write_json(workdir / "stores.json", store_beliefs(setup, state))
    summary["wall_s"] = time.perf_counter() - started
    provenance.write_json(workdir / "summary.json", summary)
    write_report(workdir)
    return summary


def _compile_programs(setup: Setup, state: PeerState, began: float) -> Programs:
    """Compiles ahead of time, so that compiling is seen and counted apart."""
    clock = jnp.zeros((), jnp.int32)
    arguments = state, setup.members, setup.runs, clock
    run_chunk = _compile(setup.population.run_chunk, arguments, donate_argnums=0)
    evaluate = _compile(setup.population.evaluate, arguments)
    return Programs(run_chunk, evaluate, seconds=time.perf_counter() - began)


def _compile(function: Any, arguments: tuple[Any, ...], **options: Any) -> Any:
    lowered = jax.jit(function, **options).lower(*arguments)
    on_cpu = jax.default_backend() == "cpu"
    return lowered.compile(compiler_options=_CPU_OPTIONS if on_cpu else None)


def _advance(
    setup: Setup, programs: Programs, state: PeerState, step: int
) -> tuple[PeerState, list[dict[str, Any]]]:
    """One chunk from ``step`` on, its rows, and the rehearsal of who joins there."""
    config, clock = setup.config, jnp.asarray(step, jnp.int32)
    if config.population.newcomers and step == config.population.join_step:
        arguments = state, setup.members, setup.runs, clock
        rehearse = _compile(setup.population.rehearse, arguments, donate_argnums=0)
        state = rehearse(*arguments)
    state, metrics = programs.run_chunk(state, setup.members, setup.runs, clock)
    evaluation = programs.evaluate(state, setup.members, setup.runs, clock)
    rows = chunk_rows(setup, step + config.evaluate_every, metrics, evaluation)
    return state, rows


def _bytes_shared_per_peer(setup: Setup, state: PeerState) -> float:
    """Mean over peers of the payload bytes that left them in the networked runs."""
    config, peers = setup.config, setup.config.population.peers
    clock = jnp.zeros((), jnp.int32)
    message = jax.eval_shape(
        setup.population.messages, state, setup.members, setup.runs, clock
    )
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), message)
    joins = np.asarray(setup.members.joins)[:peers]
    total = 0.0
    for now in range(0, config.steps, config.exchange.interval):
        if due(now, config.exchange.interval):
            present = (now >= joins).astype(np.float32)
            edges = setup.adjacency * present * present[:, None]
            total += float(bytes_shared(payload_bytes(one), edges).mean())
    return total if config.exchange.network_weight > 0 else 0.0


def _earlier_run(config: TrainConfig, workdir: Path) -> dict[str, Any] | None:
    """Content of ``run.json`` if ``workdir`` holds this very run, None if none."""
    path = workdir / "run.json"
    if not path.exists():
        return None
    earlier = json.loads(path.read_text(encoding="utf-8"))
    names = differing_fields(earlier["config"], to_dict(config))
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
        f"{name} {earlier[name]} -> {now[name]}"
        for name in ("layout", "layout_devices", "versions")
        if earlier[name] != now[name]
    ]
    if changed:
        reporter.say(f"not bit-identical to the start: {'; '.join(changed)}")


def _remove_run(workdir: Path) -> None:
    """Removes what a run writes, and nothing else."""
    shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
    for name in ("run", "stores", "summary"):
        (workdir / f"{name}.json").unlink(missing_ok=True)
    for name in ("metrics.jsonl", "report.html"):
        (workdir / name).unlink(missing_ok=True)


def _note(rows: list[dict[str, Any]]) -> str:
    """Latest score of every arm, for the progress bar."""
    latest: dict[str, list[float]] = {}
    for row in rows:
        if "population" in row:
            score = row.get("oracle_fraction", row["score"])
            latest.setdefault(row["run"], []).append(score)
    return "  ".join(f"{arm} {np.mean(values):.3f}" for arm, values in latest.items())


def _show_table(
    reporter: Reporter, summary: Summary, description: dict[str, Any], workdir: Path
) -> None:
    seeds = len(description["seeds"])
    sample = f"Means over {seeds} seeds [95 % bootstrap confidence interval]."
    channels = description["channels"].items()
    caption = "\n".join(
        [
            "1 seed: indicative." if seeds == 1 else sample,
            "Channels of the exchange:",
            *(f"{name}: {status}" for name, status in channels),
        ]
    )
    reporter.table(summary["table"], f"after {summary['steps']} steps", caption)
    reporter.say(f"report: {workdir / 'report.html'}")
