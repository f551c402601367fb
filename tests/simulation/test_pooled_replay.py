"""Pooled replays: whose rows a round studies, how often, and what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.sac.replay import Replay, make_replay
from p2p_sac_jax.sac.round_replay import RoundRows, make_round_replay
from p2p_sac_jax.simulation.peer_axis import PEERS, make_mesh, over_replays
from p2p_sac_jax.validation import validate
from tests.helpers.populations import run, small_config

STEPS, CAPACITY = 3, 5
BUFFER = make_replay(CAPACITY, obs_dim=1, action_dim=1)
WINDOW = make_round_replay(BUFFER, STEPS)
SIZES = (3, 0, 5, 1)  # the third is full, the second has no rows
NOBODYS = -1.0  # in rows that hold no transition


def replays(*sizes):
    """Leaves [P, ...]; row s of peer p holds 10 p + s."""
    place = np.arange(CAPACITY)
    label = 10.0 * np.arange(len(sizes))[:, None] + place
    label = np.where(place < np.array(sizes)[:, None], label, NOBODYS)
    rows = np.repeat(label[..., None], BUFFER.width, axis=-1)
    sizes = jnp.asarray(sizes, jnp.int32)
    return Replay(jnp.asarray(rows, jnp.float32), sizes % CAPACITY, sizes)


def draw(replay, key, active, clock, n=200, pooled=True):
    """As ``Peer.draw``."""
    keys = jax.random.split(jax.random.fold_in(key, clock), STEPS)
    take = WINDOW.presample_pooled if pooled else WINDOW.presample
    return take(replay, keys, n, active)


@functools.partial(jax.jit, static_argnames=("n", "pooled"))
def study(replay, key, active, n=200, pooled=True):
    """Labels [S, n] of the rows studied; row s of the round itself holds 100 + s."""
    draws = draw(replay, key, active, 0, n, pooled)
    new = 100.0 + jnp.arange(STEPS)[:, None] * jnp.ones((1, BUFFER.width))
    counts = (1 + jnp.arange(STEPS)) * active.astype(jnp.int32)
    return jax.vmap(lambda count, one: WINDOW.read(RoundRows(new, count), one).reward)(
        counts, draws
    )


@pytest.mark.parametrize("active", [1.0, 0.0])
def test_every_row_so_far_is_sampled_equally_often(active):
    old, n = [0, 1, 2, 20, 21, 22, 23, 24, 30], 30_000
    studied = study(replays(*SIZES), jax.random.key(0), jnp.asarray(active), n)
    for step, labels in enumerate(np.asarray(studied)):
        known = old + [100 + s for s in range(step + 1) if active]
        values, counts = np.unique(labels, return_counts=True)
        np.testing.assert_array_equal(values, known)
        share = 1.0 / len(known)
        spread = np.sqrt(n * share * (1.0 - share))
        assert np.abs(counts - n * share).max() < 5.0 * spread


@pytest.mark.parametrize("rows", [0, 2])
def test_the_pool_of_one_peer_is_its_own_replay(rows):
    """Bit for bit, as long as the ring has not come round."""
    alone, key, on = replays(rows), jax.random.key(1), jnp.ones(())
    own = jax.tree.map(lambda leaf: leaf[0], alone)
    np.testing.assert_array_equal(
        study(alone, jax.random.clone(key), on), study(own, key, on, pooled=False)
    )


def test_a_pool_holds_one_run_of_all_peers_on_one_device_or_two():
    two_runs = jax.tree.map(
        lambda *x: jnp.stack(x, 1), replays(*SIZES), replays(*SIZES)
    )
    rows = two_runs.rows.at[:, 1].add(0.5)  # the second run's
    keys = jax.random.split(jax.random.key(2), (len(SIZES), 2))
    arguments = two_runs._replace(rows=rows), keys, jnp.zeros(len(SIZES)), 7
    draws = jax.jit(over_replays(draw, True, None))(*arguments)
    for peer in range(len(SIZES)):
        for index in range(2):
            labels = np.unique(draws.rows[peer, index]) - 0.5 * index
            np.testing.assert_array_equal(labels, [0, 1, 2, 20, 21, 22, 23, 24, 30])
    peers, everywhere = PartitionSpec(PEERS), PartitionSpec()
    mesh = make_mesh(jax.devices()[:2])
    spread = jax.shard_map(
        over_replays(draw, True, mesh),
        mesh=mesh,
        in_specs=(peers, peers, peers, everywhere),
        out_specs=peers,
        check_vma=False,
    )
    jax.tree.map(np.testing.assert_array_equal, jax.jit(spread)(*arguments), draws)


@pytest.mark.thorough
def test_a_population_learns_from_its_pool_once_peers_have_joined():
    config = small_config(
        root={"arms": "plain", "evaluate_every": 2, "checkpoint_every": 2},
        environment={"name": "lqr"},
        memory={"kind": "none", "pooling": "none"},
        model_rollouts={"fraction": 0.0},
        exploration={"source": "policy"},
        exchange={"value_sharing": "none"},
        sac={"updates_per_step": 1, "batch_size": 4, "replay": "pooled"},
        population={"newcomers": 1, "join_step": 4},
    )
    validate(config)
    state = run(config, chunks=2, devices=2).state
    assert np.asarray(state.replay.size).ravel().tolist() == [4, 4, 4, 0]
    assert np.asarray(state.learner.updates).ravel().tolist() == [1, 1, 1, 0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner))


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("exchange", {"mode": "consortium"}, "with exchange.mode='consortium'"),
        ("sac", {"replay_capacity": 2**27}, "with more than 2147483647 transitions"),
    ],
)
def test_what_cannot_be_pooled_is_refused(section, values, reason):
    config = TrainConfig()
    config = dataclasses.replace(
        config, sac=dataclasses.replace(config.sac, replay="pooled")
    )
    changed = dataclasses.replace(getattr(config, section), **values)
    with pytest.raises(ConfigError) as error:
        validate(dataclasses.replace(config, **{section: changed}))
    assert str(error.value).startswith(f"sac.replay='pooled' must be 'own' {reason}")
    assert "\n" not in str(error.value)
