"""What leaves a peer in each mode of the network, and what does not."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.messages import (
    ConsortiumMessage,
    PrivateMessage,
    PublicMessage,
    make_mode,
    payload_bytes,
)
from p2p_sac_jax.types import Insight, LocalSummary
from tests.helpers.demand import base_prior
from tests.helpers.messages import (
    CLOCK,
    EXACT,
    PER_GROUP,
    ROUND,
    A,
    F,
    G,
    K,
    build,
    make_message,
    message_inputs,
    settings,
    stack,
    with_insight,
)
from tests.reference import modes


def changes(mode, before, after):
    """Names of the fields of the wire that differ in a single bit."""
    old, new = make_message(mode, before), make_message(mode, after)
    return {
        name
        for name, a, b in zip(old._fields, old, new, strict=True)
        if any(
            np.asarray(x).tobytes() != np.asarray(y).tobytes()
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )
    }


def test_each_type_has_the_fields_that_may_leave_and_no_other():
    assert PrivateMessage is LocalSummary
    assert set(ConsortiumMessage._fields) == {
        "value",
        "count",
        "entropy",
        "time",
        "demand_mean",
        "demand_variance",
        "demand_known",
    }
    assert set(PublicMessage._fields) == {
        "trend",
        "entropy",
        "time",
        "demand_mean",
        "demand_known",
    }


DEMAND = {"demand_mean", "demand_variance"}
# Field of the insight that is changed everywhere -> fields of the wire that follow.
FOLLOWS = {
    "consortium": {
        "state_value": {"value"},
        "count": {"value"},
        "entropy": {"entropy"},
    },
    "public": {"state_value": {"trend"}, "entropy": {"entropy"}},
}


@pytest.mark.parametrize("noise", [EXACT, {}])
@pytest.mark.parametrize("name", ["consortium", "public"])
def test_a_private_field_changes_no_bit_of_the_message(name, noise):
    mode = build(mode=name, **noise)
    known, other = message_inputs(0), message_inputs(1)
    for field in Insight._fields:
        if field == "valid":
            continue
        moved = getattr(other.message.insight, field)
        if field == "state_value":  # the other way, where it is compared to the past
            moved = 2 * known.past_value - known.message.insight.state_value
            moved[:5] += 0.1
        follows = changes(mode, known, with_insight(known, **{field: moved}))
        allowed = FOLLOWS[name].get(field, set())
        assert follows <= allowed, field
        assert bool(follows) == bool(allowed), field

    message = known.message
    for changed in (
        message._replace(demand=other.message.demand),
        message._replace(performance=np.float32(9.0)),
    ):
        assert changes(mode, known, known._replace(message=changed)) == set()
    follows = changes(mode, known, known._replace(statistics=other.statistics))
    assert follows == (DEMAND if name == "consortium" else {"demand_mean"})
    shown = np.arange(K) < 8
    visited = changes(mode, known, known._replace(visits=known.visits + shown))
    assert visited == ({"count"} if name == "consortium" else set())
    past = known._replace(past_value=other.past_value + 9)
    assert changes(mode, known, past) == ({"trend"} if name == "public" else set())


def test_what_is_suppressed_or_out_of_sight_changes_nothing():
    known, other = message_inputs(0), message_inputs(1)
    value = known.message.insight.state_value
    exact = build(pooling="none", **EXACT)
    # The last group holds two steps, below the four that are needed.
    hidden = value.copy()
    hidden[8:] += 40.0
    assert changes(exact, known, with_insight(known, state_value=hidden)) == set()
    unshared = build(value_sharing="none", pooling="none")
    for field in ("state_value", "count", "action_mean", "action_std"):
        moved = with_insight(
            known, **{field: 0.5 * getattr(known.message.insight, field)}
        )
        assert changes(unshared, known, moved) == set()
    np.testing.assert_array_equal(make_message(unshared, known).count, 0)
    changed = known._replace(statistics=other.statistics)
    for name in ("consortium", "public"):
        assert changes(build(mode=name, pooling="none"), known, changed) == set()
        young = known._replace(statistics=known.statistics._replace(n=np.float32(7)))
        younger = changed._replace(
            statistics=changed.statistics._replace(n=np.float32(6))
        )
        assert changes(build(mode=name), young, younger) == set()
    # Public: how far values moved stays at home, the direction leaves.
    public = build(mode="public")
    further = known.past_value + 7 * (value - known.past_value)
    assert changes(public, known, with_insight(known, state_value=further)) == set()


def test_consortium_values_are_clipped_group_means():
    known = message_inputs(0)
    insight = known.message.insight
    for clip in (2.0, 0.3):
        wire = make_message(build(clip=clip, pooling="none", **EXACT), known)
        value, count = modes.group_values(insight, known.visits, PER_GROUP, clip, 4)
        np.testing.assert_allclose(wire.value, value, atol=1e-5)
        np.testing.assert_array_equal(wire.count, count)
        assert np.max(np.abs(wire.value)) <= clip
    assert np.any(np.abs(value) == 0.3)
    np.testing.assert_array_equal(wire.value != 0, [True, True, False])
    np.testing.assert_array_equal(wire.entropy, insight.entropy)
    assert wire.time == CLOCK


def test_values_counts_entropy_and_trend_have_the_stated_noise():
    known = message_inputs(0)
    keys = jax.random.split(jax.random.key(1), 3000)

    def many(**options):
        mode = build(**options)
        over = jax.jit(jax.vmap(mode.encode, (None, 0, None, None)))
        return jax.tree.map(np.asarray, over(known, keys, ROUND, CLOCK))

    noisy = many(value_noise=0.1, pooling="none")
    clean = make_message(build(pooling="none", **EXACT), known)
    clean = jax.tree.map(np.asarray, clean)
    gap = noisy.value[:, :2] - clean.value[:2]
    expected = 0.1 * 2 * 2.0 * np.sqrt(G)
    np.testing.assert_allclose(gap.std(0), expected, rtol=0.05)
    np.testing.assert_allclose(gap.mean(0), 0, atol=5 * expected / np.sqrt(3000))
    steps = noisy.count - clean.count
    np.testing.assert_allclose(steps.std(0), 0.1 * np.sqrt(2), rtol=0.05)

    public = {"mode": "public", "pooling": "none", "value_noise": 0.1}
    noisy = many(**public)
    seen = known.message.insight.valid > 0
    mean = known.message.insight.entropy[seen].mean()
    np.testing.assert_allclose(noisy.entropy.std(), 0.1 * 7 * A, rtol=0.05)
    np.testing.assert_allclose(noisy.entropy.mean(), mean, atol=0.15)
    truth = np.sign(known.message.insight.state_value - known.past_value)
    assert set(np.unique(noisy.trend)) == {-1.0, 1.0}
    read = np.mean(noisy.trend * np.where(seen, truth, 1.0), axis=0)
    chance = np.e / (1 + np.e)
    np.testing.assert_allclose(read[seen], 2 * chance - 1, atol=0.07)
    np.testing.assert_allclose(read[~seen], 0.0, atol=0.07)  # a fair coin
    # Another round, another draw; the same round, the same.
    mode = build(**public)
    first, again, later = (make_message(mode, known, 5, np.int32(t)) for t in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    assert first.entropy != later.entropy


def test_a_receiver_of_a_consortium_reads_groups_into_seen_cells():
    known = message_inputs(0)
    mode = build(mode="consortium", **EXACT)
    wire = make_message(mode, known)
    read = jax.tree.map(lambda x: np.asarray(x)[0], mode.decode(stack([wire])))
    insight = read.insight
    kept = known.message.insight.valid * (np.arange(K) < 8)
    np.testing.assert_array_equal(insight.valid, kept)
    group = np.arange(K) // PER_GROUP
    np.testing.assert_array_equal(insight.state_value, kept * wire.value[group])
    np.testing.assert_array_equal(insight.timestamp, CLOCK)
    sums = np.bincount(group, insight.count, minlength=G)
    np.testing.assert_allclose(sums[:2], wire.count[:2], rtol=1e-6)
    np.testing.assert_allclose(
        insight.confidence, insight.count / (insight.count + 8.0), rtol=1e-6
    )
    for unsent in (insight.action_value, insight.action_mean, insight.action_std):
        np.testing.assert_array_equal(unsent, 0)
    np.testing.assert_array_equal(read.trend, 0)
    assert read.performance == 0
    # Noise makes values worth less, and is clipped where it can only be noise.
    noisy = build(mode="consortium")
    noisy_insight = noisy.decode(stack([make_message(noisy, known)])).insight
    assert np.max(noisy_insight.confidence) < 0.02
    assert np.max(np.abs(noisy_insight.state_value)) <= 2.0
    # Where values are not shared no count lets anybody use them.
    unshared = build(value_sharing="none", pooling="none")
    read = unshared.decode(stack([make_message(unshared, known)])).insight
    np.testing.assert_array_equal(read.count, 0)
    np.testing.assert_array_equal(read.valid[0], known.message.insight.valid)


def test_what_is_not_shared_by_default_leaves_no_trace():
    """Neither entropies nor which cells were seen: values hold in whole groups."""
    known = message_inputs(0)
    valid = 1.0 - known.message.insight.valid
    for name in ("consortium", "public"):
        mode = build(mode=name, entropy_sharing=False, **EXACT)
        moved = with_insight(known, entropy=known.message.insight.entropy + 1.0)
        assert changes(mode, known, moved) == set()
        np.testing.assert_array_equal(make_message(mode, known).entropy, 0.0)
    mode = build(entropy_sharing=False, value_sharing="none", pooling="none")
    assert changes(mode, known, with_insight(known, valid=valid)) == set()
    read = mode.decode(stack([make_message(mode, known)])).insight
    np.testing.assert_array_equal(read.valid, 0.0)
    mode = build(entropy_sharing=False, **EXACT)
    wire = make_message(mode, known)
    read = jax.tree.map(lambda x: np.asarray(x)[0], mode.decode(stack([wire])))
    group = np.arange(K) // PER_GROUP
    np.testing.assert_array_equal(read.insight.valid, group < 2)
    kept = read.insight.valid * wire.value[group]
    np.testing.assert_array_equal(read.insight.state_value, kept)
    sums = np.bincount(group, read.insight.count, minlength=G)
    np.testing.assert_allclose(sums[:2], wire.count[:2], rtol=1e-6)


def test_public_values_can_never_be_used():
    mode = build(mode="public")
    wires = stack([make_message(mode, message_inputs(j), j) for j in range(4)])
    read = mode.decode(wires)
    for field in ("count", "state_value", "action_value", "action_mean", "action_std"):
        np.testing.assert_array_equal(getattr(read.insight, field), 0)
    for field in ("valid", "confidence"):
        np.testing.assert_array_equal(getattr(read.insight, field), 1)
    np.testing.assert_array_equal(read.insight.timestamp, CLOCK)
    # The expected sign behind one response, e/(1 + e) of which are true.
    np.testing.assert_allclose(read.trend, wires.trend * np.tanh(0.5), rtol=1e-6)
    assert np.all(read.insight.entropy == read.insight.entropy[:, :1])
    # Demand: the mean over three senders, and nothing below that.
    edges = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.float32)
    assert mode.pool is not None
    prior, has_prior = mode.pool(edges, read.demand, base_prior(F))
    np.testing.assert_array_equal(has_prior, [1, 0])
    np.testing.assert_array_equal(prior.mean[1], base_prior(F).mean)
    assert np.all(prior.mean[0] != base_prior(F).mean)
    assert build(mode="public", pooling="none").pool is None
    assert build(mode="consortium").pool is None


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("private", 0),
        ("private", 5),
        ("consortium", 6),
        ("public", 0),
        ("public", 5),
    ],
)
def test_shapes_and_finiteness(name, size):
    mode = build(mode=name) if size == F else build(size, mode=name)
    peers = [message_inputs(seed, size) for seed in range(3)]
    known, wire = stack(peers), stack([make_message(mode, peer) for peer in peers])
    assert all(leaf.size for leaf in jax.tree.leaves(wire))
    received = mode.decode(wire)
    chex.assert_tree_all_finite((wire, received))
    assert {leaf.dtype for leaf in jax.tree.leaves(received)} == {np.dtype(np.float32)}
    for senders in (1, 16):
        many = jax.tree.map(lambda leaf, s=senders: np.repeat(leaf[:1], s, 0), wire)
        shape = jax.eval_shape(mode.decode, many)
        chex.assert_shape(
            [*shape.insight[:5], *shape.insight[7:], shape.trend], (senders, K)
        )
        chex.assert_shape(list(shape.insight[5:7]), (senders, K, A))
        chex.assert_shape(shape.demand.precision, (senders, size, size))
        chex.assert_shape(shape.demand.shift, (senders, size))
        chex.assert_shape([shape.demand.count, shape.performance], (senders,))
    if name == "private":
        chex.assert_trees_all_equal(received.insight, known.message.insight)
        np.testing.assert_array_equal(received.trend, 0)
        if size:
            chex.assert_trees_all_equal(received.demand, known.message.demand)


def test_a_peer_without_any_data_sends_nothing_that_counts():
    blank = jax.tree.map(np.zeros_like, message_inputs(0))
    for name in ("private", "consortium", "public"):
        mode = build(mode=name) if name == "private" else build(mode=name, **EXACT)
        read = mode.decode(stack([make_message(mode, blank, round_index=np.int32(0))]))
        chex.assert_tree_all_finite(read)
        np.testing.assert_array_equal(read.insight.count, 0)
        np.testing.assert_array_equal(read.demand.count, 0)
        if name != "public":
            np.testing.assert_array_equal(read.insight.valid, 0)
        # Nor does a message that was never written.
        empty = jax.tree.map(
            np.zeros_like, stack([make_message(mode, message_inputs(0))])
        )
        read = mode.decode(empty)
        chex.assert_tree_all_finite(read)
        np.testing.assert_array_equal(read.insight.valid, 0)
        np.testing.assert_array_equal(read.demand.count, 0)


def test_one_cell_alone_makes_one_group():
    mode = build(cells=1, pooling="none")
    wire = make_message(mode, message_inputs(0, cells=1))
    assert wire.value.shape == (1,)
    chex.assert_tree_all_finite(mode.decode(stack([wire])))


def test_bytes_of_a_message():
    known = message_inputs(0)
    expected = {
        "private": 7 * K + 2 * K * A + F * F + F + 2,
        "consortium": 2 * G + K + 1 + 2 * F + 1,
        "public": K + 2 + F + 1,
    }
    for name, floats in expected.items():
        mode = build(mode=name)
        assert payload_bytes(make_message(mode, known)) == 4 * floats
    unshared = build(mode="public", pooling="none")
    assert payload_bytes(make_message(unshared, known)) == 4 * (K + 2)


def test_modes_that_cannot_work_are_refused():
    sizes = {"num_cells": K, "cells_per_group": 4, "action_dim": A}
    with pytest.raises(ConfigError, match="secret"):
        make_mode(settings("secret"), **sizes, base_prior=base_prior(F))
    for name in ("consortium", "public"):
        with pytest.raises(ConfigError, match="scalar"):
            make_mode(
                settings(name, value_sharing="scalar"),
                **sizes,
                base_prior=base_prior(F),
            )
    make_mode(settings("private", "scalar"), **sizes, base_prior=base_prior(F))


def test_noise_beyond_reason_stays_finite():
    mode = build(value_noise=1e6, demand_noise=1e6)
    read = mode.decode(stack([make_message(mode, message_inputs(0))]))
    chex.assert_tree_all_finite(read)
    assert not jnp.any(read.demand.precision > 1e-3)
