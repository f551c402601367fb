"""Trains a population of peers, or resumes the run in --workdir.

    p2p-sac-train --config=PRESET --workdir=DIR [--config.FIELD=VALUE ...]

Exit status 0 when done, 1 where contact with another process was lost, 2 after a user
error, 3 where a peer diverged, 141 where the reader of this help has left, and 129, 130
or 143 after SIGHUP, SIGINT or SIGTERM: the state is saved at the next evaluation. After
1 and a signal the same command resumes. docs/scaling.md describes several processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

from absl import logging

from p2p_sac_jax.commands.flags import USER_ERROR, Program, print_result
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import find_field, to_dict
from p2p_sac_jax.experiment.cluster import MODES
from p2p_sac_jax.folder_lock import claim_number
from p2p_sac_jax.streams import tolerant

PROGRAM = Program(__doc__, config=True)
_WORKDIR = PROGRAM.path("workdir", "", "folder of the run; a stopped run there resumes")
_RUNS = PROGRAM.path(
    "runs",
    "",
    "folder of numbered runs; trains in a new one where --workdir is missing",
)
_OVERWRITE = PROGRAM.boolean("overwrite", False, "remove the run in --workdir first")
_TENSORBOARD = PROGRAM.boolean(
    "tensorboard", False, "write TensorBoard events to DIR/tensorboard as well"
)
_PRINT_CONFIG = PROGRAM.boolean(
    "print_config", False, "print the resolved configuration as JSON and exit"
)
_DEVICE = PROGRAM.choice(
    "device", None, find_field("device").choices(), "takes the place of config.device"
)
_DISTRIBUTED = PROGRAM.choice(
    "distributed",
    "auto",
    MODES,
    "auto connects the processes of a scheduler that JAX recognises",
)
_COORDINATOR = PROGRAM.string(
    "coordinator", None, "HOST:PORT where process 0 listens; needs the next two"
)
_NUM_PROCESSES = PROGRAM.integer(
    "num_processes", None, "number of processes that train together"
)
_PROCESS_ID = PROGRAM.integer("process_id", None, "index of this process, from 0")


@PROGRAM.main
def main() -> int | None:
    """Checks what can be checked before JAX is loaded, then trains."""
    logging.set_verbosity(logging.WARNING)  # orbax logs every step
    config = PROGRAM.get_config(_WORKDIR.value)
    if _DEVICE.value is not None:
        config = dataclasses.replace(config, device=_DEVICE.value)
    if _PRINT_CONFIG.value:
        return print_result(json.dumps(to_dict(config), indent=1))
    if not (_WORKDIR.value or _RUNS.value):
        raise ConfigError("--workdir is missing; for example --workdir=runs/001")
    return _train(config)


def _train(config: TrainConfig) -> int | None:
    from p2p_sac_jax.experiment import distributed
    from p2p_sac_jax.experiment.divergence import Diverged
    from p2p_sac_jax.experiment.signals import Interrupted
    from p2p_sac_jax.experiment.train import train

    distributed.start(
        _DISTRIBUTED.value,
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
    )
    status = None
    try:
        if distributed.processes() > 1:
            _redirect_library_output()
        workdir = _WORKDIR.value or distributed.broadcast_from_main(_new_workdir)
        train(
            config,
            workdir,
            tensorboard=_TENSORBOARD.value,
            overwrite=_OVERWRITE.value,
        )
        if distributed.is_main():
            _write_report(workdir)
    except (Diverged, Interrupted) as stop:
        if distributed.is_main():
            print(stop, file=sys.stderr)
        status = stop.exit_status
    except distributed.SharedConfigError as error:
        if error.raised_here:
            print(f"error: {error}", file=sys.stderr)
        status = USER_ERROR
    except BaseException as error:
        if distributed.processes() == 1:
            raise
        distributed.abandon(error)
    distributed.stop()
    return status


def _new_workdir() -> Path:
    workdir = claim_number(_RUNS.value)
    print(f"workdir: {workdir}", flush=True)
    return workdir


def _write_report(workdir: Path) -> None:
    """Writes the report of a finished run, unless it is there."""
    from p2p_sac_jax.report import write_report

    page, summary = workdir / "report.html", workdir / "summary.json"
    if not page.exists() or page.stat().st_mtime < summary.stat().st_mtime:
        write_report(workdir)
    print(f"report: {page}", file=sys.stderr)


def _redirect_library_output() -> None:
    """Libraries that connect processes print on stdout; theirs goes to stderr."""
    sys.stdout.flush()
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = tolerant(os.fdopen(own, "w", buffering=1, encoding="utf-8"))


if __name__ == "__main__":
    main()
