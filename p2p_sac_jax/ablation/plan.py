"""Which cells are computed together, in which order, and what that will take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from p2p_sac_jax.ablation.runs import Cell, batch_key, family_key
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import save_json
from p2p_sac_jax.experiment.compilation_cache import cache_folder
from p2p_sac_jax.experiment.devices import cores

# A batch that is interrupted is lost, so none is planned to take longer.
_BATCH_S = 90.0
# A core's cache holds a few learners: see BUILD_NOTES.md.
_MOST_RUNS = {"cpu": 6}
_MOST_RUNS_ELSEWHERE = 64
_STEP = 2.0  # updates that acting, remembering and talking for a step are worth
_TYPICAL = 64 * 64 * (64 + 16)  # batch x hidden x (hidden + inputs) behind it


Shape = tuple[str, int, int]  # what is static, runs, peers


class Batch(NamedTuple):
    """Cells that run side by side in one program."""

    cells: list[Cell]
    size: int  # runs of the program; missing ones repeat the last cell
    pad_to: int = 0  # peers of the program, where it was compiled for more

    @property
    def peers(self) -> int:
        """Peers that each run computes, masked ones included."""
        return max(self.pad_to, self.cells[0].config.population.peers)

    @property
    def updates(self) -> int:
        """Gradient updates, those of repeated runs and masked peers included."""
        return self.cells[0].updates_of_a_peer * self.peers * self.size

    @property
    def work(self) -> float:
        """What it takes, in gradient updates of the typical size."""
        config = self.cells[0].config
        acting = _STEP * config.steps * self.peers * self.size
        return acting + self.updates * _weight(config)


def shape_of(batch: Batch) -> Shape:
    """Batches of equal shape share their compiled programs."""
    largest = batch.cells[0]
    population = dataclasses.replace(largest.config.population, peers=batch.peers)
    config = dataclasses.replace(largest.config, population=population, seed=0)
    return batch_key(Cell(config, "")), batch.size, batch.peers


class Throughput(NamedTuple):
    """Seconds that things take on this machine."""

    update_s: float  # a gradient update of the typical size, all cores at work
    compile_s: float  # the programs of a batch

    def of(self, batch: Batch) -> float:
        """Seconds that a batch will run, compiling apart."""
        return self.update_s * batch.work


# Of two cores of a server, see BUILD_NOTES.md; what holds before anything is measured.
DEFAULT_THROUGHPUT = Throughput(1.3e-4, 15.0)
_CORES = 2


def make_batches(cells: Iterable[Cell], pace: Throughput) -> list[list[Batch]]:
    """Batches by family, and in each family those of the most peers first.

    Args:
      cells: that are to be computed, none twice.
      pace: of this machine.
    """
    families: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        groups = families.setdefault(family_key(cell), {})
        groups.setdefault(batch_key(cell), []).append(cell)
    plan = []
    for groups in families.values():
        largest_first = sorted(
            groups.values(), key=lambda group: -group[0].config.population.peers
        )
        plan.append([b for group in largest_first for b in _split(group, pace)])
    return plan


def _split(group: Sequence[Cell], pace: Throughput) -> list[Batch]:
    """Batches of equal size, so that they share a program."""
    alone = pace.of(Batch([group[0]], 1))
    most = _MOST_RUNS.get(jax.default_backend(), _MOST_RUNS_ELSEWHERE)
    most = int(min(max(_BATCH_S / max(alone, 1e-9), 1), most))
    count = -(-len(group) // most)
    size = -(-len(group) // count)
    return [
        Batch(list(group[start : start + size]), size)
        for start in range(0, len(group), size)
    ]


def share(plan: Sequence[Sequence[Batch]], index: int, count: int) -> list[list[Batch]]:
    """The batches that share ``index`` of ``count`` computes.

    Whole groups stay together where there are enough of them: a program is compiled
    by as few shares as can be.
    """
    flat = [(f, batch) for f, family in enumerate(plan) for batch in family]
    total = sum(batch.work for _, batch in flat)
    mine: dict[int, list[Batch]] = {}
    passed = 0.0
    for family, batch in flat:
        middle = passed + batch.work / 2
        if min(int(middle * count / max(total, 1)), count - 1) == index:
            mine.setdefault(family, []).append(batch)
        passed += batch.work
    return list(mine.values())


def estimate(
    plan: Iterable[Iterable[Batch]], pace: Throughput, compiled: Iterable[Shape] = ()
) -> tuple[float, int]:
    """Seconds that a plan takes at most, and the programs that it compiles.

    Args:
      plan: batches by family; masking may save some of the programs.
      pace: of this machine.
      compiled: shapes whose programs are there already.
    """
    batches = [batch for family in plan for batch in family]
    new = {shape_of(batch) for batch in batches} - set(compiled)
    return sum(map(pace.of, batches)) + len(new) * pace.compile_s, len(new)


def masked(batch: Batch, program: Batch) -> list[Batch]:
    """``batch`` as runs of a program that was compiled for more peers."""
    return [
        Batch(batch.cells[start : start + program.size], program.size, program.peers)
        for start in range(0, len(batch.cells), program.size)
    ]


def known_pace() -> Throughput:
    """What earlier sweeps took on this machine; a guess before there were any."""
    try:
        found = json.loads(_notes().read_text("utf-8"))
        return Throughput(float(found["update_s"]), float(found["compile_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        update_s = DEFAULT_THROUGHPUT.update_s * _CORES / cores()
        return DEFAULT_THROUGHPUT._replace(update_s=update_s)


def note_pace(pace: Throughput) -> None:
    """Remembers what this sweep took."""
    try:
        _notes().parent.mkdir(parents=True, exist_ok=True)
        save_json(_notes(), pace._asdict())
    except OSError:
        return  # an estimate is not worth an error


def measured_pace(batch: Batch, run_s: float, compile_s: float) -> Throughput:
    """The pace that one batch was seen to have."""
    return Throughput(run_s / max(batch.work, 1e-9), compile_s)


def _weight(config: TrainConfig) -> float:
    """Work of one update beside that of the typical size."""
    hidden, rows = config.sac.hidden, config.sac.batch_size
    return rows * hidden * (hidden + 16) / _TYPICAL


def _notes() -> Path:
    return cache_folder() / "ablation_pace.json"
