"""Times what the exchange adds to training.

    python -m launch.bench [--peers=16,256] [--updates=1,16] [--repeats=7]
                           [--config=FILE] [--out=FILE.json]

Whole steps of the pricing market at hidden width 64, one round every ten steps; the
talk of a round is timed beside the steps between two rounds, in turn, in one process.
Exits 0 if done, 2 with one line on stderr after a user error.
"""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from launch import flags
from p2p_sac_jax.config import ConfigError, TrainConfig

_PEERS = absl_flags.DEFINE_string("peers", "16,256", "population sizes to time")
_UPDATES = absl_flags.DEFINE_string("updates", "1,16", "gradient updates a step")
_REPEATS = absl_flags.DEFINE_integer("repeats", 7, "timed rounds; medians count")
_OUT = absl_flags.DEFINE_string("out", "", "JSON file to write the figures to")
flags.define_config()


def main(argv: list[str]) -> None:
    """Prints one line for each size, and writes the figures if asked to."""
    del argv
    sizes = _numbers("peers", _PEERS.value)
    updates = _numbers("updates", _UPDATES.value)
    if _REPEATS.value < 1:
        raise ConfigError(f"--repeats={_REPEATS.value} must be at least 1")
    config = _config()

    import jax

    from p2p_sac_jax.experiment.benchmark import exchange_cost

    rows: list[dict[str, Any]] = []
    for peers in sizes:
        for count in updates:
            row = exchange_cost(peers, count, _REPEATS.value, config)
            rows.append(row)
            print(
                f"{peers} peers, {count} updates a step: a round of ten steps"
                f"  {1e3 * row['round_s']:.1f} ms, talk {1e3 * row['talk_s']:.2f} ms:"
                f" the exchange adds {row['added']:.1%}",
                flush=True,
            )
    if _OUT.value:
        figures = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "python": platform.python_version(),
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "rows": rows,
        }
        try:
            Path(_OUT.value).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        except OSError as error:
            raise ConfigError(f"--out={_OUT.value!r}: {error.strerror}") from error


def _config() -> TrainConfig:
    """The configuration named on the command line, or the pricing preset."""
    if absl_flags.FLAGS.config is not None:
        return flags.get_train_config()
    from configs import pricing
    from p2p_sac_jax.config_io import from_dict

    return from_dict(pricing.get_config().to_dict())


def _numbers(name: str, text: str) -> list[int]:
    """Whole numbers above 0 from a comma-separated list."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(f"--{name}={text!r} must be whole numbers above 0, by comma")
    return [int(word) for word in words]


if __name__ == "__main__":
    flags.run(main)
