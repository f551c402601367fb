"""Topologies against networkx; graphs and files refused in one line."""

import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import topology
from p2p_sac_jax.exchange.adjacency_file import load_matrix

ROOT = Path(__file__).parents[2]


def _torus(rows, columns):
    """networkx's grid without borders, peers numbered row by row."""
    grid = nx.grid_2d_graph(rows, columns, periodic=True)
    grid.remove_edges_from(list(nx.selfloop_edges(grid)))  # of a side of one
    return nx.convert_node_labels_to_integers(grid, ordering="sorted")


def _near_square(peers):
    shapes = [(n, peers // n) for n in range(1, peers + 1) if peers % n == 0]
    return min((shape for shape in shapes if shape[0] <= shape[1]), key=np.ptp)


def _exponential(peers):
    graph = nx.empty_graph(peers, create_using=nx.DiGraph)
    for i in range(peers):
        hop = 1
        while hop < peers:
            graph.add_edge(i, (i - hop) % peers)
            hop *= 2
    return graph


ORACLES = {
    "complete": nx.complete_graph,
    "ring": lambda peers: nx.cycle_graph(peers) if peers > 2 else nx.path_graph(peers),
    "torus": lambda peers: _torus(*_near_square(peers)),
    "star": lambda peers: nx.star_graph(peers - 1),
    "line": nx.path_graph,
    "exponential": _exponential,
    "empty": nx.empty_graph,
    "one_peer_exponential": _exponential,
    "random_matching": nx.complete_graph,
}


DRAWN = [name for name, graph in topology.TOPOLOGIES.items() if graph.drawn]


def test_every_topology_can_be_chosen_and_has_an_oracle():
    assert {*ORACLES, *DRAWN} == set(topology.TOPOLOGIES)
    named = {*topology.TOPOLOGIES, "matrix"}
    assert named == set(find_field("exchange.topology").choices())


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_adjacency_matches_networkx(name):
    for peers in range(1, 65):
        edges = topology.adjacency(name, peers)
        assert edges.dtype == np.float32
        expected = nx.to_numpy_array(ORACLES[name](peers))
        np.testing.assert_array_equal(edges, expected, err_msg=f"{peers} peers")


def is_simple(edges):
    return (edges == edges.T).all() and not np.diagonal(edges).any()


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 7, 12, 15])
def test_k_regular_has_its_degree(degree):
    for peers in range(degree + 1, 25):
        if peers * degree % 2:
            continue
        edges = topology.adjacency("k_regular", peers, degree=degree, seed=peers)
        assert edges.dtype == np.float32
        assert is_simple(edges)
        assert nx.is_k_regular(nx.from_numpy_array(edges), degree)


def test_k_regular_draws_every_graph_alike():
    """Two-regular graphs of 6: a sixth are two triangles (10 of 70), not a ring."""
    draws = [
        topology.adjacency("k_regular", 6, degree=2, seed=seed) for seed in range(700)
    ]
    apart = [not nx.is_connected(nx.from_numpy_array(edges)) for edges in draws]
    assert np.mean(apart) == pytest.approx(10 / 70, abs=0.04)
    assert len({edges.tobytes() for edges in draws}) == 70


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("peers", "degree"), [(5, 4), (12, 4), (16, 2), (64, 6)])
def test_small_world_rewires_a_ring_lattice(peers, degree, chance):
    lattice = nx.to_numpy_array(nx.watts_strogatz_graph(peers, degree, 0.0))
    kept = []
    for seed in range(20):
        edges = topology.adjacency(
            "small_world", peers, degree=degree, edge_chance=chance, seed=seed
        )
        assert is_simple(edges)
        assert edges.sum() == peers * degree == lattice.sum()
        assert edges.sum(axis=1).min() >= degree // 2  # each keeps its own ends
        kept.append((edges * lattice).sum() / lattice.sum())
    if chance == 0.0 or degree == peers - 1:
        assert min(kept) == 1.0
    else:  # some edges move onto places of the lattice that others left
        assert 1.0 - chance - 0.05 <= np.mean(kept) <= 1.0 - chance / 2


def test_erdos_renyi_has_its_share_of_edges():
    pairs = 64 * 63
    for chance in (0.0, 0.3, 1.0):
        edges = topology.adjacency("erdos_renyi", 64, edge_chance=chance, seed=1)
        assert is_simple(edges)
        spread = 4 * np.sqrt(2 * chance * (1 - chance) / pairs)  # four sigma
        assert abs(edges.sum() / pairs - chance) <= spread
    for peers in range(1, 65):
        assert is_simple(topology.adjacency("erdos_renyi", peers))


@pytest.mark.parametrize("name", DRAWN)
def test_random_graphs_follow_their_seed(name):
    draws = [topology.adjacency(name, 16, seed=seed) for seed in range(20)]
    again = [topology.adjacency(name, 16, seed=seed) for seed in range(20)]
    np.testing.assert_array_equal(draws, again)
    assert len({edges.tobytes() for edges in draws}) == 20


@pytest.mark.parametrize(
    ("name", "peers", "degree", "reason"),
    [
        ("k_regular", 4, 4, "degree=4 must be below population.peers=4"),
        ("k_regular", 1, 4, "degree=4 must be below population.peers=1"),
        ("k_regular", 5, 3, "degree=3 must be even where population.peers=5 is odd"),
        ("small_world", 4, 4, "degree=4 must be below population.peers=4"),
        ("small_world", 1, 2, "degree=2 must be below population.peers=1"),
        ("small_world", 8, 3, "degree=3 must be even for exchange.topology='small_"),
    ],
)
def test_degrees_that_cannot_be_had_are_refused(name, peers, degree, reason):
    with pytest.raises(ConfigError) as error:
        topology.adjacency(name, peers, degree=degree)
    assert str(error.value).startswith(f"exchange.{reason}")
    assert "\n" not in str(error.value)


def test_the_package_does_without_networkx():
    program = (
        "import sys; sys.modules['networkx'] = None\n"
        "from p2p_sac_jax.exchange.topology import adjacency\n"
        "for name in ('torus', 'k_regular', 'small_world', 'erdos_renyi'):\n"
        "    adjacency(name, 8)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_matrix_file_round_trip(tmp_path, suffix):
    edges = np.array([[0, 0.5, 1], [0, 0, 0.25], [1, 0, 0]])
    path = str(tmp_path / f"edges{suffix}")
    if suffix == ".npy":
        np.save(path, edges)
    else:
        np.savetxt(path, edges, delimiter=",")
    loaded = load_matrix(path, 3)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(topology.adjacency("matrix", 3, loaded), edges)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("0,1\n1,0\n0,0\n", "2 x 2.*3 x 2"),
        ("", "2 x 2"),
        ("0,2\n1,0\n", r"\[0, 1\] = 2 must be finite and in \[0, 1\]"),
        ("0,-1\n1,0\n", r"in \[0, 1\]"),
        ("0,nan\n1,0\n", "finite"),
        ("0,1\n1,1\n", r"\[1, 1\] = 1 must be 0"),
        ("a,b\nc,d\n", "cannot be read"),
    ],
)
def test_bad_matrices_are_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "edges.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason) as error:
        load_matrix(str(path), 2)
    assert "exchange.matrix=" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["absent.npy", "edges.txt", "", "junk.npy", "pickle.npy", "words.npy"]
)
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "junk.npy").write_bytes(b"junk")
    np.save(tmp_path / "pickle.npy", np.array([[{}]], object), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.full((2, 2), "a"))
    with pytest.raises(ConfigError, match=r"exchange\.matrix=") as error:
        load_matrix(str(tmp_path / name) if name else "", 2)
    assert "\n" not in str(error.value)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="'cloud' must be one of: complete, ring"):
        topology.adjacency("cloud", 4)
    with pytest.raises(ConfigError, match=r"exchange\.matrix"):
        topology.adjacency("matrix", 4)
    with pytest.raises(ConfigError, match=r"population\.peers=0"):
        topology.adjacency("ring", 0)
