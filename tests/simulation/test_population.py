"""The population: masks and order hold, and a run without messages is bit-identical.

Every configuration runs all three arms side by side; those that differ in their
inputs alone share one compiled program.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.populations import (
    assert_close,
    assert_identical,
    peer_of,
    run,
    small_config,
    small_run,
)

pytestmark = pytest.mark.slow
PLAIN, MEMORY, NETWORK = range(3)
OFF = {"exchange": {"topology": "empty", "value_sharing": "none"}}
NOT_POOLED = {"memory": {"pooling": "none"}}


@pytest.fixture(scope="module")
def straight():
    """All arms of four stores, the reference of most tests."""
    return small_run()


@pytest.fixture(scope="module")
def lone(straight):
    """Each store of the reference in a population of its own."""
    setup = straight.setup
    outcomes, programs = [], None
    for peer in range(4):
        own = slice(peer, peer + 1)
        peer_inputs = peer_of(setup.peer_inputs, own)
        alone = setup._replace(
            peer_inputs=peer_inputs._replace(
                adjacency=peer_inputs.adjacency[:, :, own] * 0.0,
                connected=peer_inputs.connected * 0.0,
            ),
            run_inputs=setup.run_inputs._replace(
                senders=peer_of(setup.run_inputs.senders, own)
            ),
        )
        outcomes.append(run(setup.config, setup=alone, programs=programs))
        programs = outcomes[0].programs
    return outcomes


def test_a_chunk_is_traced_once_for_all_clocks(straight):
    assert straight.programs.traces == ["run_chunk"]


def test_population_equals_a_loop_over_lone_peers(straight, lone):
    isolated = [PLAIN, MEMORY]
    for peer, alone in enumerate(lone):
        mine = peer_of(straight.state, slice(peer, peer + 1))
        for run_index in isolated:
            arm = (slice(None), run_index)
            one, other = peer_of(alone.state, arm), peer_of(mine, arm)
            # Alone there is nobody to have an opinion of.
            pair = one._replace(trust=None), other._replace(trust=None)
            assert_close(*pair, 1e-5)


@pytest.mark.parametrize("cut", [{"topology": "empty"}, {"network_weight": 0.0}])
def test_no_messages_is_bit_identical_to_no_network(cut, straight, request):
    isolated = run(small_config(exchange=cut), programs=straight.programs)
    off = request.getfixturevalue("off")
    assert_identical(isolated.state, off.state)


@pytest.fixture(scope="module")
def off():
    return run(small_config(**OFF, **NOT_POOLED))


def test_one_peer_is_bit_identical_to_no_network(lone):
    one = {"population": {"peers": 1}}
    isolated = run(small_config(**one), programs=lone[0].programs)
    assert_identical(
        isolated.state, run(small_config(**one, **OFF, **NOT_POOLED)).state
    )


@pytest.mark.thorough
def test_no_messages_without_memory_is_plain_sac(straight):
    changes = {
        "model_rollouts": {"fraction": 0.0},
        "exploration": {"source": "policy"},
    }
    config = small_config(
        **changes,
        exchange={"topology": "empty"},
        memory={"pretrain_updates": 4, "model_blend_half_life": 0.0},
    )
    isolated = run(config, programs=straight.programs)
    forgetful = {"memory": {"kind": "none", "pooling": "none"}}
    plain = run(small_config(**changes, **OFF, **forgetful))
    remembered = dict.fromkeys(
        ("memory", "normalised_error", "send_state", "channel", "belief")
    )
    assert_identical(
        isolated.state._replace(**remembered), plain.state._replace(**remembered)
    )


def test_the_network_changes_something(straight):
    critic = straight.state.learner.params["critic"]
    assert any(
        np.abs(leaf[:, NETWORK] - leaf[:, MEMORY]).max() > 1e-4
        for leaf in jax.tree.leaves(critic)
    )


def test_every_channel_of_the_network_acts_on_networked_peers_alone(straight):
    last = straight.metrics[-1]
    signs = last.peer.value_weight, last.peer.std_weight
    for sign in (
        *signs,
        *last.exchange,
        last.traffic.sent,
        last.traffic.bytes_received,
    ):
        assert (np.asarray(sign)[:, :, NETWORK] > 0).any()
        assert not np.asarray(sign)[:, :, [PLAIN, MEMORY]].any()


def test_permuting_peers_permutes_the_outcome(straight):
    order = np.array([2, 0, 3, 1])
    setup = straight.setup
    peer_inputs = peer_of(setup.peer_inputs, order)
    peer_inputs = peer_inputs._replace(adjacency=peer_inputs.adjacency[:, :, order])
    runs = setup.run_inputs._replace(senders=peer_of(setup.run_inputs.senders, order))
    permuted = run(
        setup.config,
        setup=setup._replace(peer_inputs=peer_inputs, run_inputs=runs),
        programs=straight.programs,
    )
    expected = peer_of(straight.state, order)
    expected = expected._replace(trust=expected.trust[:, :, order])
    assert_close(permuted.state, expected, 1e-6)


@pytest.mark.thorough
def test_padding_changes_nothing(straight):
    padded = run(small_config(population={"peers": 4, "pad_to": 6}))
    real = peer_of(padded.state, slice(4))
    # Opinions are shares: those of six start at 1/6, none is of a peer that pads.
    real = real._replace(trust=real.trust[:, :, :4] * 6 / 4)
    assert_close(real, straight.state, 1e-5)
    assert (padded.state.steps[4:] == 0).all()


def test_arms_see_the_same_market(straight):
    for metrics in straight.metrics:
        cost = np.asarray(metrics.peer.info.cost)  # [rounds, P, R, S]
        assert (cost == cost[:, :, :1]).all()
        price = np.asarray(metrics.peer.info.price)
        for one, other in ((PLAIN, MEMORY), (PLAIN, NETWORK)):
            assert (price[:, :, one] != price[:, :, other]).any()


def test_newcomers_wait_untouched_and_pretrain_with_the_network(straight):
    config = small_config(population={"peers": 4, "newcomers": 1, "join_step": 8})
    waiting = run(config, programs=straight.programs, chunks=2)
    setup = waiting.setup
    inputs = setup.peer_inputs, setup.run_inputs
    fresh = straight.programs.init(*inputs)
    assert_identical(peer_of(waiting.state, 3), peer_of(fresh, 3))

    clock = jnp.asarray(8, jnp.int32)
    ready = jax.jit(setup.population.pretrain_on_model)(waiting.state, *inputs, clock)
    updates = np.asarray(ready.learner.updates)
    assert updates[3].tolist() == [0, 0, config.memory.pretrain_updates]
    # A pretrained peer has learned and has a belief; nothing else is touched.
    rest = {"learner": None, "belief": None}
    assert_identical(ready._replace(**rest), waiting.state._replace(**rest))
    moved = np.any(np.asarray(ready.belief.mean != waiting.state.belief.mean), axis=-1)
    assert np.argwhere(moved).tolist() == [[3, NETWORK]]
    after, _ = straight.programs.run_chunk(ready, *inputs, clock)
    assert after.steps[:, NETWORK].tolist() == [12, 12, 12, 4]
