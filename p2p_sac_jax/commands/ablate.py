"""Computes a grid of runs: every arm, every combination of swept values, every seed.

    p2p-sac-ablate --config=PRESET --workdir=DIR [--sweep=FIELD=VALUE,VALUE ...]

Finished runs are kept: the same command resumes after an interruption, and a wider
sweep or more seeds compute only what is new. Exit status 0 when all runs are there,
1 if runs failed, 2 after a user error, 130 or 143 after a signal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from absl import logging

from p2p_sac_jax.ablation import grid as grids
from p2p_sac_jax.ablation.results import SWEEP
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.commands.slurm import Queue
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.files import load_json

PROGRAM = Program(__doc__, config=True)
_WORKDIR = PROGRAM.path(
    "workdir", "", "folder of the sweep; a stopped sweep there resumes"
)
_SWEEP = PROGRAM.repeated(
    "sweep",
    "FIELD=VALUE,VALUE,...: values of one field, in place of those in the preset; may"
    " be given several times",
)
_ARMS = PROGRAM.strings("arms", "only these arms of the preset, separated by commas")
_SEEDS = PROGRAM.integer("seeds", 0, "number of seeds; 0 is config.seeds")
_SHARD = PROGRAM.integer("shard", 0, "index of the shard of the grid, from 0")
_NUM_SHARDS = PROGRAM.integer(
    "num_shards", 1, "number of shards of the grid, one for each process", 1
)
_REPORT = PROGRAM.boolean("report", True, "write report.html at the end")
_QUEUE = Queue(PROGRAM)
# Columns of the table on the console, where the figures exist.
_SHOWN = ("steps_to_0.95", "earned_50", "earned", "final", "worst", "return_final")


@PROGRAM.main
def main() -> int | None:
    """Computes what is missing and prints the table."""
    logging.set_verbosity(logging.WARNING)
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; for example --workdir=runs/sweep")
    folder = _WORKDIR.value
    index, count = _SHARD.value, _NUM_SHARDS.value
    if not 0 <= index < count:
        raise ConfigError(f"--shard={index} must be in [0, {count}), as --num_shards")
    name, grid = _requested(folder)
    if _QUEUE.requested():
        return _QUEUE.submit(folder)
    return _compute(name, grid, folder, (index, count))


def _compute(
    name: str, grid: grids.Grid, folder: Path, shard: tuple[int, int]
) -> int | None:
    from p2p_sac_jax.ablation.engine import ablate
    from p2p_sac_jax.experiment.console import Reporter
    from p2p_sac_jax.experiment.signals import Interrupted

    reporter = Reporter()
    try:
        outcome = ablate(grid, folder, name=name, shard=shard, reporter=reporter)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    reporter.log(
        f"{outcome.computed} runs computed in {outcome.seconds:.0f} s with "
        f"{outcome.compilations} compilations"
    )
    _present(folder, reporter, shard)
    if outcome.failed:
        print(f"{outcome.failed} runs failed; see the report", file=sys.stderr)
        return 1
    return None


def _present(folder: Path, reporter: Any, shard: tuple[int, int]) -> None:
    """Table and report; a process that computes one shard of a grid writes neither."""
    from p2p_sac_jax.ablation.results import load_sweep
    from p2p_sac_jax.ablation.table import (
        format_table,
        make_table,
        write_csv,
    )

    sweep = load_sweep(folder)
    if shard[1] > 1 or not any(run for point in sweep.points for run in point.runs):
        return
    rows = make_table(sweep, "memory" if "memory" in sweep.arms else "")
    write_csv(folder / "table.csv", rows)
    known = {row["measure"] for row in rows}
    shown = [name for name in _SHOWN if name in known]
    title = f"{sweep.meta['name']}: interquartile means over seeds"
    caption = (
        "In brackets 95 % intervals, from five seeds on. "
        f"All figures: {folder / 'table.csv'}"
    )
    reporter.table(format_table(rows, shown), title, caption)
    if _REPORT.value:
        from p2p_sac_jax.report import write_report

        reporter.log(f"report: {write_report(folder)}")


def _requested(folder: Path) -> tuple[str, grids.Grid]:
    """The grid of the command line, or the one that the folder holds."""
    preset = PROGRAM.preset
    if preset is not None:
        config = PROGRAM.get_config()
        arms = preset.arms or grids.standard_arms(config)
        name, factors, seeds = preset.name, preset.sweep, config.seeds
    elif (folder / SWEEP).is_file():
        known = load_json(folder / SWEEP)
        config = from_dict(known["config"])
        arms, factors, name = known["arms"], known["factors"], known["name"]
        seeds = len(known["seeds"])
    else:
        raise ConfigError(
            "--config is missing; for example --config=ablations/peer_count"
        )
    return name, grids.make_grid(
        config,
        factors | _swept(config),
        _chosen(arms),
        _SEEDS.value if _SEEDS.present else seeds,
    )


def _swept(config: TrainConfig) -> dict[str, list[Any]]:
    swept: dict[str, list[Any]] = {}
    for text in _SWEEP.value:
        field, values = grids.parse_sweep(text, config)
        if field in swept:
            raise ConfigError(f"--sweep={field} is given twice")
        swept[field] = values
    return swept


def _chosen(arms: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in _ARMS.value if name not in arms]
    if unknown:
        raise ConfigError(f"--arms={unknown[0]!r} must be one of {', '.join(arms)}")
    return {n: arms[n] for n in arms if not _ARMS.value or n in _ARMS.value}


if __name__ == "__main__":
    main()
