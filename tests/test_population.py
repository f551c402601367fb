"""The population: layouts agree, masks hold, and silence is bit-identical."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import assert_close, assert_identical, placement, run, small_config

from p2p_sac_jax.experiment.setup import make_setup

NETWORK = {"root": {"arms": "network"}}


@pytest.fixture(scope="module")
def networked():
    return run(small_config(**NETWORK))


def test_a_chunk_is_traced_once_for_all_clocks():
    config = small_config(root={"arms": "memory,network"})
    setup = make_setup(config, placement(config, "vmap"))
    traces = 0

    def counted(*args):
        nonlocal traces
        traces += 1
        return setup.population.run_chunk(*args)

    chunk = jax.jit(counted)
    inputs = setup.members, setup.runs
    state = jax.jit(setup.population.init)(*inputs)
    for clock in (0, 4, 8):
        state, _ = chunk(state, *inputs, jnp.asarray(clock, jnp.int32))
    assert traces == 1


def test_devices_meet_in_one_all_gather_and_nowhere_else():
    config = small_config(root={"arms": "memory,network"})
    setup = make_setup(config, placement(config, "shard"))
    state = jax.jit(setup.population.init)(setup.members, setup.runs)
    lowered = jax.jit(setup.population.run_chunk).lower(
        state, setup.members, setup.runs, jnp.zeros((), jnp.int32)
    )
    program = lowered.compile().as_text()
    collectives = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        program,
    )
    assert collectives == ["all-gather"]


@pytest.mark.parametrize("layout", ["map", "shard"])
def test_layouts_agree_after_32_updates(layout, networked):
    # 12 steps of 4 updates; learning starts at the fourth: 36 updates.
    other = run(networked.setup.config, layout)
    assert int(other.state.learner.updates.min()) >= 32
    assert_close(other.state, networked.state, 1e-5)


def test_population_equals_a_loop_over_lone_peers():
    config = small_config(root={"arms": "memory"})
    together = run(config)
    setup = together.setup
    for peer in range(4):
        alone = setup._replace(
            members=jax.tree.map(lambda leaf, p=peer: leaf[p : p + 1], setup.members),
            runs=setup.runs._replace(
                sender_joins=setup.runs.sender_joins[peer : peer + 1]
            ),
        )
        alone = alone._replace(
            members=alone.members._replace(adjacency=jnp.zeros((1, 1, 1)))
        )
        lone = run(config, setup=alone)
        mine = jax.tree.map(lambda leaf, p=peer: leaf[p : p + 1], together.state)
        assert_close(lone.state, mine, 1e-5)


SILENT = {
    "empty adjacency": {"exchange": {"topology": "empty"}},
    "network_weight 0": {"exchange": {"network_weight": 0.0}},
    "one peer": {"population": {"peers": 1}},
}


@pytest.mark.parametrize("case", SILENT)
def test_silence_is_bit_identical_to_no_network(case):
    changes = SILENT[case]
    silent = run(small_config(**NETWORK, **changes))
    off = {
        "population": changes.get("population", {}),
        "exchange": {"topology": "empty", "estimation": "none"},
        "memory": {"pooling": "none"},
    }
    assert_identical(silent.state, run(small_config(**NETWORK, **off)).state)


def test_silence_without_memory_is_plain_sac():
    changes = {
        "imagination": {"fraction": 0.0},
        "exploration": {"source": "policy"},
        "exchange": {"topology": "empty"},
    }
    silent = run(small_config(**NETWORK, **changes))
    changes["exchange"] = {"topology": "empty", "estimation": "none"}
    off = small_config(**NETWORK, **changes, memory={"kind": "none", "pooling": "none"})
    plain = run(off)
    assert_identical(
        silent.state._replace(memory=None, surprise=None),
        plain.state._replace(memory=None, surprise=None),
    )


def test_the_network_changes_something(networked):
    alone = run(small_config(root={"arms": "memory"}))
    critic = jax.tree.leaves(networked.state.learner.params["critic"])
    other = jax.tree.leaves(alone.state.learner.params["critic"])
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(critic, other, strict=True))


def test_permuting_peers_permutes_the_outcome(networked):
    order = np.array([2, 0, 3, 1])
    setup = networked.setup
    members = jax.tree.map(lambda leaf: leaf[order], setup.members)
    members = members._replace(adjacency=members.adjacency[:, :, order])
    permuted = run(setup.config, setup=setup._replace(members=members), chunks=2)
    straight = run(setup.config, setup=setup, chunks=2)
    expected = jax.tree.map(lambda leaf: leaf[order], straight.state)
    assert_close(permuted.state, expected, 1e-5)


def test_padding_changes_nothing(networked):
    config = small_config(**NETWORK, population={"peers": 4, "pad_to": 6})
    padded = run(config)
    real = jax.tree.map(lambda leaf: leaf[:4], padded.state)
    assert_close(real, networked.state, 1e-5)
    assert padded.state.steps[4:].tolist() == [[0], [0]]


def test_arms_see_the_same_market():
    outcome = run(small_config(root={"arms": "plain,memory,network"}))
    for metrics in outcome.metrics:
        cost = np.asarray(metrics.info.cost)
        assert (cost == cost[:, :, :1]).all()
        price = np.asarray(metrics.info.price)
        assert (price[:, :, 0] != price[:, :, 1]).any()


def test_newcomers_wait_untouched_and_rehearse_with_the_network():
    config = small_config(
        root={"arms": "memory,network"},
        population={"peers": 4, "newcomers": 1, "join_step": 8},
    )
    waiting = run(config, chunks=2)
    setup = waiting.setup
    inputs = setup.members, setup.runs
    fresh = jax.jit(setup.population.init)(*inputs)
    newcomer = jax.tree.map(lambda leaf: leaf[3], waiting.state)
    assert_identical(newcomer, jax.tree.map(lambda leaf: leaf[3], fresh))

    clock = jnp.asarray(8, jnp.int32)
    ready = jax.jit(setup.population.rehearse)(waiting.state, *inputs, clock)
    updates = np.asarray(ready.learner.updates)
    assert updates[3].tolist() == [0, config.memory.rehearsal_updates]
    assert_identical(ready._replace(learner=None), waiting.state._replace(learner=None))
    after, _ = jax.jit(setup.population.run_chunk)(ready, *inputs, clock)
    assert after.steps[:, 0].tolist() == [12, 12, 12, 4]


def test_no_gradient_crosses_between_peers(networked):
    setup, state = networked.setup, networked.state

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
