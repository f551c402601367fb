"""Invented runs, written as training writes them: a market or a control task."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np

from p2p_sac_jax.config import TrainConfig

ARMS = ("plain", "memory", "network")
# Time scale in weeks, final share of the oracle and dip while learning, by arm.
SHAPES = {
    "plain": (70, 0.93, 0.3),
    "memory": (16, 0.977, 0.1),
    "network": (9, 0.982, 0.05),
}


def write_run(
    path: pathlib.Path,
    peers: int = 3,
    steps: int = 24,
    seeds: int = 1,
    control: bool = False,
    world: str = "logit",
    drawn: bool = False,
) -> pathlib.Path:
    """Writes the files of an invented run of a market, or of a control task.

    Args:
      path: of the run's folder.
      peers: how many.
      steps: of training.
      seeds: how many.
      control: whether it is of a control task.
      world: of demand.
      drawn: whether each seed draws its own stores.
    """
    rng = np.random.default_rng(7)
    path.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(
        TrainConfig(steps=steps, seeds=seeds, evaluation_weeks=52)
    )
    config["population"]["peers"] = peers
    config["environment"]["world"] = world
    if drawn:
        config["population"]["draw"] = "random"
    if control:
        config["environment"]["name"] = "pendulum"
    run = {
        "config": config,
        "config_hash": "3f9a1c04be77",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": True,
        "versions": {"jax": "0.10.2", "python": "3.11.2"},
        "devices": ["cpu:0", "cpu:1"],
        "platform": "Linux x86_64",
        "layout": "vmap",
        "started": "2026-11-22T14:08:00+00:00",
        "arms": list(ARMS),
        "seeds": list(range(seeds)),
        "peers": [
            {"peer": p, "names": {seed: _name(p, seed) for seed in range(seeds)}}
            if drawn
            else {"peer": p, "name": _name(p)}
            for p in range(peers)
        ],
        "adjacency": (1 - np.eye(peers, dtype=int)).tolist(),
        "network": {
            "senders_per_round": peers - 1.0,
            "mixing": "metropolis",
            "spectral_gap": 1.0,
        },
        "privacy": {
            "mode": "public",
            "adjacency": "replace one week",
            "channels": {"demand statistics": "epsilon 8 in all"},
            "epsilon_budget": 8.0,
            "messages_allowed": 52,
        },
        "channels": {
            "demand prior": "active",
            "exploration std": "active",
            "value target": "idle: sac.discount is 0",
        },
    }
    (path / "run.json").write_text(json.dumps(run))
    rows = [
        row
        for seed in range(seeds)
        for arm in ARMS
        for row in _rows(rng, arm, seed, peers, steps, control)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(lines)
    (path / "summary.json").write_text(json.dumps(_summary(control)))
    if not control:
        stores = [_store(rng, arm, peer) for arm in ARMS[1:] for peer in range(peers)]
        (path / "stores.json").write_text(json.dumps(stores))
    return path


def _rows(rng, arm, seed, peers, steps, control):
    """Metrics of one arm and seed: population and peer rows of each evaluation."""
    scale, final, dip = SHAPES[arm]
    skill = 0.02 * rng.standard_normal(peers)
    sums = np.zeros(3)
    for step in range(4, steps + 1, 4):
        weeks = np.arange(step - 4, step)
        rise = 1 - np.exp(-step / scale)
        level = 0.93 + (final - 0.93) * rise - dip * rise * np.exp(-step / scale) * 4
        fractions = np.minimum(level + skill * (1.5 - rise), 0.999)
        outcome = np.array([4 * (level - 0.02), 4.0, 4 * 0.93]) * peers
        sums += outcome
        shared = {"run": arm, "seed": seed, "step": step}
        row = shared | {
            "population": True,
            "evaluation_reward": float(fractions.mean()),
        }
        if not control:
            row |= {
                "oracle_fraction": float(fractions.mean()),
                "oracle_fraction_worst": float(fractions.min()),
                "baseline_fraction": 0.929,
                "gap_closed": float((fractions.mean() - 0.929) / 0.071),
                "earned_fraction": sums[0] / sums[1],
                "baseline_earned_fraction": sums[2] / sums[1],
            }
        yield row
        for peer in range(peers):
            cost = 0.7 + 0.06 * np.sin((weeks + 9 * peer) / 7)
            oracle = cost + 0.36 + 0.03 * np.cos(2 * np.pi * weeks / 52)
            noise = (0.04 + 0.1 * np.exp(-step / scale)) * rng.standard_normal(4)
            row = shared | {
                "peer": peer,
                "evaluation_reward": float(fractions[peer]),
                "critic_loss": 0.2 + np.exp(-step / 20) * rng.uniform(0.5, 1.5),
                "actor_loss": -1.0,
                "alpha": 0.1 * np.exp(-step / 60),
                "entropy": -1.0,
                "td_error": 0.3 + 0.4 * np.exp(-step / 30),
                "behaviour_std": 0.05 + 0.1 * np.exp(-step / 30),
                "model_rollout_fraction": 0.0 if arm == "plain" else 0.9,
                "value_weight": 0.0,
                "std_weight": 0.3,
                "bytes_received": 927.0 * 4 if arm == "network" else 0.0,
            }
            if control:
                row["episode_return"] = 52 * float(fractions[peer])
            else:
                row |= {
                    "oracle_fraction": float(fractions[peer]),
                    "baseline_fraction": 0.929,
                    "achieved": [outcome[0] / peers / 4] * 4,
                    "oracle": [outcome[1] / peers / 4] * 4,
                    "baseline": [outcome[2] / peers / 4] * 4,
                    "price": (oracle - 0.2 * np.exp(-step / scale) + noise).tolist(),
                    "oracle_price": oracle.tolist(),
                    "cost": cost.tolist(),
                    "demand_slope": 3.2 - 1.2 * np.exp(-step / scale),
                    "demand_slope_std": 0.15 + 1.5 * np.exp(-step / scale),
                }
            yield row


def _name(peer, seed=0):
    return f"store {5 * peer + 2 + seed} · brand 1"


def _store(rng, arm, peer):
    price = np.linspace(0.667, 1.5, 41)
    slope = 3.0 + 0.2 * peer
    true = np.exp(-slope * (price - 1))
    error = rng.normal(0, 0.15 if arm == "memory" else 0.08)
    spread = (0.25 if arm == "memory" else 0.12) * (0.3 + np.abs(price - 1.05) * 2)
    believed = np.exp(-(slope + error) * (price - 1) + 0.2 * error)
    return {
        "run": arm,
        "seed": 0,
        "peer": peer,
        "name": _name(peer),
        "price": price.tolist(),
        "believed": believed.tolist(),
        "low": (believed * np.exp(-spread)).tolist(),
        "high": (believed * np.exp(spread)).tolist(),
        "true": true.tolist(),
    }


def _summary(control):
    speed = {"compile_s": 6.31, "wall_s": 41.2, "env_steps_per_s": 242.0}
    return speed if control else speed | {"updates_per_s": 3876.5}
