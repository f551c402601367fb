"""Contracts of the parts of an exchange: graphs, weights, aggregators, messages.

``test_exchange_contracts`` holds whole rounds to the same contract.
"""

import jax
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange import mixing, topology
from p2p_sac_jax.exchange.similarity import context_similarity
from p2p_sac_jax.simulation.schedules import edges_of_round as edges_of
from tests.helpers.contracts import (
    P,
    assert_close,
    assert_finite,
    assert_same,
    check_contract,
    check_one_peer,
    check_padding_and_runs,
    check_stepwise,
    outcome,
)
from tests.helpers.exchange_cases import ATTACK_KINDS, PARTS, VALUE_MODES
from tests.helpers.rounds import MODE_KINDS

pytestmark = pytest.mark.slow
KINDS = {**PARTS, **ATTACK_KINDS, **MODE_KINDS}
MEANS = [name for name in PARTS if name.startswith("aggregator: ")]


def test_nothing_is_left_out():
    for group, field in (
        ("aggregator", "exchange.aggregator"),
        ("mode", "exchange.mode"),
        ("attack", "attack.kind"),
    ):
        present = {name for name in KINDS if name.startswith(f"{group}: ")}
        wanted = set(find_field(field).choices()) - (
            {"none"} if group == "attack" else set()
        )
        assert present == {f"{group}: {name}" for name in wanted}
    assert {f"value sharing: {name}" for name in VALUE_MODES.values()} <= set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_contract(name):
    """Shapes, order of peers, finite results, absent senders, one compilation."""
    check_contract(KINDS[name])


# Messages are batched where they are received.
@pytest.mark.parametrize("name", [*PARTS, *ATTACK_KINDS])
def test_masked_peers_change_nothing_and_runs_are_a_batch_axis(name):
    check_padding_and_runs(KINDS[name])


@pytest.mark.parametrize("name", PARTS)
def test_one_peer_alone(name):
    check_one_peer(KINDS[name])


# Step by step every operation is compiled alone. Trust inverts matrices, which takes
# too long so; of faults the combination is enough.
STEPWISE = ["weights: sender", "weights: edge", "aggregator: mean", "schedule"]
STEPWISE += ["aggregator: trimmed_mean", "value sharing: precision"]
THOROUGH = {*MEANS, *(name for name in PARTS if "value sharing" in name), "fault: all"}


@pytest.mark.parametrize(
    "name",
    [
        *STEPWISE,
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in sorted(THOROUGH - {*STEPWISE})
        ),
    ],
)
def test_compiled_or_not_is_the_same(name):
    check_stepwise(KINDS[name])


# Weights, agreement, empty messages.


def test_weights_sum_to_one_or_are_exactly_zero():
    """The weight of a sender is the mean of an indicator of it."""
    kind = KINDS["aggregator: mean"]
    weight, x, edge, *own = kind.make(P, 0)
    edge[1], weight[:, 2] = 0.0, 0.0
    alone = np.eye(P, dtype=np.float32)[:, :, None, None] * np.ones_like(x)
    shares = [outcome(kind, (weight, one, edge, *own))[0][..., 0] for one in alone]
    shares = np.stack(shares, axis=1)  # [I, J, K]
    full = edge[:, :, None] * weight[None]
    total = full.sum(axis=1, keepdims=True)
    assert_close(shares, full / np.where(total > 0, total, 1.0), 1e-6)
    assert_close(shares.sum(axis=1), np.where(total[:, 0] > 0, 1.0, 0.0), 1e-6)
    for none in (shares[1], shares[:, :, 2]):
        np.testing.assert_array_equal(none, 0.0)


@pytest.mark.parametrize("name", MEANS)
def test_equal_messages_come_back_and_no_weight_gives_zeros(name):
    """Robust means show no weights: that theirs sum to 1 is tested here."""
    weight, x, edge, own, own_weight = KINDS[name].make(P, 0)
    edge[1], weight[:, 2] = 0.0, 0.0
    value = np.float32([3.5, -1.25, 7.0, 0.1])[None, :, None]
    x[:], own[:] = value, value
    mean, mass = outcome(KINDS[name], (weight, x, edge, own, own_weight))
    reached = (edge[:, :, None] * weight[None]).sum(axis=1) > 0
    np.testing.assert_array_equal(mass > 0, reached)
    np.testing.assert_array_equal(mean[~reached], 0.0)
    np.testing.assert_array_equal(mass[~reached], 0.0)
    assert_close(mean[reached], np.broadcast_to(value, mean.shape)[reached], 1e-6)


@pytest.mark.parametrize("name", MODE_KINDS)
def test_a_message_of_zeros_counts_for_nothing(name):
    """It is what neighbours hold of a peer before its first message."""
    inputs, seeds, value, *rest = MODE_KINDS[name].make(P, 0)
    (empty,) = outcome(MODE_KINDS[name], (inputs, seeds, 0.0 * value, *rest))
    for leaf in (empty.insight.valid, empty.demand.count, empty.trend):
        np.testing.assert_array_equal(leaf, 0.0)
    (full,) = outcome(MODE_KINDS[name], (inputs, seeds, value, *rest))
    assert full.insight.valid.any()
    assert full.demand.count.any()


# Graphs: NumPy, so at every size there is.

DEGREE = 4
# Too few peers for a degree of 4 are refused; every other graph exists at any size.
LEAST = {"k_regular": DEGREE + 1, "small_world": DEGREE + 1}
DIRECTED = {"exponential", "one_peer_exponential"}
edges_of_round = jax.jit(edges_of)


def graph(name, peers, seed=0):
    if name == "matrix":
        rng = np.random.default_rng(seed)
        entries = rng.integers(0, 5, (peers, peers)) / 4.0
        return topology.adjacency(name, peers, entries * ~np.eye(peers, dtype=bool))
    return topology.adjacency(name, peers, degree=DEGREE, seed=seed)


@pytest.mark.parametrize("name", find_field("exchange.topology").choices())
def test_topologies_at_every_size(name):
    for peers in range(1, 65):
        if peers < LEAST.get(name, 1):
            with pytest.raises(ConfigError, match="must be below population"):
                graph(name, peers)
            continue
        edges = graph(name, peers)
        assert edges.shape == (peers, peers)
        assert edges.dtype == np.float32
        assert not np.diagonal(edges).any()
        assert ((edges >= 0) & (edges <= 1)).all()
        assert peers > 1 or not edges.any()
        assert_same(graph(name, peers), edges)
        if name not in DIRECTED | {"matrix"}:
            assert_same(edges, edges.T)


@pytest.mark.parametrize("name", find_field("exchange.topology").choices())
def test_mixing_weights_of_every_topology(name):
    for peers in range(LEAST.get(name, 1), 65):
        edges = graph(name, peers)
        assert_same(mixing.mixing_weights("uniform", edges), edges)
        rows = mixing.uniform_mixing(edges).sum(axis=1)
        assert_close(rows, np.ones(peers), 1e-6)
        linked = edges > 0
        if (linked != linked.T).any():
            with pytest.raises(ConfigError, match="one way only"):
                mixing.mixing_weights("metropolis", edges)
            continue
        mixing_weights = mixing.mixing_weights("metropolis", edges)
        assert_same(mixing_weights > 0, linked)
        assert mixing_weights.dtype == np.float32
        W = mixing.metropolis_hastings(edges)
        assert (W >= -1e-12).all()
        assert_close(W.sum(axis=1), np.ones(peers), 1e-6)
        assert_same(W, W.T)
        largest = np.where(linked.any(axis=1), 1.0, 0.0)
        if name != "matrix":  # whose entries scale the weights
            assert_close(mixing_weights.max(axis=1), largest, 1e-6)
        order = np.random.default_rng(peers).permutation(peers)
        moved = mixing.mixing_weights("metropolis", edges[order][:, order])
        assert_close(moved, mixing_weights[order][:, order], 1e-6)


@pytest.mark.parametrize("peers", [1, 2, 3, 5, 16, 64])
@pytest.mark.parametrize("name", topology.DYNAMIC)
def test_schedules_at_every_size(name, peers):
    """In each round a peer receives from at most one sender, along an edge."""
    partners = topology.partners(name, peers, 7)
    edges = np.float32(0.25) * graph(name, peers)
    for t in (0, 1, 6, 7, 1000):
        active = edges_of_round(edges, partners, np.int32(t))
        sender = partners[:, t % partners.shape[1]]
        expected = np.zeros_like(edges)
        for i, j in enumerate(sender):
            if j >= 0:
                expected[i, j] = edges[i, j]
        assert_same(np.asarray(active), expected)
        assert ((expected > 0).sum(axis=1) == (sender >= 0)).all()


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_similarity_at_every_size(width):
    for peers in range(1, 65):
        rng = np.random.default_rng(peers)
        context = rng.normal(size=(peers, 3))
        alike = context_similarity(context, width)
        assert alike.shape == (peers, peers)
        assert alike.dtype == np.float32
        assert_finite(alike)
        assert_same(np.diagonal(alike), np.ones(peers, np.float32))
        assert ((alike >= 0) & (alike <= 1)).all()
        order = rng.permutation(peers)
        moved = context_similarity(context[order], width)
        assert_close(moved, alike[order][:, order], 1e-6)
        more = np.concatenate([context, 1e9 + context])
        padded = context_similarity(more, width)[:peers, :peers]
        assert_same(padded, alike)
        assert width or alike.all()
