"""Which runs are trained together, in which order, and how long that will take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax

from p2p_sac_jax.ablation.runs import Run, batch_key, family_key
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.experiment.devices import cores

# The work of an interrupted batch is lost, so no batch is planned to take longer.
_BATCH_S = 90.0
# The cache of a CPU core holds a few learners, see BUILD_NOTES.md.
_MAX_RUNS = {"cpu": 6}
_MAX_RUNS_ACCELERATOR = 64
_STEP_WORK = 2.0  # updates that the rest of an environment step is worth
_TYPICAL = 64 * 64 * (64 + 16)  # batch x hidden x (hidden + inputs) of one unit

Shape = tuple[str, int, int]  # key of the static fields, runs, peers


class Throughput(NamedTuple):
    """Seconds that things take on this machine."""

    update_s: float  # one gradient update of the typical size, with all cores busy
    compile_s: float  # compiling the programs of one batch


SERVER_THROUGHPUT = Throughput(1.3e-4, 15.0)  # measured, see BUILD_NOTES.md
_SERVER_CORES = 2


def expected_throughput() -> Throughput:
    """What to expect of this machine before any measurement."""
    update_s = SERVER_THROUGHPUT.update_s * _SERVER_CORES / cores()
    return SERVER_THROUGHPUT._replace(update_s=update_s)


class Batch(NamedTuple):
    """Runs that are trained side by side in one program."""

    runs: list[Run]
    size: int  # runs of the program; missing ones repeat the last run
    pad_to: int = 0  # peers of the program, where it was compiled for more

    @property
    def peers(self) -> int:
        """Peers of each run, masked ones included."""
        return max(self.pad_to, self.runs[0].config.population.peers)

    @property
    def updates(self) -> int:
        """Gradient updates, those of repeated runs and masked peers included."""
        return self.runs[0].updates_per_peer * self.peers * self.size

    @property
    def shape(self) -> Shape:
        """Batches of equal shape share their compiled programs."""
        # A time-varying schedule is an input: no seed is compiled in.
        changes = {"seed": 0, "population.peers": self.peers}
        config = replace_fields(self.runs[0].config, changes)
        return batch_key(config), self.size, self.peers

    @property
    def work(self) -> float:
        """In gradient updates of the typical size."""
        config = self.runs[0].config
        hidden, rows = config.sac.hidden, config.sac.batch_size
        update = rows * hidden * (hidden + 16) / _TYPICAL
        steps = config.steps * self.peers * self.size
        return _STEP_WORK * steps + self.updates * update


Plan = list[list[Batch]]  # batches by family, see ``runs.family_key``


def make_plan(runs: Iterable[Run], throughput: Throughput) -> Plan:
    """Batches by family, and within a family those of the most peers first.

    Args:
      runs: to train, each once.
      throughput: of this machine.
    """
    families: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        groups = families.setdefault(family_key(run.config), {})
        groups.setdefault(batch_key(run.config), []).append(run)
    plan = []
    for groups in families.values():
        largest_first = sorted(
            groups.values(), key=lambda group: -group[0].config.population.peers
        )
        plan.append([b for group in largest_first for b in _split(group, throughput)])
    return plan


def _split(group: Sequence[Run], throughput: Throughput) -> list[Batch]:
    """Batches of equal size, so that they share a program."""
    one = run_seconds(Batch([group[0]], 1), throughput)
    limit = _MAX_RUNS.get(jax.default_backend(), _MAX_RUNS_ACCELERATOR)
    limit = int(min(max(_BATCH_S / max(one, 1e-9), 1), limit))
    count = -(-len(group) // limit)
    size = -(-len(group) // count)
    return [
        Batch(list(group[start : start + size]), size)
        for start in range(0, len(group), size)
    ]


def batches_of(plan: Plan) -> list[Batch]:
    """All batches of a plan, in order."""
    return [batch for family in plan for batch in family]


def shard_runs(plan: Plan, index: int, count: int) -> list[Run]:
    """The runs that process ``index`` of ``count`` trains.

    Shards are contiguous and of similar work, so that few of them compile the same
    program.
    """
    batches = batches_of(plan)
    total = sum(batch.work for batch in batches)
    runs, before = [], 0.0
    for batch in batches:
        middle = before + batch.work / 2
        if min(int(middle * count / max(total, 1)), count - 1) == index:
            runs += batch.runs
        before += batch.work
    return runs


def run_seconds(batch: Batch, throughput: Throughput) -> float:
    """Seconds that a batch will train, without compiling."""
    return throughput.update_s * batch.work


def estimate_seconds(
    batches: Sequence[Batch], throughput: Throughput, compiled: Iterable[Shape] = ()
) -> tuple[float, int]:
    """An upper limit of the seconds that batches take, and of the programs compiled.

    Args:
      batches: to train; masking may save some of the programs.
      throughput: of this machine.
      compiled: shapes whose programs exist already.
    """
    new = {batch.shape for batch in batches} - set(compiled)
    seconds = sum(run_seconds(batch, throughput) for batch in batches)
    return seconds + len(new) * throughput.compile_s, len(new)


def masked(batch: Batch, program: Batch) -> list[Batch]:
    """``batch`` as runs of a program that was compiled for more peers."""
    return [
        Batch(batch.runs[start : start + program.size], program.size, program.peers)
        for start in range(0, len(batch.runs), program.size)
    ]
