"""Attacks against loops, and what no attack may do: touch an honest message."""

import functools

import jax
import numpy as np
import pytest

from p2p_sac_jax.config import (
    ConfigError,
)
from p2p_sac_jax.config_io import find_field
from p2p_sac_jax.exchange.insight import normalise
from p2p_sac_jax.exchange.sanitize import sanitize_demand
from p2p_sac_jax.simulation.attack_vectors import read_estimates
from p2p_sac_jax.simulation.attacks import ATTACKS, make_attack
from p2p_sac_jax.types import Received
from tests.helpers.demand import base_prior
from tests.helpers.sent import A, F, K, at, messages, same
from tests.reference import attacks as reference

J = 7
NOW = np.float32(1000.0)
BYZANTINE = np.float32([0, 0, 1, 0, 1, 0, 0])
EDGE = np.ones((J, J), np.float32) - np.eye(J, dtype=np.float32)
FINITE = [kind for kind in ATTACKS if kind != "nonfinite"]


@functools.cache
def transform(kind, strength=1.0):
    return jax.jit(make_attack(kind, strength).transform)


def attack(kind, sent, strength=1.0, byzantine=BYZANTINE, edge=EDGE, seed=0):
    with jax.debug_nans(kind != "nonfinite"):
        out = transform(kind, strength)(
            sent, sent, edge, byzantine, jax.random.key(seed), NOW
        )
        return jax.tree.map(np.asarray, out)


def test_every_choice_is_there_and_nothing_else():
    assert ("none", *ATTACKS) == find_field("attack.kind").choices()
    assert make_attack("none", 1.0) is None
    with pytest.raises(
        ConfigError, match=r"attack\.kind='gossip' must be one of: none"
    ):
        make_attack("gossip", 1.0)
    per_receiver = {kind for kind in ATTACKS if make_attack(kind, 1.0).per_receiver}
    assert per_receiver == {"dissensus"}


@pytest.mark.parametrize("kind", ATTACKS)
def test_honest_messages_pass_to_the_bit(kind):
    sent = messages()
    # Even a broken honest message is not the attack's to mend.
    sent.insight.state_value[0, 0] = np.nan
    with jax.debug_nans(False):
        out = transform(kind)(sent, sent, EDGE, BYZANTINE, jax.random.key(0), NOW)
        nobody = transform(kind)(
            sent, sent, EDGE, 0 * BYZANTINE, jax.random.key(0), NOW
        )
        out, nobody = jax.tree.map(np.asarray, (out, nobody))
    views = [at(out, i) for i in range(J)] if kind == "dissensus" else [out]
    for view in views:
        same(at(view, BYZANTINE == 0), at(sent, BYZANTINE == 0))
        changed = jax.tree.map(lambda x, y: (x != y).any(), view, sent)
        assert any(jax.tree.leaves(changed))
    for view in [at(nobody, i) for i in range(J)] if kind == "dissensus" else [nobody]:
        same(view, sent)


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        ("sign_flip", 2.5),
        ("alie", 2.5),
        ("ipm", 1.0),
        ("confidence", 1.0),
        ("timestamp", 1.0),
    ],
)
def test_estimates_are_those_of_the_formula(kind, strength):
    sent = messages()
    sent.insight.valid[BYZANTINE == 0, 2] = 0.0  # a cell that only byzantine peers know
    sent.insight.valid[BYZANTINE > 0, 2] = 1.0
    sent.insight.valid[BYZANTINE > 0, 3] = 0.0  # and one of which they know nothing
    out = attack(kind, sent, strength)
    values, known = read_estimates(out)
    rows = reference.vectors(sent)
    for j in np.flatnonzero(BYZANTINE):
        assert np.asarray(known[j] > 0).all()
        expected = np.array(
            [
                reference.attacked(kind, strength, rows, BYZANTINE, j, v)
                for v in range(known.shape[1])
            ]
        )
        expected[3 * K : 4 * K] = np.clip(expected[3 * K : 4 * K], -1, 1)
        np.testing.assert_allclose(values[j], expected, rtol=2e-3, atol=2e-3)


def test_byzantine_messages_are_wrapped_like_the_honest():
    sent = messages()
    out = attack("ipm", sent)
    honest = BYZANTINE == 0
    for j in np.flatnonzero(BYZANTINE):
        for k in range(K):
            seen = honest & (sent.insight.valid[:, k] > 0)
            for name in ("confidence", "count", "action_std", "valid"):
                leaf = getattr(sent.insight, name)[seen, k]
                np.testing.assert_allclose(
                    getattr(out.insight, name)[j, k], leaf.mean(0), rtol=1e-5
                )
            stamp = sent.insight.timestamp[seen, k].max()
            assert out.insight.timestamp[j, k] == stamp
        data = honest & (sent.demand.count > 0)
        for name in ("precision", "count"):
            mean = getattr(sent.demand, name)[data].mean(0)
            np.testing.assert_allclose(
                getattr(out.demand, name)[j], mean, rtol=1e-4, atol=1e-4
            )
        has_data = honest & (sent.insight.valid.max(1) > 0)
        mean = sent.performance[has_data].mean()
        np.testing.assert_allclose(out.performance[j], mean, rtol=1e-5)


def test_attacked_demand_has_the_attacked_coefficients():
    """Who solves ``S θ = b`` of a flipped message finds the flipped curve."""
    sent = messages()
    out = attack("sign_flip", sent)
    assert sent.demand.count[2] > 0
    theta = reference.coefficients(sent.demand, 2)
    attacked = reference.coefficients(out.demand, 2)
    np.testing.assert_allclose(attacked, -theta, rtol=2e-3, atol=2e-3)


def test_flipped_values_keep_flipped_shape_for_those_who_normalise():
    sent = messages()
    sent.insight.valid[:] = 1.0
    out = attack("sign_flip", sent)
    shape, *_ = normalise(at(out.insight, 2))
    honest = at(sent.insight, 2)._replace(count=out.insight.count[2])
    expected, *_ = normalise(honest)
    np.testing.assert_allclose(shape, -np.asarray(expected), rtol=1e-3, atol=1e-4)


def test_noise_has_the_promised_spread():
    """Standardised over many draws: mean 0, standard deviation 10."""
    sent = messages()
    keys = jax.random.split(jax.random.key(3), 2000)
    one = make_attack("gaussian", 1.0).transform

    def draw(key):
        result = one(sent, sent, EDGE, BYZANTINE, key, NOW)
        return result.insight.state_value[BYZANTINE > 0]

    result = np.asarray(jax.jit(jax.vmap(draw))(keys))
    for k in range(K):
        seen = (BYZANTINE == 0) & (sent.insight.valid[:, k] > 0)
        honest = sent.insight.state_value[seen, k]
        noise = (result[..., k] - honest.mean()) / honest.std()
        assert abs(noise.mean()) < 4 * 10 / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(10.0, rel=0.05)
        # The two byzantine peers do not make the same noise.
        assert abs(np.corrcoef(noise.T)[0, 1]) < 0.1


def test_mimic_copies_the_first_honest_peer_with_data():
    sent = messages(absent=(0,))
    out = attack("mimic", sent)
    for j in np.flatnonzero(BYZANTINE):
        same(at(out, j), at(sent, 1))
    half = attack("mimic", sent, 0.5)
    np.testing.assert_allclose(
        half.demand.shift[2],
        (sent.demand.shift[2] + sent.demand.shift[1]) / 2,
        rtol=1e-5,
    )
    same(attack("mimic", sent, 3.0), out)


def test_confidence_boasts():
    sent = messages()
    out = at(attack("confidence", sent), BYZANTINE > 0)
    np.testing.assert_array_equal(out.insight.confidence, 1.0)
    for value in (out.insight.count, out.demand.count, out.performance):
        np.testing.assert_array_equal(value, np.float32(1e6))
    honest = attack("sign_flip", sent).demand
    np.testing.assert_allclose(
        out.demand.precision, honest.precision[BYZANTINE > 0] * 1e6 / 40, rtol=1e-4
    )


def test_nobody_can_send_what_the_mode_does_not_carry():
    """Values without counts, demand or performance: as in the mode public."""
    sent = messages()
    demand = jax.tree.map(np.zeros_like, sent.demand)
    insight = sent.insight._replace(count=0 * sent.insight.count)
    sent = Received(insight, demand, 0 * sent.performance, sent.trend)
    for kind in FINITE:
        out = attack(kind, sent)
        for leaf in (out.insight.count, *out.demand, out.performance):
            np.testing.assert_array_equal(leaf, 0.0, err_msg=kind)
        assert np.abs(out.trend).max() <= 1.0


@pytest.mark.parametrize("kind", ["spread", "insider"])
def test_spread_is_stated_in_every_cell(kind):
    sent = messages()
    out = attack(kind, sent, 0.5)
    rows = reference.vectors(sent)
    values, known = read_estimates(out)
    for j in np.flatnonzero(BYZANTINE):
        assert np.asarray(known[j] > 0).all()
        expected = np.array(
            [
                reference.attacked(kind, 0.5, rows, BYZANTINE, j, v)
                for v in range(known.shape[1])
            ]
        )
        expected[2 * K : 3 * K] = 0.5 * 5.0 * A
        np.testing.assert_allclose(values[j], expected, rtol=2e-3, atol=2e-3)
        for name, stated in (("valid", 1.0), ("confidence", 1.0), ("timestamp", NOW)):
            np.testing.assert_array_equal(getattr(out.insight, name)[j], stated)


def test_an_insider_states_the_steepest_demand_curve():
    sent, base = messages(), base_prior(F)
    run = make_attack("insider", 0.5, base).transform
    out = jax.jit(run)(sent, sent, EDGE, BYZANTINE, jax.random.key(0), NOW)
    expected = reference.insider_coefficients(
        0.5, sent.demand, BYZANTINE, base.own_price, base.high
    )
    assert expected[1] == 3.0
    for j in np.flatnonzero(BYZANTINE):
        S = np.asarray(out.demand.precision[j], float)
        theta = np.linalg.solve(S, np.asarray(out.demand.shift[j]))
        np.testing.assert_allclose(theta, expected, rtol=1e-3, atol=1e-3)
        assert out.demand.count[j] == 1e6
        sound = sanitize_demand(at(out.demand, j), base.record_scale, 52.0)
        stated = np.linalg.solve(sound.precision, sound.shift)
        np.testing.assert_allclose(stated, expected, rtol=1e-3, atol=1e-3)


def test_times_are_forged():
    sent = messages()
    stamps = attack("timestamp", sent).insight.timestamp
    np.testing.assert_array_equal(stamps[2], NOW)
    np.testing.assert_array_equal(stamps[4], NOW + np.float32(1e6))
    out = attack("replay", sent)
    seen = sent.insight.valid > 0
    bad = BYZANTINE[:, None] > 0
    expected = np.where(bad & seen, NOW, sent.insight.timestamp)
    np.testing.assert_array_equal(out.insight.timestamp, expected)
    kept = out._replace(insight=out.insight._replace(timestamp=sent.insight.timestamp))
    same(kept, sent)
    half = attack("replay", sent, 0.5).insight.timestamp
    middle = (NOW + sent.insight.timestamp) / 2
    np.testing.assert_allclose(half[bad & seen], middle[bad & seen], rtol=1e-6)


def test_nonfinite_spoils_its_share_of_entries():
    sent = messages()
    for strength, low, high in ((1.0, 1.0, 1.0), (0.3, 0.15, 0.45), (0.0, 0.0, 0.0)):
        out = attack("nonfinite", sent, strength)
        np.testing.assert_array_equal(out.insight.valid[BYZANTINE > 0], 1.0)
        out = out._replace(insight=out.insight._replace(valid=np.zeros((J, 0))))
        leaves = jax.tree.leaves(at(out, BYZANTINE > 0))
        entries = np.concatenate([np.ravel(leaf) for leaf in leaves])
        share = np.mean(~np.isfinite(entries))
        assert low <= share <= high
        if strength == 1.0:
            kinds = (np.isnan, np.isposinf, np.isneginf)
            assert min(kind(entries).mean() for kind in kinds) > 0.2


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_dissensus_is_that_of_the_paper(strength):
    rng = np.random.default_rng(1)
    sent, own = messages(), messages(5)
    edge = np.float32(EDGE * rng.uniform(0.2, 1, (J, J)))
    edge[0, BYZANTINE > 0] = 0.0  # no byzantine sender, so no attack on it
    run = transform("dissensus", strength)
    out = run(sent, own, edge, BYZANTINE, jax.random.key(0), NOW)
    rows, mine = reference.vectors(sent), reference.vectors(own)
    for i in range(J):
        values, _ = read_estimates(at(out, i))
        expected = np.array(
            [
                reference.dissensus(strength, rows, mine, edge, BYZANTINE, i, v)
                for v in range(values.shape[1])
            ]
        )
        expected[3 * K : 4 * K] = np.clip(expected[3 * K : 4 * K], -1, 1)
        for j in np.flatnonzero(BYZANTINE):
            np.testing.assert_allclose(values[j], expected, rtol=3e-3, atol=3e-3)


def test_dissensus_keeps_neighbours_apart_under_the_plain_mean():
    sent = messages()
    sent.insight.valid[:] = 1.0
    honest = BYZANTINE == 0
    ring = np.roll(np.eye(J), 1, 0) + np.roll(np.eye(J), -1, 0)
    ring = np.float32(ring)  # each peer receives from both neighbours

    def disagreement(strength):
        result = np.broadcast_to(sent.insight.state_value[None], (J, J, K))
        if strength:
            result = attack("dissensus", sent, strength, edge=ring).insight.state_value
        own = sent.insight.state_value
        mixed = (own + np.einsum("ij,ijk->ik", ring, result)) / 3.0
        honest_ring = ring.copy()
        if not strength:  # without an attack the byzantine send nothing
            honest_ring[:, ~honest] = 0.0
            mixed = own + np.einsum("ij,ijk->ik", honest_ring, result)
            mixed /= 1.0 + honest_ring.sum(1, keepdims=True)
        return mixed[honest].var(axis=0).sum()

    before = sent.insight.state_value[honest].var(axis=0).sum()
    none, one, three = (disagreement(s) for s in (0.0, 1.0, 3.0))
    assert none < one < three
    assert none < 0.8 * before < before < three


def test_dissensus_of_one_stops_all_mixing():
    sent = messages()
    sent.insight.valid[:] = 1.0
    result = attack("dissensus", sent).insight.state_value
    own = sent.insight.state_value
    mixed = (own + np.einsum("ij,ijk->ik", EDGE, result)) / J
    honest = BYZANTINE == 0
    np.testing.assert_allclose(mixed[honest], own[honest], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("features", [0, 1])
@pytest.mark.parametrize("kind", ["sign_flip", "dissensus", "mimic"])
def test_memories_without_demand_can_be_attacked(kind, features):
    sent = messages(features=features)
    if features == 0:
        sent = sent._replace(demand=sent.demand._replace(count=0 * sent.demand.count))
    out = attack(kind, sent)
    assert out.demand.shift.shape[-1] == features
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert not np.array_equal(
        out.insight.state_value[..., 2, :], sent.insight.state_value[2]
    )


def test_a_broken_precision_breaks_no_attack():
    """Noise of a private mode may leave statistics that are no covariance."""
    sent = messages()
    sent.demand.precision[1] = -np.eye(F)
    sent.demand.precision[3] = np.nan
    with jax.debug_nans(False):
        out = transform("alie")(sent, sent, EDGE, BYZANTINE, jax.random.key(0), NOW)
    for leaf in jax.tree.leaves(at(out, BYZANTINE > 0)):
        assert np.isfinite(leaf).all()
