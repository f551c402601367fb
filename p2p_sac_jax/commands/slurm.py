"""Hands the shares of a grid to a cluster's queue, through submitit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags as absl_flags

from p2p_sac_jax.config import ConfigError

_SUBMIT = absl_flags.DEFINE_integer(
    "submit", 0, "submit this many array tasks, each a share of the grid; 0 computes"
)
_EXECUTOR = absl_flags.DEFINE_enum(
    "submit_to", "slurm", ["slurm", "local"], "queue that takes them"
)
_MINUTES = absl_flags.DEFINE_integer("submit_minutes", 120, "time limit of a task")
_CPUS = absl_flags.DEFINE_integer("submit_cpus", 4, "processor cores of a task")
_PARTITION = absl_flags.DEFINE_string("submit_partition", "", "Slurm partition")


def define_flags() -> None:
    """The flags above show in the help of the main that calls this."""
    for holder in (_SUBMIT, _EXECUTOR, _MINUTES, _CPUS, _PARTITION):
        absl_flags.declare_key_flag(holder.name)


def wanted() -> bool:
    """Whether the grid goes to a queue.

    Raises:
      ConfigError: a number makes no sense.
    """
    for holder, least in ((_SUBMIT, 0), (_MINUTES, 1), (_CPUS, 1)):
        if holder.value < least:
            raise ConfigError(f"--{holder.name}={holder.value} must be >= {least}")
    return _SUBMIT.value > 0


def submit(argv: Sequence[str], folder: Path) -> None:
    """Submits one task for each share and prints their numbers.

    Args:
      argv: of this call; each task gets the same flags, and its share.
      folder: of the sweep; logs go to ``slurm/`` in it.

    Raises:
      ConfigError: submitit is not installed, or there is no such queue here.
    """
    del argv
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "--submit needs submitit: pip install 'p2p-sac-jax[cluster]'"
        ) from error
    count = _SUBMIT.value
    try:
        executor = submitit.AutoExecutor(folder / "slurm", cluster=_EXECUTOR.value)
    except RuntimeError as error:
        raise ConfigError(f"--submit_to={_EXECUTOR.value}: {error}") from error
    options: dict[str, int | str] = {
        "timeout_min": _MINUTES.value,
        "cpus_per_task": _CPUS.value,
    }
    if _PARTITION.value:
        options["slurm_partition"] = _PARTITION.value
    executor.update_parameters(name=f"{folder.name}", **options)
    command = [sys.executable, "-m", "launch.ablate", *_kept(sys.argv[1:])]
    with executor.batch():
        jobs = [
            executor.submit(_run, [*command, f"--cell={i}", f"--num_cells={count}"])
            for i in range(count)
        ]
    for index, job in enumerate(jobs):
        print(f"share {index} of {count}: job {job.job_id}")
    if _EXECUTOR.value == "local":
        for job in jobs:
            job.result()
    print(f"python -m launch.ablate --workdir={folder} shows what is there")


def _run(command: list[str]) -> int:
    """One task: a process of its own, so that JAX starts afresh."""
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 1):  # 1: some cells failed, and are listed
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return done.returncode


def _kept(words: Sequence[str]) -> list[str]:
    """The flags of this call without those that submit."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
            continue
        name, equals, _ = word.lstrip("-").partition("=")
        ours = name.startswith("submit") or name in ("cell", "num_cells")
        skip = ours and not equals
        if not ours:
            kept.append(word)
    return kept
