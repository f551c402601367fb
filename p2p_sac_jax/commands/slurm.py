"""Hands the shares of a grid to a cluster's queue, through submitit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

_PROGRAM = "p2p_sac_jax.commands.ablate"


class Queue:
    """Flags of a program that hand the shares of its grid to a queue."""

    def __init__(self, program: Program) -> None:
        """Defines the flags."""
        self._tasks = program.integer(
            "submit", 0, "submit so many array tasks, each a shard of the grid", 0
        )
        self._executor = program.choice(
            "submit_to", "slurm", ("slurm", "local"), "queue for --submit"
        )
        self._minutes = program.integer(
            "submit_minutes", 120, "time limit of a submitted task", 1
        )
        self._cpus = program.integer("submit_cpus", 4, "processor cores of a task", 1)
        self._partition = program.string("submit_partition", "", "Slurm partition")

    def requested(self) -> bool:
        """Whether the grid goes to a queue."""
        return self._tasks.value > 0

    def submit(self, folder: Path) -> None:
        """Submits one task for each shard and prints the job numbers.

        A task has the flags of this call and its shard.

        Args:
          folder: of the sweep; logs go to ``slurm/`` in it.

        Raises:
          ConfigError: submitit is not installed, or there is no such queue.
        """
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(
                "--submit needs submitit: pip install 'p2p-sac-jax[cluster]'"
            ) from error
        count = self._tasks.value
        try:
            executor = submitit.AutoExecutor(
                folder / "slurm", cluster=self._executor.value
            )
        except RuntimeError as error:
            raise ConfigError(f"--submit_to={self._executor.value}: {error}") from error
        options: dict[str, int | str] = {
            "timeout_min": self._minutes.value,
            "cpus_per_task": self._cpus.value,
        }
        if self._partition.value:
            options["slurm_partition"] = self._partition.value
        executor.update_parameters(name=folder.name, **options)
        command = [sys.executable, "-m", _PROGRAM, *_without_queue(sys.argv[1:])]
        with executor.batch():
            jobs = [
                executor.submit(
                    _run, [*command, f"--shard={i}", f"--num_shards={count}"]
                )
                for i in range(count)
            ]
        for index, job in enumerate(jobs):
            print(f"shard {index} of {count}: job {job.job_id}")
        if self._executor.value == "local":
            for job in jobs:
                job.result()
        print(f"p2p-sac-ablate --workdir={folder} shows what is finished")


def _run(command: list[str]) -> int:
    """One task: a process of its own, so that each has a new JAX."""
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 1):  # 1: some runs failed and are listed
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return done.returncode


def _without_queue(words: Sequence[str]) -> list[str]:
    """The flags of a call without those of the queue."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
            continue
        name, equals, _ = word.lstrip("-").partition("=")
        ours = name.startswith("submit") or name in ("shard", "num_shards")
        skip = ours and not equals
        if not ours:
            kept.append(word)
    return kept
