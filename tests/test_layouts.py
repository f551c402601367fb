"""Layouts give one result; devices meet in one place; no gradient crosses peers."""

import re

import jax
import jax.numpy as jnp
import pytest
from populations import assert_close, run, small_config


@pytest.fixture(scope="module")
def batched():
    return run(small_config(), "vmap")


@pytest.fixture(scope="module")
def sharded():
    return run(small_config(), "shard")


def test_one_peer_per_device_agrees_after_32_updates(batched, sharded):
    # 12 steps of 4 updates; learning starts at the fourth: 36 updates.
    assert int(sharded.state.learner.updates.min()) >= 32
    assert_close(sharded.state, batched.state, 1e-5)


def test_one_peer_after_the_other_agrees_after_32_updates(batched):
    assert_close(run(small_config(), "map").state, batched.state, 1e-5)


def test_devices_meet_in_one_all_gather_and_nowhere_else(sharded):
    setup = sharded.setup
    clock = jnp.zeros((), jnp.int32)
    arguments = sharded.state, setup.members, setup.runs, clock
    program = sharded.programs.run_chunk.lower(*arguments).compile().as_text()
    collectives = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        program,
    )
    assert collectives == ["all-gather"]


def test_no_gradient_crosses_between_peers(batched):
    setup, state = batched.setup, batched.state

    def loss_of_peer_0(params):
        learner = state.learner._replace(params=params)
        _, metrics = setup.population.run_chunk(
            state._replace(learner=learner),
            setup.members,
            setup.runs,
            jnp.asarray(12, jnp.int32),
        )
        return metrics.learner.critic_loss[:, 0].sum()

    grads = jax.jit(jax.grad(loss_of_peer_0))(state.learner.params)
    own = jax.tree.leaves(jax.tree.map(lambda g: jnp.abs(g[0]).max(), grads))
    others = jax.tree.leaves(jax.tree.map(lambda g: jnp.abs(g[1:]).max(), grads))
    assert max(float(g) for g in own) > 0.0
    assert all(float(g) == 0.0 for g in others)
