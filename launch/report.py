"""Rewrites the report of finished or running folders, of runs and of sweeps.

    python -m launch.report DIR...

Each folder gets a new ``report.html``. Exits 0 if done, 2 with one line on stderr if
a folder holds neither, or no results yet.
"""

from __future__ import annotations

import pathlib

from p2p_sac_jax.commands import flags
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.report import write_report


def main(argv: list[str]) -> None:
    """Writes the report of each folder named and prints where it is."""
    if len(argv) < 2:
        raise ConfigError("no folder given; for example python -m launch.report DIR")
    for folder in argv[1:]:
        try:
            print(write_report(pathlib.Path(folder)))
        except OSError as error:
            raise ConfigError(f"{folder}: {error}") from error


if __name__ == "__main__":
    flags.run(main, arguments=True)
