"""Estimated memory against allocated memory, and runs that do not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from p2p_sac_jax import ConfigError, train
from p2p_sac_jax.experiment import device_memory
from p2p_sac_jax.experiment.build import build_experiment
from tests.helpers.populations import placement, small_config


def test_the_estimate_equals_the_allocated_state():
    config = small_config(sac={"replay_capacity": 500})
    setup = build_experiment(config, placement(config, "vmap"))
    state = jax.jit(setup.population.init)(setup.peer_inputs, setup.run_inputs)
    need = device_memory.state_memory(setup)

    def taken(tree):
        leaves = [
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
            for leaf in jax.tree.leaves(tree)
        ]
        return sum(np.asarray(leaf).nbytes for leaf in leaves)

    assert need.state == taken(state)
    assert need.replay == taken(state.replay)
    assert str(need) == (
        f"{need.state / 1e6:.1f} MB of state, {need.replay / 1e6:.1f} MB of it replay"
    )


def test_a_run_that_cannot_fit_leaves_no_folder(tmp_path):
    config = small_config(sac={"replay_capacity": 10**9})
    with pytest.raises(
        ConfigError,
        match=r"population\.peers=4 with sac\.replay_capacity=1000000000 does not fit"
        r" into memory: the state needs [\d.]+ GB, [\d.]+ GB are free",
    ):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_free_memory_is_that_of_this_machine():
    assert 1e8 < device_memory.free_memory() < 1e13


def test_needed_memory_is_shared_by_all_processes(monkeypatch):
    config = small_config()
    monkeypatch.setattr(device_memory, "free_memory", lambda: 1e9)
    device_memory.check_fits(config, "the state", 0.8e9)
    with pytest.raises(ConfigError, match=r"1\.00 GB are free"):
        device_memory.check_fits(config, "the state", 1.2e9)
    monkeypatch.setattr(device_memory.distributed, "processes", lambda: 2)
    device_memory.check_fits(config, "the state", 1.2e9)


def test_a_replay_holds_at_least_a_round():
    short = dataclasses.replace(small_config().sac, replay_capacity=1)
    config = dataclasses.replace(small_config(), sac=short)
    with pytest.raises(ConfigError, match=r"sac\.replay_capacity=1 must be"):
        train(config, "never", quiet=True)
