"""Recomputes the evidence: hours, resumable.

    python -m benchmarks.evidence [--ablations=headline,newcomers] [--seeds=10]

Runs each ablation of `ABLATIONS` in a folder of its own below --workdir, and writes
one table for each to --tables. targets.csv there holds every claim: met, missed, open.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from absl import logging

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.commands.presets import load_preset
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict, replace_fields

# Most important first.
ABLATIONS = (
    *("headline", "newcomers", "reference_price", "heterogeneity", "byzantine"),
    *("privacy", "weights", "control", "peer_count"),
)
_HELD_OUT = ("chain", "brands")
_BATCH = 5  # seeds of a transfer at once
_MEASURES = (
    *("steps_to_0.95", "area", "jump_start", "earned_25", "earned_50", "earned_200"),
    *("earned", "newcomers_earned", "score_50", "score_200", "final", "gap_closed"),
    *("worst_25", "worst_200", "worst", "return_final", "return_worst"),
    *("bytes_per_peer", "confidence_calibration"),
)

PROGRAM = Program(__doc__)
_WORKDIR = PROGRAM.path(
    "workdir", "runs/evidence", "folder of all ablations; resumes what stopped there"
)
_TABLES = PROGRAM.path("tables", "docs/evidence", "folder for the tables")
_ABLATIONS = PROGRAM.strings("ablations", "only these; all if empty")
_SEEDS = PROGRAM.integer("seeds", 0, "seeds of each ablation; 0 is its own number")
_COMPUTE = PROGRAM.boolean(
    "compute", True, "compute what is missing; without it only tables are written"
)
_REPORT = PROGRAM.boolean("report", True, "write report.html of each ablation")


@PROGRAM.main
def main() -> int | None:
    """Computes what is missing, and writes the tables after each ablation."""
    logging.set_verbosity(logging.WARNING)
    known = (*ABLATIONS, "held_out")
    unknown = [name for name in _ABLATIONS.value if name not in known]
    if unknown:
        raise ConfigError(
            f"--ablations={unknown[0]!r} must be one of {', '.join(known)}"
        )
    if _SEEDS.value < 0:
        raise ConfigError(f"--seeds={_SEEDS.value} must be at least 0")
    from p2p_sac_jax.experiment.signals import Interrupted

    chosen = [
        name for name in known if name in _ABLATIONS.value or not _ABLATIONS.value
    ]
    work, tables = _WORKDIR.value, _TABLES.value
    tables.mkdir(parents=True, exist_ok=True)
    try:
        for name in chosen:
            if name == "held_out":
                _held_out(work, tables)
            else:
                _ablation(name, work / name, tables)
            _write_targets(work, tables)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    return None


def _ablation(name: str, folder: Path, tables: Path) -> None:
    from p2p_sac_jax.ablation.engine import ablate
    from p2p_sac_jax.ablation.grid import make_grid
    from p2p_sac_jax.ablation.results import is_sweep, load_sweep
    from p2p_sac_jax.ablation.table import make_table, write_csv
    from p2p_sac_jax.experiment.console import Reporter
    from p2p_sac_jax.report import write_report

    reporter = Reporter()
    if _COMPUTE.value:
        reporter.log(f"--- {name}")
        preset = load_preset(f"ablations/{name}")
        config = from_dict(preset.config.to_dict())
        seeds = _SEEDS.value or config.seeds
        grid = make_grid(config, preset.sweep, preset.arms, seeds)
        ablate(grid, folder, name=name, reporter=reporter)
    if not is_sweep(folder):
        return
    sweep = load_sweep(folder)
    if not any(cell for point in sweep.points for cell in point.runs):
        return
    rows = make_table(sweep, "memory", measures=_MEASURES)
    write_csv(tables / f"{name}.csv", rows)
    if _REPORT.value:
        reporter.log(f"report: {write_report(folder)}")


def _held_out(work: Path, tables: Path) -> None:
    """Policies in stores that were not trained on; see ``benchmarks.transfer``."""
    from benchmarks.transfer import ARMS, transfer

    path = tables / "held_out.csv"
    done = {(row["population"], row["seed"]) for row in _rows(path)}
    base = from_dict(load_preset("ablations/newcomers").config.to_dict())
    count = _SEEDS.value or base.seeds
    for name in _HELD_OUT if _COMPUTE.value else ():
        for first in range(base.seed, base.seed + count, _BATCH):
            seeds = min(_BATCH, base.seed + count - first)
            if all((name, str(s)) in done for s in range(first, first + seeds)):
                continue
            chosen = {"population.name": name, "arms": ARMS}
            chosen |= {"seed": first, "seeds": seeds}
            rows = transfer(replace_fields(base, chosen))
            lines = [
                [name, seed, *(f"{x:.5f}" for x in shares)]
                for seed, *shares in (row.values() for row in rows)
            ]
            _append(path, ["population", *rows[0]], lines)


def _write_targets(work: Path, tables: Path) -> None:
    """Every target for which there is an ablation."""
    rows = [
        [
            *(target.claim, target.where, target.seeds),
            *(f"{x:.4g}" for x in target.figure),
            f"{'>=' if target.at_least else '<='} {target.bar:g}",
            target.verdict,
        ]
        for target in _targets(work, tables)
    ]
    header = "claim", "where", "seeds", "figure", "low", "high", "bar", "verdict"
    if rows:
        path = tables / "targets.csv"
        path.unlink(missing_ok=True)
        _append(path, header, rows)


def _targets(work: Path, tables: Path) -> Iterator[Any]:
    from benchmarks import targets
    from p2p_sac_jax.ablation.results import is_sweep, load_sweep

    def figures(name: str) -> targets.Figures | None:
        folder = work / name
        return targets.read_figures(load_sweep(folder)) if is_sweep(folder) else None

    for name, claims in (
        ("headline", targets.headline),
        ("newcomers", targets.newcomers),
    ):
        if found := figures(name):
            yield from claims(found)
    for name, arm, where in (
        ("heterogeneity", "network", "heterogeneity"),
        ("byzantine", "guarded", "a third is byzantine:"),
    ):
        if found := figures(name):
            yield from targets.no_harm(found, arm, where)
    if rows := _rows(tables / "held_out.csv"):
        yield from targets.held_out(rows)
    if found := figures("reference_price"):
        yield from targets.reference_price(found)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
