"""Stable-Baselines3 and its JAX edition SBX: one agent, end to end ``model.learn``.

A round is one environment step and one update. The environment is Gymnasium's, in
Python, as these libraries are used; SBX compiles its update, SB3 runs in PyTorch.
"""

from __future__ import annotations

# pyright: reportMissingImports=false
import time
from collections.abc import Callable
from typing import Any

from benchmarks.baselines import Contestant, Work, exactly

TORCH_THREADS = 2
_WARM_UP = 10  # updates


def make_sbx(work: Work) -> Contestant:
    """SBX; the compile time is that of its first updates."""
    import sbx

    began = time.perf_counter()
    model = sbx.SAC("MlpPolicy", "Pendulum-v1", **_settings(work))
    _learn(model, work.batch + _WARM_UP)
    compile_s = time.perf_counter() - began

    def updates() -> int:
        """Steps of the optimisers, which must agree."""
        done = int(model.policy.qf_state.step)
        exactly("sbx", int(model.policy.actor_state.step), done)
        return exactly("sbx", int(model.ent_coef_state.step), done)

    return _contestant("sbx", model, updates, compile_s)


def make_sb3(work: Work) -> Contestant:
    """Stable-Baselines3 on the processor, with two PyTorch threads."""
    import stable_baselines3
    import torch

    torch.set_num_threads(TORCH_THREADS)
    model = stable_baselines3.SAC(
        "MlpPolicy", "Pendulum-v1", device="cpu", **_settings(work)
    )
    _learn(model, work.batch + _WARM_UP)

    def steps(optimizer: Any) -> int:
        return int(next(iter(optimizer.state.values()))["step"])

    def updates() -> int:
        """Steps of the optimisers, which must agree."""
        done = steps(model.critic.optimizer)
        exactly("sb3", steps(model.actor.optimizer), done)
        return exactly("sb3", steps(model.ent_coef_optimizer), done)

    return _contestant("sb3", model, updates, 0.0)


def _settings(work: Work) -> dict[str, Any]:
    """What both libraries call by the same names."""
    return {
        "policy_kwargs": {"net_arch": [work.hidden, work.hidden]},
        "batch_size": work.batch,
        "buffer_size": work.replay,
        "learning_starts": work.batch,
        "train_freq": 1,
        "gradient_steps": 1,
        "ent_coef": "auto",
        "seed": 0,
        "verbose": 0,
    }


def _learn(model: Any, steps: int) -> None:
    model.learn(steps, reset_num_timesteps=False, log_interval=None)


def _contestant(
    name: str, model: Any, updates: Callable[[], int], compile_s: float
) -> Contestant:
    def run(steps: int) -> int:
        before = updates()
        _learn(model, steps)
        return exactly(name, updates() - before, steps)

    exactly(name, updates(), _WARM_UP)
    return Contestant(name, run, compile_s)
