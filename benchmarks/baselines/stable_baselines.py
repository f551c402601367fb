"""Stable-Baselines3 and its JAX edition SBX: one agent, end to end ``model.learn``.

A chunk is one environment step and one update. The environment is Gymnasium's, in
Python, as these libraries are used; SBX compiles its update, SB3 runs in PyTorch.
"""

from __future__ import annotations

# pyright: reportMissingImports=false
import time
from collections.abc import Callable
from typing import Any

from benchmarks.baselines import TrainingProgram, Workload
from benchmarks.timing import check_updates

TORCH_THREADS = 2
_WARM_UP = 10  # updates


def make_sbx(workload: Workload) -> TrainingProgram:
    """SBX; the compile time is that of its first updates."""
    import sbx

    began = time.perf_counter()
    model = sbx.SAC("MlpPolicy", "Pendulum-v1", **_settings(workload))
    _learn(model, workload.batch + _WARM_UP)
    compile_s = time.perf_counter() - began

    def updates() -> int:
        """Steps of the optimisers, which must be equal."""
        done = int(model.policy.qf_state.step)
        check_updates("sbx", int(model.policy.actor_state.step), done)
        return check_updates("sbx", int(model.ent_coef_state.step), done)

    return _program("sbx", model, updates, compile_s)


def make_sb3(workload: Workload) -> TrainingProgram:
    """Stable-Baselines3 on the processor, with two PyTorch threads."""
    import stable_baselines3
    import torch

    torch.set_num_threads(TORCH_THREADS)
    model = stable_baselines3.SAC(
        "MlpPolicy", "Pendulum-v1", device="cpu", **_settings(workload)
    )
    _learn(model, workload.batch + _WARM_UP)

    def steps(optimizer: Any) -> int:
        return int(next(iter(optimizer.state.values()))["step"])

    def updates() -> int:
        """Steps of the optimisers, which must be equal."""
        done = steps(model.critic.optimizer)
        check_updates("sb3", steps(model.actor.optimizer), done)
        return check_updates("sb3", steps(model.ent_coef_optimizer), done)

    return _program("sb3", model, updates, 0.0)


def _settings(workload: Workload) -> dict[str, Any]:
    """Arguments that both libraries name alike."""
    return {
        "policy_kwargs": {"net_arch": [workload.hidden, workload.hidden]},
        "batch_size": workload.batch,
        "buffer_size": workload.replay,
        "learning_starts": workload.batch,
        "train_freq": 1,
        "gradient_steps": 1,
        "ent_coef": "auto",
        "seed": 0,
        "verbose": 0,
    }


def _learn(model: Any, steps: int) -> None:
    model.learn(steps, reset_num_timesteps=False, log_interval=None)


def _program(
    name: str, model: Any, updates: Callable[[], int], compile_s: float
) -> TrainingProgram:
    def run(steps: int) -> int:
        before = updates()
        _learn(model, steps)
        return check_updates(name, updates() - before, steps)

    check_updates(name, updates(), _WARM_UP)
    return TrainingProgram(run, compile_s)
