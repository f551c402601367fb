"""Time-varying topologies: who sends when, and that the program does the same."""

import jax
import numpy as np
import pytest

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.simulation import schedules

SIZES = [1, 2, 3, 4, 5, 8, 13, 64]


@pytest.mark.parametrize("name", find_field("exchange.topology").choices())
def test_only_time_varying_topologies_have_partners(name):
    assert (topology.partners(name, 4, 3) is None) == (name not in topology.DYNAMIC)


@pytest.mark.parametrize("peers", SIZES)
def test_one_peer_exponential_follows_its_formula(peers):
    partners = topology.partners("one_peer_exponential", peers, rounds=100)
    if peers == 1:
        np.testing.assert_array_equal(partners, [[-1]])
        return
    cycle = int(np.ceil(np.log2(peers)))
    assert partners.shape[1] == cycle
    for i in range(peers):
        for t in range(3 * cycle):
            assert partners[i, t % cycle] == (i - 2 ** (t % cycle)) % peers
    for senders in partners.T:  # each sends to exactly one
        assert sorted(senders) == list(range(peers))


@pytest.mark.parametrize("peers", SIZES)
def test_random_matching_pairs_all_but_one_of_an_odd_number(peers):
    partners = topology.partners("random_matching", peers, rounds=9)
    assert partners.shape == (peers, 9)
    for senders in partners.T:
        paired = np.flatnonzero(senders >= 0)
        assert len(paired) == peers - peers % 2
        np.testing.assert_array_equal(senders[senders[paired]], paired)  # mutual
        assert (senders[paired] != paired).all()


def test_random_matching_is_uniform_and_follows_its_seed():
    partners = topology.partners("random_matching", 5, rounds=3000, seed=2)
    counts = np.stack([np.bincount(row + 1, minlength=6) for row in partners])
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(counts[:, 0] / 3000, 0.2, atol=0.03)
    np.testing.assert_allclose(counts[:, 1:][off] / 3000, 0.2, atol=0.03)
    again = topology.partners("random_matching", 5, rounds=3000, seed=2)
    other = topology.partners("random_matching", 5, rounds=3000, seed=3)
    np.testing.assert_array_equal(partners, again)
    assert (partners != other).any()


def test_a_longer_run_begins_like_a_shorter_one():
    short = topology.partners("random_matching", 6, rounds=4, seed=1)
    long = topology.partners("random_matching", 6, rounds=9, seed=1)
    np.testing.assert_array_equal(short, long[:, :4])


def edges_by_loop(adjacency, partners, t):
    edges = np.zeros_like(adjacency)
    for i, row in enumerate(partners):
        if row[t % len(row)] >= 0:
            edges[i, row[t % len(row)]] = adjacency[i, row[t % len(row)]]
    return edges


def test_a_block_of_receivers_of_several_runs_receives_what_all_would():
    partners = topology.partners("random_matching", 5, rounds=3)
    runs = np.random.default_rng(1).uniform(size=(2, 5, 7)).astype(np.float32)
    t = np.int32(TrainConfig().exchange.interval)
    found = jax.jit(jax.vmap(schedules.edges_of_round, in_axes=(0, None, None)))(
        runs[:, 1:3], partners[1:3], t
    )
    assert found.shape == (2, 2, 7)  # J may hold peers that only pad
    for run in range(2):
        expected = edges_by_loop(runs[run], partners, t)
        np.testing.assert_array_equal(found[run], expected[1:3])
