"""Mixing matrices and spectral gaps: known values, and gossip that keeps its bound."""

import itertools
import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange import mixing, topology

UNDIRECTED = [
    "complete",
    "ring",
    "torus",
    "star",
    "line",
    "empty",
    "k_regular",
    "small_world",
    "erdos_renyi",
]
ONE_WAY = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]], np.float32)  # 1 sends to 0 and 2


def second_eigenvalue(W):
    """|λ₂| by sorting the whole spectrum."""
    return np.sort(np.abs(np.linalg.eigvals(W)))[-2]


@pytest.mark.parametrize("peers", [6, 9, 16])
@pytest.mark.parametrize("name", UNDIRECTED)
def test_mixing_and_statistics_match_networkx(name, peers):
    edges = topology.adjacency(name, peers, edge_chance=0.2)
    graph = nx.from_numpy_array(edges)
    degrees = [degree for _, degree in graph.degree()]
    found = mixing.describe(edges)
    assert found["edges"] == 2 * graph.number_of_edges()
    assert (found["in_min"], found["in_max"]) == (min(degrees), max(degrees))
    assert (found["out_min"], found["out_max"]) == (min(degrees), max(degrees))
    assert (
        found["in_mean"]
        == found["senders_per_round"]
        == pytest.approx(np.mean(degrees))
    )
    assert found["isolated"] == len(list(nx.isolates(graph)))
    assert found["mixing"] == "metropolis"
    W = mixing.metropolis_hastings(edges)
    for i, j in itertools.permutations(range(peers), 2):
        linked = graph.has_edge(i, j)
        assert W[i, j] == (1 / (1 + max(degrees[i], degrees[j])) if linked else 0)
    np.testing.assert_allclose(W, W.T)
    np.testing.assert_allclose(W.sum(axis=1), 1.0)
    assert W.min() >= 0.0
    gap = found["spectral_gap"]
    assert gap == pytest.approx(1.0 - second_eigenvalue(W), abs=1e-9)
    assert (gap > 1e-9) == nx.is_connected(graph)


@pytest.mark.parametrize(("peers", "gap"), [(4, 0.667), (8, 0.195), (16, 0.051)])
def test_spectral_gap_of_rings(peers, gap):
    W = mixing.metropolis_hastings(topology.adjacency("ring", peers))
    np.testing.assert_allclose(W[W > 0.0], 1 / 3)
    assert mixing.spectral_gap(W) == pytest.approx(gap, abs=5e-4)
    exact = 2 / 3 * (1 - np.cos(2 * np.pi / peers))
    assert mixing.spectral_gap(W) == pytest.approx(exact)


def test_spectral_gap_of_the_extremes():
    complete = mixing.metropolis_hastings(topology.adjacency("complete", 7))
    assert mixing.spectral_gap(complete) == pytest.approx(1.0)
    assert mixing.spectral_gap(np.eye(1)) == 1.0
    assert mixing.spectral_gap(np.eye(5)) == 0.0
    assert mixing.spectral_gap(np.eye(2)[::-1]) == 0.0  # swapping settles nothing
    with pytest.raises(ValueError, match="at least one round"):
        mixing.cycle_gap([])


def test_uniform_mixing_of_directed_graphs():
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]]
    np.testing.assert_allclose(mixing.uniform_mixing(ONE_WAY), expected)
    for peers in (1, 2, 5, 8):
        W = mixing.uniform_mixing(topology.adjacency("exponential", peers))
        np.testing.assert_allclose(W.sum(axis=0), 1.0)  # regular: doubly stochastic
        np.testing.assert_allclose(W.sum(axis=1), 1.0)
    # Ying et al. 2021: a gap of 2/(1 + log2 P) for even P.
    for peers in (4, 6, 8, 16):
        W = mixing.uniform_mixing(topology.adjacency("exponential", peers))
        expected = 2 / (1 + np.ceil(np.log2(peers)))
        assert mixing.spectral_gap(W) == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(UNDIRECTED),
    peers=st.sampled_from([5, 8, 12]),
    seed=st.integers(0, 1000),
)
def test_gossip_keeps_its_bound(name, peers, seed):
    """‖x_t - x̄‖ ≤ (1-δ)^t ‖x_0 - x̄‖ for symmetric doubly stochastic W."""
    W = mixing.metropolis_hastings(topology.adjacency(name, peers, seed=seed))
    keep = 1.0 - mixing.spectral_gap(W)
    x = np.random.default_rng(seed).normal(size=(peers, 3))
    average = x.mean(axis=0)
    start = np.linalg.norm(x - average)
    for t in range(1, 20):
        x = W @ x
        assert np.linalg.norm(x - average) <= keep**t * start + 1e-9
    np.testing.assert_allclose(x.mean(axis=0), average)


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_one_peer_exponential_ends_in_exact_consensus(rounds):
    peers = 2**rounds
    support = topology.adjacency("one_peer_exponential", peers)
    partners = topology.partners("one_peer_exponential", peers, rounds=100)
    start = x = np.random.default_rng(0).normal(size=peers)
    for t in range(3, 3 + rounds):  # from any round on
        assert np.ptp(x) > 1e-3
        x = (x + x[partners[:, t % rounds]]) / 2
    np.testing.assert_allclose(x, start.mean(), atol=1e-12)
    found = mixing.describe(support, partners)
    assert found["spectral_gap"] == 1.0
    assert found["senders_per_round"] == 1.0
    assert found["in_max"] == rounds


@pytest.mark.parametrize(
    ("name", "peers", "rounds"),
    [
        ("one_peer_exponential", 5, 3),
        ("one_peer_exponential", 12, 4),
        ("random_matching", 6, 8),
        ("random_matching", 7, 6),
    ],
)
def test_gap_of_a_cycle_is_that_of_its_product(name, peers, rounds):
    partners = topology.partners(name, peers, rounds, seed=1)
    assert partners.shape == (peers, rounds)
    product = np.eye(peers)
    for senders in partners.T:
        W = np.eye(peers)
        for i, j in enumerate(senders):
            if j >= 0:
                W[i, i] = W[i, j] = 0.5
        product = W @ product
    expected = 1.0 - second_eigenvalue(product) ** (1 / rounds)
    found = mixing.describe(topology.adjacency(name, peers), partners)
    assert found["spectral_gap"] == pytest.approx(expected, abs=1e-6)
    assert found["senders_per_round"] == pytest.approx((partners >= 0).mean())
    assert found["mixing"] == "uniform"


def test_long_schedules_do_not_underflow():
    """The product of 2000 rounds is far below the smallest float."""
    support = topology.adjacency("random_matching", 8)
    gaps = [
        mixing.describe(support, topology.partners("random_matching", 8, rounds, seed))[
            "spectral_gap"
        ]
        for rounds, seed in ((2000, 0), (2000, 1), (1000, 2))
    ]
    assert min(gaps) > 0.25
    assert np.ptp(gaps) < 0.02  # a rate, not a matter of length or luck


def test_a_constant_cycle_has_the_gap_of_its_matrix():
    W = mixing.metropolis_hastings(topology.adjacency("ring", 8))
    gap = mixing.cycle_gap([W] * 6)
    assert gap == pytest.approx(mixing.spectral_gap(W))


def test_direction_is_receiver_by_sender():
    found = mixing.describe(ONE_WAY)
    assert (found["edges"], found["in_max"], found["out_max"]) == (2, 1, 2)
    assert found["mixing"] == "uniform"


def test_descriptions_are_plain_and_exist_for_one_peer():
    graphs = topology.TOPOLOGIES.items()
    fixed = [name for name, graph in graphs if not graph.drawn]
    for name in (*fixed, "erdos_renyi"):
        for peers in (1, 2, 5):
            found = mixing.describe(
                topology.adjacency(name, peers), topology.partners(name, peers, 4)
            )
            assert json.loads(json.dumps(found, allow_nan=False)) == found
            assert 0.0 <= found["spectral_gap"] <= 1.0


def test_a_hub_of_a_wheel_weighs_less_than_the_rim():
    edges = nx.to_numpy_array(nx.wheel_graph(9))  # 0 has 8 senders, the others 3
    mixing_weights = mixing.mixing_weights("metropolis", edges)
    np.testing.assert_array_equal(mixing_weights[0, 1:], 1.0)
    np.testing.assert_allclose(
        mixing_weights[1, [0, 2, 8]], [4 / 9, 1.0, 1.0], rtol=1e-6
    )


def test_weights_keep_the_entries_of_a_matrix():
    edges = np.array([[0, 0.5, 0], [0.5, 0, 0.25], [0, 0.25, 0]], np.float32)
    np.testing.assert_array_equal(mixing.mixing_weights("uniform", edges), edges)
    np.testing.assert_array_equal(mixing.mixing_weights("metropolis", edges), edges)


def test_weights_that_do_not_exist_are_refused():
    np.testing.assert_array_equal(mixing.mixing_weights("uniform", ONE_WAY), ONE_WAY)
    exponential = topology.adjacency("one_peer_exponential", 8)
    for edges in (ONE_WAY, exponential):
        with pytest.raises(ConfigError, match="directed") as error:
            mixing.mixing_weights("metropolis", edges)
        assert str(error.value).startswith("exchange.mixing='metropolis' must be")
        assert "\n" not in str(error.value)
