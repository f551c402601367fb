"""Topologies against networkx and known spectra; files refused in one line."""

import networkx as nx
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange import topology


def _star(peers):
    return nx.star_graph(peers - 1)


ORACLES = {
    "complete": nx.complete_graph,
    "ring": nx.cycle_graph,
    "star": _star,
    "empty": nx.empty_graph,
}


def test_every_topology_has_an_oracle():
    assert set(ORACLES) == set(topology.TOPOLOGIES)


@pytest.mark.parametrize("peers", [3, 4, 9])
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_adjacency_and_statistics_match_networkx(name, peers):
    graph = ORACLES[name](peers)
    edges = topology.adjacency(name, peers)
    assert edges.dtype == np.float32
    np.testing.assert_array_equal(edges, nx.to_numpy_array(graph))
    statistics = topology.degree_statistics(edges)
    degrees = [degree for _, degree in graph.degree()]
    assert statistics.edges == 2 * graph.number_of_edges()
    assert (statistics.in_min, statistics.in_max) == (min(degrees), max(degrees))
    assert (statistics.out_min, statistics.out_max) == (min(degrees), max(degrees))
    assert statistics.in_mean == pytest.approx(np.mean(degrees))
    assert statistics.isolated == len(list(nx.isolates(graph)))
    mixing = topology.metropolis_hastings(edges)
    np.testing.assert_allclose(mixing, mixing.T)
    np.testing.assert_allclose(mixing.sum(axis=1), 1.0)
    assert mixing.min() >= 0.0
    assert (topology.spectral_gap(mixing) > 1e-9) == nx.is_connected(graph)


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("peers", [1, 2])
def test_smallest_populations(name, peers):
    edges = topology.adjacency(name, peers)
    pair = 0.0 if name == "empty" else 1.0
    np.testing.assert_array_equal(edges, pair * (1.0 - np.eye(peers)))


def test_direction_is_receiver_by_sender():
    edges = np.zeros((3, 3))
    edges[0, 1] = edges[2, 1] = 1.0  # 0 and 2 receive from 1
    statistics = topology.degree_statistics(edges)
    assert (statistics.in_max, statistics.out_max) == (1, 2)
    with pytest.raises(ValueError, match="peers 0 and 1"):
        topology.metropolis_hastings(edges)


@pytest.mark.parametrize(("peers", "gap"), [(4, 0.667), (8, 0.195), (16, 0.051)])
def test_spectral_gap_of_rings(peers, gap):
    mixing = topology.metropolis_hastings(topology.adjacency("ring", peers))
    assert topology.spectral_gap(mixing) == pytest.approx(gap, abs=5e-4)


def test_spectral_gap_of_the_extremes():
    assert topology.spectral_gap(np.full((5, 5), 0.2)) == pytest.approx(1.0)
    assert topology.spectral_gap(np.eye(1)) == 1.0


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_matrix_file_round_trip(tmp_path, suffix):
    edges = np.array([[0, 0.5, 1], [0, 0, 0.25], [1, 0, 0]])
    path = str(tmp_path / f"edges{suffix}")
    if suffix == ".npy":
        np.save(path, edges)
    else:
        np.savetxt(path, edges, delimiter=",")
    loaded = topology.load_matrix(path, 3)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(topology.adjacency("matrix", 3, loaded), edges)


@pytest.mark.parametrize(
    ("content", "says"),
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
def test_bad_matrices_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "edges.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as error:
        topology.load_matrix(str(path), 2)
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
        topology.load_matrix(str(tmp_path / name) if name else "", 2)
    assert "\n" not in str(error.value)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="'tree' must be one of: complete, ring"):
        topology.adjacency("tree", 4)
    with pytest.raises(ConfigError, match=r"exchange\.matrix"):
        topology.adjacency("matrix", 4)
    with pytest.raises(ConfigError, match=r"population\.peers=0"):
        topology.adjacency("ring", 0)
