"""Faults of the network against lists and counts; what is off costs nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from p2p_sac_jax.config import (
    ConfigError,
    FaultsConfig,
    PopulationConfig,
    TrainConfig,
)
from p2p_sac_jax.simulation.faults import (
    NEVER,
    delay,
    empty_queue,
    make_fault_plan,
    online,
    surviving,
)
from p2p_sac_jax.validation import validate

PEERS = 12
EDGE = np.ones((PEERS, PEERS), np.float32) - np.eye(PEERS, dtype=np.float32)


def configured(seed=0, peers=PEERS, **faults):
    return TrainConfig(
        seed=seed,
        population=PopulationConfig(peers=peers),
        faults=FaultsConfig(**faults),
    )


def edges(config, plan=None, edge=EDGE, clocks=(0,), seed=0, receivers=None):
    """What survives at each clock, [T, I, J]."""
    plan = make_fault_plan(config, len(edge)) if plan is None else plan
    receiver_plan = plan if receivers is None else receivers

    @jax.jit
    def at(clocks):
        key = jax.random.key(seed)
        one = lambda clock: surviving(  # noqa: E731
            config.faults, edge, receiver_plan, plan, key, clock
        )
        return jax.vmap(one)(clocks)

    return np.asarray(at(jnp.asarray(clocks, jnp.int32)))


def at(plan, order):
    return jax.tree.map(lambda leaf: leaf[order], plan)


def test_without_faults_the_adjacency_is_what_it_was():
    config = TrainConfig()
    plan = make_fault_plan(config, 16)
    adjacency = jnp.ones((16, 16))
    key = jax.random.key(0)
    assert surviving(config.faults, adjacency, plan, plan, key, 3) is adjacency
    message = {"x": jnp.ones(3)}
    queue = empty_queue(message, config.faults.delay)
    assert queue == ()
    after, carried = delay(config.faults, queue, message, jnp.ones(()))
    assert after == ()
    assert carried is message
    assert online(plan, jnp.int32(10**6)).tolist() == [1.0] * 16


def test_plans_hit_exactly_their_share():
    config = configured(
        delay=2, stragglers=0.3, churn=0.25, leave_step=8, rejoin_step=40
    )
    plan = make_fault_plan(config, PEERS + 4)
    assert plan.ids.tolist() == list(range(PEERS + 4))
    assert plan.delayed.sum() == 4  # 3.6, rounded
    leaves = plan.leaves != NEVER
    assert leaves.sum() == 3
    assert set(plan.leaves[leaves]) == {8}
    assert set(plan.rejoins[leaves]) == {40}
    assert set(plan.rejoins[~leaves]) == {NEVER}
    assert plan.side.sum() == PEERS // 2
    # Masked peers suffer nothing, and their number moves nobody else's fate.
    for leaf, default in zip(plan[1:], (0, NEVER, NEVER, 0), strict=True):
        assert (leaf[PEERS:] == default).all()
    for ours, theirs in zip(make_fault_plan(config, PEERS), plan, strict=True):
        np.testing.assert_array_equal(ours, theirs[:PEERS])


def test_plans_are_reproducible_and_differ_by_seed():
    def plan(seed, **faults):
        return make_fault_plan(configured(seed, **faults), PEERS)

    for ours, theirs in zip(plan(1), plan(1), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len({tuple(plan(seed).side) for seed in range(8)}) > 4
    # One fault more moves no other.
    churn = plan(1, churn=0.5, leave_step=4)
    np.testing.assert_array_equal(plan(1).side, churn.side)
    assert churn.leaves.tolist() != [4] * 6 + [NEVER] * 6


@pytest.mark.parametrize("loss", [0.05, 0.4])
def test_messages_are_lost_as_often_as_asked(loss):
    clocks = np.arange(0, 800, 4)
    kept = edges(configured(loss=loss), clocks=clocks)
    real = EDGE > 0
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert not kept[:, ~real].any()
    gone = kept[:, real] == 0
    count = stats.binomtest(int(gone.sum()), gone.size, loss)
    assert count.pvalue > 1e-4
    # Every edge and every round has its own chance, and no memory of the last.
    for axis, trials in ((0, len(clocks)), (1, int(real.sum()))):
        spread = gone.mean(axis=axis).std() / np.sqrt(loss * (1 - loss) / trials)
        assert 0.7 < spread < 1.3
    assert abs(np.corrcoef(gone[1:].ravel(), gone[:-1].ravel())[0, 1]) < 0.03
    both = np.triu(np.ones((PEERS, PEERS)), 1) > 0  # i to j apart from j to i
    there, back = kept[:, both], kept.swapaxes(1, 2)[:, both]
    assert abs(np.corrcoef(there.ravel(), back.ravel())[0, 1]) < 0.05


def test_losses_of_nothing_and_of_everything():
    assert (edges(configured(loss=0.0))[0] == EDGE).all()
    assert not edges(configured(loss=1.0), clocks=range(20)).any()


def test_losses_follow_the_pair_the_clock_and_the_key():
    config = configured(loss=0.5)
    plan = make_fault_plan(config, PEERS)
    weights = np.float32(np.random.default_rng(0).uniform(0.1, 1, EDGE.shape))
    kept = edges(config, edge=weights, clocks=(0, 4))
    np.testing.assert_array_equal(kept, edges(config, edge=weights, clocks=(0, 4)))
    assert (kept[0] != kept[1]).any()
    assert (kept != edges(config, edge=weights, clocks=(0, 4), seed=1)).any()
    assert ((kept == 0) | (kept == weights)).all()
    order = np.random.default_rng(1).permutation(PEERS)
    moved = edges(config, at(plan, order), weights[order][:, order], (0, 4))
    np.testing.assert_array_equal(moved, kept[:, order][:, :, order])
    # Some of the receivers alone, as on one of several devices; and padding.
    some = edges(config, plan, weights[3:5], (0, 4), receivers=at(plan, slice(3, 5)))
    np.testing.assert_array_equal(some, kept[:, 3:5])
    padded = np.pad(weights, (0, 4))
    more = edges(config, make_fault_plan(config, PEERS + 4), padded, (0, 4))
    np.testing.assert_array_equal(more[:, :PEERS, :PEERS], kept)


def test_partition_and_healing():
    config = configured(partition_step=8, heal_step=16)
    side = make_fault_plan(config, PEERS).side
    clocks = (0, 7, 8, 12, 15, 16, 200)
    kept = edges(config, clocks=clocks)
    for clock, edge in zip(clocks, kept, strict=True):
        for i in range(PEERS):
            for j in range(PEERS):
                apart = 8 <= clock < 16 and side[i] != side[j]
                assert edge[i, j] == (0.0 if apart else EDGE[i, j])
    assert (kept[3] == 0).sum() == PEERS + 2 * (PEERS // 2) ** 2


@pytest.mark.parametrize("rejoin", [0, 16])
def test_peers_leave_and_come_back(rejoin):
    config = configured(churn=0.25, leave_step=8, rejoin_step=rejoin)
    plan = make_fault_plan(config, PEERS)
    gone = plan.leaves == 8
    assert gone.sum() == 3
    clocks = (0, 7, 8, 15, 16, 200)
    kept = edges(config, clocks=clocks)
    for clock, edge in zip(clocks, kept, strict=True):
        away = gone & (clock >= 8) & (not rejoin or clock < rejoin)
        expected = EDGE * ~away[:, None] * ~away[None]
        np.testing.assert_array_equal(edge, expected)
        there = online(plan, jnp.int32(clock))
        np.testing.assert_array_equal(there, np.float32(~away))
        assert online(at(plan, 0), jnp.int32(clock)) == float(~away[0])


def test_all_faults_together_are_their_product():
    clocks = range(0, 40, 4)
    apart = {"partition_step": 8, "heal_step": 24}
    gone = {"churn": 0.5, "leave_step": 12, "rejoin_step": 20}
    parts = [
        edges(configured(**x), clocks=clocks) for x in ({"loss": 0.3}, apart, gone)
    ]
    map_batch_size = edges(configured(loss=0.3, **apart, **gone), clocks=clocks)
    np.testing.assert_array_equal(map_batch_size, parts[0] * parts[1] * parts[2])


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_messages_arrive_rounds_later(rounds):
    """A scan over a queue of arrays against a list of everything ever sent."""
    faults = FaultsConfig(delay=rounds, stragglers=0.5)
    total, rng = 12, np.random.default_rng(rounds)
    sent = {
        "x": rng.normal(size=(total, 3)).astype(np.float32),
        "n": rng.integers(1, 9, total).astype(np.int32),
    }

    @jax.jit
    def travel(delayed):
        start = empty_queue(jax.tree.map(lambda leaf: leaf[0], sent), rounds)

        def step(queue, message):
            return delay(faults, queue, message, delayed)

        return jax.lax.scan(step, start, sent)[1]

    prompt, late = travel(jnp.float32(0.0)), travel(jnp.float32(1.0))
    for name, leaf in sent.items():
        empty = [np.zeros_like(leaf[0])] * rounds
        waiting = empty + list(leaf)
        np.testing.assert_array_equal(prompt[name], leaf)
        np.testing.assert_array_equal(late[name], waiting[:total])
        assert late[name].dtype == leaf.dtype


def test_a_queue_needs_only_shapes():
    shapes = {"x": jax.ShapeDtypeStruct((3,), jnp.float32)}
    np.testing.assert_array_equal(empty_queue(shapes, 2)["x"], np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("faults", "line"),
    [
        (
            {"churn": 0.5, "leave_step": 20, "rejoin_step": 20},
            "faults.rejoin_step=20 must be 0 (never), or above faults.leave_step=20",
        ),
        (
            {"partition_step": 8, "heal_step": 8},
            "faults.heal_step=8 must be 0 (no partition), or above"
            " faults.partition_step=8",
        ),
    ],
)
def test_faults_that_end_before_they_begin_are_refused(faults, line):
    with pytest.raises(ConfigError) as refusal:
        validate(configured(**faults))
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    "faults",
    [
        {"churn": 0.5, "leave_step": 208},
        {"churn": 0.01, "leave_step": 20},
        {"leave_step": 4},
        {"rejoin_step": 4},
        {"partition_step": 4},
        {"stragglers": 0.5},
        {"delay": 2, "stragglers": 0.01},
    ],
    ids=repr,
)
def test_faults_without_effect_are_accepted(faults):
    config = configured(**faults)
    validate(config)
    found = edges(config, clocks=(0, 4, 8, 204))
    np.testing.assert_array_equal(found, np.broadcast_to(EDGE, found.shape))
    late = make_fault_plan(config, PEERS).delayed.any()
    assert not (config.faults.delay and late)


def test_faults_that_can_happen_are_accepted():
    validate(TrainConfig())
    everything = FaultsConfig(
        loss=1.0,
        delay=3,
        stragglers=0.5,
        churn=0.5,
        leave_step=1,
        rejoin_step=8,
        heal_step=208,
    )
    validate(dataclasses.replace(TrainConfig(), faults=everything))
