"""Trains a population: ``python -m launch.train --config=configs/pricing.py``.

Exit status 0 when done, 2 after a user error, 130 or 143 after a signal (the state
is saved; the same command goes on).
"""

from __future__ import annotations

import json
import sys

from absl import flags as absl_flags
from absl import logging

from launch import flags
from p2p_sac_jax.config import TrainConfig

_WORKDIR = absl_flags.DEFINE_string(
    "workdir", None, "folder of the run; a run that stopped there goes on"
)
_OVERWRITE = absl_flags.DEFINE_bool(
    "overwrite", False, "remove the run in --workdir first"
)
_PRINT_CONFIG = absl_flags.DEFINE_bool(
    "print_config", False, "print the resolved configuration as JSON and exit"
)
flags.define_config()


def main(argv: list[str]) -> int | None:
    """Checks everything that can be checked before JAX is loaded, then trains."""
    del argv
    logging.set_verbosity(logging.WARNING)  # the checkpointer is talkative
    config = flags.get_train_config(_WORKDIR.value or "")
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
    from p2p_sac_jax.experiment.signals import Interrupted
    from p2p_sac_jax.experiment.train import train

    try:
        train(config, workdir, overwrite=_OVERWRITE.value)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    return None


if __name__ == "__main__":
    flags.run(main)
