"""Times and throughput of a run, added up over all processes that trained it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.files import DamagedFile, load_json, save_json
from p2p_sac_jax.peer import PeerState

FILE = "times.json"
_log = logging.getLogger(__name__)
_NAMES = ("compile_s", "run_s", "wall_s")


class RunTimer:
    """Seconds compiling, training and in all; work lost in a crash is not counted."""

    def __init__(self, workdir: Path, step: int, started: float) -> None:
        """Continues from the times saved with the checkpoint at ``step``.

        Args:
          workdir: folder of the run.
          step: of the checkpoint that this process starts from, 0 for none.
          started: ``time.perf_counter()`` when this process began its work.
        """
        self._path = workdir / FILE
        self._saved = distributed.broadcast_from_main(
            lambda: self._load() if step and self._path.exists() else {}
        )
        earlier = self._saved.get(str(step), {})
        self._earlier = {name: earlier.get(name, 0.0) for name in _NAMES}
        self._started = started
        self._compile_s = 0.0
        self._training_since = 0.0

    def _load(self) -> dict[str, Any]:
        try:
            return load_json(self._path)
        except DamagedFile as error:
            _log.warning("%s; times count from here", error)
            return {}

    def start_training(self, compile_s: float) -> None:
        """Compiling, which took ``compile_s``, is over."""
        self._compile_s = compile_s
        self._training_since = time.perf_counter()

    def times(self) -> dict[str, float]:
        """Seconds compiling, training and in all, up to now."""
        now = time.perf_counter()
        current = {
            "compile_s": self._compile_s,
            "run_s": now - self._training_since,
            "wall_s": now - self._started,
        }
        return {name: self._earlier[name] + current[name] for name in _NAMES}

    def save(self, step: int) -> None:
        """Saves the times that belong to the checkpoint at ``step``."""
        self._saved[str(step)] = self.times()
        if distributed.is_main():
            save_json(self._path, self._saved)


def throughput(state: PeerState, peers: int, run_s: float) -> dict[str, Any]:
    """Environment steps and gradient updates per second.

    Args:
      state: leaves [P, R, ...] at the end; the peers count steps and updates.
      peers: P without padding.
      run_s: seconds of training.
    """
    counts = distributed.gather((state.steps, state.learner.updates))
    steps, updates = (int(leaf[:peers].sum()) for leaf in counts)
    return {
        "env_steps": steps,
        "updates": updates,
        "env_steps_per_s": steps / run_s,
        "updates_per_s": updates / run_s,
    }
