"""Invented sweeps, written as real ones are: the same grid, runs and folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.ablation import results
from p2p_sac_jax.ablation.grid import grid_points, make_grid
from p2p_sac_jax.ablation.run_curves import Curves
from p2p_sac_jax.ablation.runs import Run
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import to_dict
from p2p_sac_jax.experiment.build import adjacency_of

ALONE = {"exchange.topology": "empty"}
ARMS: dict[str, dict[str, Any]] = {"memory": ALONE, "network": {}}
PLAIN = ALONE | {
    "model_rollouts.fraction": 0.0,
    "memory.pooling": "none",
    "exploration.source": "fixed",
}
HISTORICAL, ORACLE = 0.93, 4.0


def write_sweep(
    folder: Path,
    factors: Mapping[str, Sequence[Any]],
    arms: Mapping[str, Mapping[str, Any]] = ARMS,
    seeds: int = 3,
    config: TrainConfig | None = None,
    failed: Iterable[tuple[str, int]] = (),
    missing: Iterable[tuple[str, int]] = (),
    oracle: bool = True,
) -> Path:
    """Writes a sweep of learning curves that rise as such curves do.

    Args:
      folder: of the sweep.
      factors: swept field to values.
      arms: name to overrides.
      seeds: how many.
      config: the base; 24 steps of 3 peers if there is none.
      failed: (arm, seed) of runs that failed, at every point.
      missing: (arm, seed) of runs that have not been computed.
      oracle: whether shares of the oracle are known.
    """
    if config is None:
        config = TrainConfig(steps=24, evaluate_every=4)
    asked = make_grid(config, factors, arms, seeds)
    points = list(grid_points(asked))
    results.save_sweep(folder, folder.name, asked, points)
    failed, missing = set(failed), set(missing)
    for point in points:
        for seed, run in zip(asked.seeds, point.runs, strict=True):
            if run is None or (point.arm, seed) in missing:
                continue
            if (point.arm, seed) in failed:
                reason = "ConfigError: no <finite> score"
                results.save_failure(folder, run.key, reason)
            else:
                results.save_run(folder, run.key, invent(run, oracle))
    return folder


def invent(run: Run, oracle: bool = True) -> results.RunResult:
    """An invented result; the more messages a run receives, the faster it learns."""
    config = run.config
    peers, every = config.population.peers, config.evaluate_every
    rng = np.random.default_rng([config.seed, peers])
    adjacency = adjacency_of(config)
    neighbours = adjacency.sum(axis=1).mean()
    byzantine_peers = np.arange(peers) >= peers - config.attack.byzantine
    plain = config.model_rollouts.fraction == 0
    time_scale = 60.0 if plain else 16.0 / (1.0 + 0.5 * np.log1p(neighbours))
    time_scale *= 1.0 + 0.15 * rng.standard_normal() + 0.8 * byzantine_peers.mean()
    final = (0.94 if plain else 0.985) + 0.003 * rng.standard_normal()
    skill = 0.01 * rng.standard_normal(peers)

    def level(steps: np.ndarray) -> np.ndarray:
        """[T, P] share of the oracle after that many steps."""
        rise = 1.0 - np.exp(-steps / time_scale)[:, None]
        dip = (0.5 if plain else 0.2) * rise * (1.0 - rise)
        return HISTORICAL + (final + skill - HISTORICAL) * rise - dip

    evaluated = np.arange(every, config.steps + 1, every)
    steps = np.arange(config.steps)
    best = np.full((config.steps, peers), ORACLE)
    known = 1.0 if oracle else np.nan
    shape = len(evaluated), peers
    connected = neighbours > 0
    received = 848.0 * neighbours * every / config.exchange.interval
    trust = np.zeros((0, peers, peers))
    if config.weights.trust_rate > 0 and connected:
        fade = np.exp(-evaluated / 20)[:, None, None]
        trust = np.where(byzantine_peers[None, None, :], fade, 1.0) * np.ones(
            (1, peers, 1)
        )
    curves = Curves(
        steps=evaluated.astype(np.int32),
        joins=np.zeros(peers, np.int32),
        byzantine=byzantine_peers,
        episode_return=ORACLE * level(evaluated) * config.evaluation_weeks,
        oracle_fraction=known * level(evaluated),
        baseline_fraction=np.full(shape, known * HISTORICAL),
        achieved=best * (level(steps) - 0.01),
        oracle=known * best,
        baseline=known * best * HISTORICAL,
        bytes_received=np.full(shape, received),
        calibration=np.full(len(evaluated), -0.1),
        trust=trust,
    )
    meta = {
        "config": to_dict(config),
        "seed": config.seed,
        "names": [f"store {5 * peer + 2}, brand 1" for peer in range(peers)],
        "adjacency": adjacency.astype(int).tolist(),
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "platform": "Linux x86_64",
        "device_kind": "cpu",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "started": f"2026-11-25T14:{config.seed:02}:00+00:00",
        "run_s": 0.002 * peers * config.steps,
        "compile_s": 3.0,
    }
    return results.RunResult(meta, curves)
