"""Trains a population: ``python -m launch.train --config=configs/pricing.py``.

Exit status 0 when done, 2 after a user error, 130 or 143 after a signal (the state
is saved; the same command goes on). ``docs/scaling.md`` has several processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

from absl import flags as absl_flags
from absl import logging

from p2p_sac_jax.commands import flags
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.cluster import MODES
from p2p_sac_jax.validation import CHOICES

_WORKDIR = absl_flags.DEFINE_string(
    "workdir", None, "folder of the run; a run that stopped there goes on"
)
_OVERWRITE = absl_flags.DEFINE_bool(
    "overwrite", False, "remove the run in --workdir first"
)
_PRINT_CONFIG = absl_flags.DEFINE_bool(
    "print_config", False, "print the resolved configuration as JSON and exit"
)
_DEVICE = absl_flags.DEFINE_enum(
    "device", None, CHOICES["device"], "short for --config.device, and stronger"
)
_DISTRIBUTED = absl_flags.DEFINE_enum(
    "distributed",
    "auto",
    MODES,
    "auto: connect the processes of a scheduler that JAX recognises; off: do not",
)
_COORDINATOR = absl_flags.DEFINE_string(
    "coordinator", None, "HOST:PORT where process 0 listens; needs the next two"
)
_NUM_PROCESSES = absl_flags.DEFINE_integer(
    "num_processes", None, "number of processes that train together"
)
_PROCESS_ID = absl_flags.DEFINE_integer(
    "process_id", None, "which of them this is, from 0"
)
flags.define_config()


def main(argv: list[str]) -> int | None:
    """Checks everything that can be checked before JAX is loaded, then trains."""
    del argv
    logging.set_verbosity(logging.WARNING)  # the checkpointer is talkative
    config = flags.get_train_config(_WORKDIR.value or "")
    if _DEVICE.value is not None:
        config = dataclasses.replace(config, device=_DEVICE.value)
    if _PRINT_CONFIG.value:
        from p2p_sac_jax.config_io import to_dict

        print(json.dumps(to_dict(config), indent=1))
        return None
    if not _WORKDIR.value:
        raise flags.ConfigError("--workdir is missing; for example --workdir=runs/001")
    try:
        return _train(config, _WORKDIR.value)
    except KeyboardInterrupt:
        print("SIGINT: nothing to save yet", file=sys.stderr)
        return 130


def _train(config: TrainConfig, workdir: str) -> int | None:
    from p2p_sac_jax.experiment import distributed
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
            _keep_output_clean()
        train(config, workdir, overwrite=_OVERWRITE.value)
    except Interrupted as stop:
        if distributed.is_main():
            print(stop, file=sys.stderr)
        status = stop.exit_status
    except distributed.SharedConfigError as error:
        if error.raised_here:
            print(f"error: {error}", file=sys.stderr)
        status = flags.USER_ERROR
    except BaseException as error:
        if distributed.processes() == 1:
            raise
        distributed.abandon(error)
    distributed.stop()
    return status


def _keep_output_clean() -> None:
    """Libraries that connect processes print on stdout: theirs becomes stderr."""
    sys.stdout.flush()
    ours = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = os.fdopen(ours, "w", buffering=1, encoding="utf-8")


if __name__ == "__main__":
    flags.run(main)
