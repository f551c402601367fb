"""Time spent and work done by a run, added up over every process it took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from p2p_sac_jax.config_io import load_json, save_json
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.peer import PeerState

FILE = "times.json"
_NAMES = ("compile_s", "run_s", "wall_s")


class Account:
    """The times of a run; what a crash undid is not counted."""

    def __init__(self, workdir: Path, step: int, started: float) -> None:
        """Goes on from the times noted with the checkpoint at ``step``.

        Args:
          workdir: folder of the run.
          step: of the checkpoint that this process starts from, 0 for none.
          started: ``time.perf_counter()`` when this process began its work.
        """
        self._path = workdir / FILE
        self._noted = distributed.broadcast_from_main(
            lambda: load_json(self._path) if step and self._path.exists() else {}
        )
        before = self._noted.get(str(step), {})
        self._before = {name: before.get(name, 0.0) for name in _NAMES}
        self._started = started
        self._compile_s = 0.0
        self._running_since = 0.0

    def start_running(self, compile_s: float) -> None:
        """Compiling is over; stepping begins."""
        self._compile_s = compile_s
        self._running_since = time.perf_counter()

    def times(self) -> dict[str, float]:
        """Seconds compiling, stepping and in all, up to now."""
        now = time.perf_counter()
        spent = {
            "compile_s": self._compile_s,
            "run_s": now - self._running_since,
            "wall_s": now - self._started,
        }
        return {name: self._before[name] + spent[name] for name in _NAMES}

    def note(self, step: int) -> None:
        """Remembers the times that go with the checkpoint at ``step``."""
        self._noted[str(step)] = self.times()
        if distributed.is_main():
            save_json(self._path, self._noted)


def rates(state: PeerState, peers: int, run_s: float) -> dict[str, Any]:
    """Environment steps and gradient updates a second, counted by the peers.

    Args:
      state: leaves [P, R, ...] at the end.
      peers: P without padding.
      run_s: seconds of stepping that led there.
    """
    counts = distributed.gather((state.steps, state.learner.updates))
    steps, updates = (int(leaf[:peers].sum()) for leaf in counts)
    return {
        "env_steps": steps,
        "updates": updates,
        "env_steps_per_s": steps / run_s,
        "updates_per_s": updates / run_s,
    }
