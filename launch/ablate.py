"""Computes a grid of runs: ``python -m launch.ablate --config=configs/ablations/X.py``.

Every arm at every combination of swept values, at every seed. What is finished is
kept: the same command goes on after an interruption, and a wider sweep or more seeds
compute only what is new. Exit status 0 when all is there, 1 if cells failed, 2 after
a user error, 130 or 143 after a signal.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl import logging
from ml_collections import config_flags

from p2p_sac_jax.ablation import grid as grids
from p2p_sac_jax.ablation.results import SWEEP
from p2p_sac_jax.commands import flags
from p2p_sac_jax.commands import slurm as submission
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import from_dict, load_json

_WORKDIR = absl_flags.DEFINE_string(
    "workdir", None, "folder of the sweep; a sweep that stopped there goes on"
)
_SWEEP = absl_flags.DEFINE_multi_string(
    "sweep",
    [],
    "FIELD=VALUE,VALUE,...: values of one field; may be given several times, and "
    "takes the place of what the file says of that field",
)
_ARMS = absl_flags.DEFINE_list("arms", [], "only these arms of the file, by comma")
_SEEDS = absl_flags.DEFINE_integer("seeds", 0, "number of seeds; 0 is config.seeds")
_CELL = absl_flags.DEFINE_integer("cell", 0, "which share of the grid, from 0")
_NUM_CELLS = absl_flags.DEFINE_integer(
    "num_cells", 1, "into how many shares the grid is cut, one for each process"
)
_REPORT = absl_flags.DEFINE_bool("report", True, "write report.html at the end")
# Columns of the table on the console, where the figures exist.
_SHOWN = ("steps_to_0.95", "earned_50", "earned", "final", "worst", "return_final")
submission.define_flags()
flags.define_config()


def main(argv: list[str]) -> int | None:
    """Reads what is asked, computes what is missing, and shows what there is."""
    logging.set_verbosity(logging.WARNING)
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; for example --workdir=runs/sweep")
    folder = Path(_WORKDIR.value)
    index, count = _CELL.value, _NUM_CELLS.value
    if count < 1:
        raise ConfigError(f"--num_cells={count} must be at least 1")
    if not 0 <= index < count:
        raise ConfigError(f"--cell={index} must be in [0, {count}), as --num_cells")
    name, grid = _asked(folder)
    if submission.wanted():
        return submission.submit(argv, folder)
    return _compute(name, grid, folder, (index, count))


def _compute(
    name: str, grid: grids.Grid, folder: Path, share: tuple[int, int]
) -> int | None:
    from p2p_sac_jax.ablation.engine import Stopped, ablate
    from p2p_sac_jax.experiment.console import Reporter

    reporter = Reporter()
    try:
        outcome = ablate(grid, folder, name=name, share=share, reporter=reporter)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    except KeyboardInterrupt:
        print("SIGINT: finished cells are kept", file=sys.stderr)
        return 130
    reporter.log(
        f"{outcome.computed} cells computed in {outcome.seconds:.0f} s with "
        f"{outcome.compilations} compilations"
    )
    _present(folder, reporter, share)
    if outcome.failed:
        print(f"{outcome.failed} cells failed; see the report", file=sys.stderr)
        return 1
    return None


def _present(folder: Path, reporter: Any, share: tuple[int, int]) -> None:
    """Table and report of what there is; a share of a grid leaves them to others."""
    from p2p_sac_jax.ablation.results import load_sweep
    from p2p_sac_jax.ablation.table import (
        format_table,
        make_table,
        write_csv,
    )

    sweep = load_sweep(folder)
    if share[1] > 1 or not any(cell for point in sweep.points for cell in point.cells):
        return
    rows = make_table(sweep, "memory" if "memory" in sweep.arms else "")
    write_csv(folder / "table.csv", rows)
    known = {row["measure"] for row in rows}
    shown = [name for name in _SHOWN if name in known]
    title = f"{sweep.meta['name']}: interquartile means over seeds"
    caption = f"In brackets 95 % intervals. All figures: {folder / 'table.csv'}"
    reporter.table(format_table(rows, shown), title, caption)
    if _REPORT.value:
        from p2p_sac_jax.report import write_report

        reporter.log(f"report: {write_report(folder)}")


def _asked(folder: Path) -> tuple[str, grids.Grid]:
    """The grid of the command line, or the one that the folder knows."""
    if absl_flags.FLAGS["config"].value is not None:
        path = config_flags.get_config_filename(absl_flags.FLAGS["config"])
        config = flags.get_train_config()
        said = runpy.run_path(path.partition(":")[0])
        arms = said.get("ARMS") or grids.standard_arms(config)
        factors = dict(said.get("SWEEP", {}))
        name = Path(path).stem
        known_seeds = config.seeds
    elif (folder / SWEEP).is_file():
        known = load_json(folder / SWEEP)
        config = from_dict(known["config"])
        arms, factors, name = known["arms"], known["factors"], known["name"]
        known_seeds = len(known["seeds"])
    else:
        raise ConfigError(
            "--config is missing; for example --config=configs/ablations/peer_count.py"
        )
    return name, grids.make_grid(
        config,
        factors | _swept(config),
        _chosen(arms),
        _SEEDS.value if _SEEDS.present else known_seeds,
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
    flags.run(main)
