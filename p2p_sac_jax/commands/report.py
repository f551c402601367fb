"""Rewrites report.html of finished or running folders, of runs and of sweeps.

    p2p-sac-report DIR...

Exit status 0 when done, 2 if a folder holds neither a run nor a sweep, or no results.
"""

from __future__ import annotations

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.report import write_report

PROGRAM = Program(__doc__, arguments=True)


@PROGRAM.main
def main() -> None:
    """Writes the report of each folder and prints its path."""
    if not PROGRAM.arguments:
        raise ConfigError("no folder given; for example p2p-sac-report runs/001")
    for folder in PROGRAM.arguments:
        print(write_report(folder))


if __name__ == "__main__":
    main()
