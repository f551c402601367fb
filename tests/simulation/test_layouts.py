"""Layouts give one result; devices meet in one place; no gradient crosses peers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.exchange.exchange import ExchangeInputs, make_exchange
from p2p_sac_jax.exchange.guidance import bootstrap as guide
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.peer.context import make_peer_components
from tests.helpers.populations import (
    assert_close,
    peer_of,
    placement,
    run,
    small_config,
    small_run,
)

pytestmark = pytest.mark.slow
NETWORK = 2  # the third arm


@pytest.fixture(scope="module")
def batched():
    return small_run()


@pytest.fixture(scope="module")
def sharded():
    return run(small_config(), "map", devices=2)


def test_one_peer_per_device_agrees_after_32_updates(batched, sharded):
    # 12 steps of 4 updates; learning starts at the fourth: 36 updates.
    assert int(sharded.state.learner.updates.min()) >= 32
    assert_close(sharded.state, batched.state, 1e-5)


@pytest.mark.thorough
def test_one_peer_after_the_other_agrees_after_32_updates(batched):
    assert_close(run(small_config(), "map").state, batched.state, 1e-5)


@pytest.mark.thorough
def test_some_peers_at_a_time_agree_after_32_updates(batched):
    config = small_config()
    some = placement(config, "map")._replace(mesh=None, map_batch_size=2)
    outcome = run(config, setup=build_experiment(config, some))
    assert_close(outcome.state, batched.state, 1e-5)


def test_small_networks_run_four_learners_at_a_time():
    def map_batch_size(width, peers=16, arms="network"):
        config = small_config(
            root={"arms": arms, "devices": 1},
            population={"peers": peers},
            sac={"hidden": width, "batch_size": width},
        )
        return placement(config, "map").map_batch_size

    assert map_batch_size(64) == 4
    assert map_batch_size(64, arms="plain,network") == 2
    assert map_batch_size(64, arms="plain,memory,network") == 1
    assert map_batch_size(64, peers=6) == 3
    assert map_batch_size(64, peers=7) == 1
    assert map_batch_size(256) == 1
    assert placement(small_config(), "vmap").map_batch_size == 0


def test_devices_meet_in_one_all_gather_and_nowhere_else(sharded):
    setup = sharded.setup
    clock = jnp.zeros((), jnp.int32)
    arguments = sharded.state, setup.peer_inputs, setup.run_inputs, clock
    program = sharded.programs.run_chunk.lower(*arguments).compile().as_text()
    collectives = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        program,
    )
    assert collectives == ["all-gather"]


def test_no_gradient_crosses_between_peers(batched):
    setup = batched.setup
    config = small_config(sac={"discount": 0.9})  # so that the network enters targets
    hyper = make_hyper(config)
    one = 1  # store 0 has seen one cell: its values have no scale
    components = make_peer_components(config, setup.environment)
    exchange = make_exchange(
        components.memory.base_prior, value_sharing="precision", pooling="prior"
    )
    everyone = peer_of(batched.state, (slice(None), NETWORK))
    key, clock = jax.random.key(0), jnp.asarray(12, jnp.int32)
    inputs = jax.tree.map(lambda leaf: leaf[:, None], everyone)

    def loss_of_one(params):
        learners = everyone.learner._replace(params=params)
        states = inputs._replace(
            learner=jax.tree.map(lambda leaf: leaf[:, None], learners)
        )
        runs = setup.run_inputs._replace(hyper=jax.tree.map(lambda x: x[None], hyper))
        own = setup.population.local_summary(states, setup.peer_inputs, runs, clock)
        own = peer_of(own, (slice(None), 0))
        sent = components.mode.decode(own)  # in mode private a message is the summary
        edges = setup.peer_inputs.adjacency[:, NETWORK]
        now = clock * config.environment.seconds_per_step
        trust, steps = everyone.trust, everyone.steps
        result = exchange(
            ExchangeInputs(sent, own, edges, trust, steps, hyper, clock, now)
        )
        guidance = peer_of(result.guidance, one)
        row_key, update_key = jax.random.split(key)
        rows = components.replay.sample(peer_of(everyone.replay, one), row_key, 8)

        def bootstrap(value, next_obs):
            return guide(guidance, jax.vmap(components.cell)(next_obs))(value)

        mine = peer_of(learners, one)
        _, losses = components.sac.update(
            mine, rows, bootstrap, hyper.sac, update_key, jnp.ones(())
        )
        return losses.critic_loss + losses.actor_loss, guidance.value_weight

    grads, weight = jax.jit(jax.grad(loss_of_one, has_aux=True))(
        everyone.learner.params
    )
    assert float(weight.max()) > 0.0
    leaves = jax.tree.leaves(grads)
    assert any(np.asarray(leaf[one]).any() for leaf in leaves)
    assert not any(np.delete(leaf, one, axis=0).any() for leaf in leaves)
