"""The ring buffer against a Python deque."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.sac.replay import make_replay
from p2p_sac_jax.types import Transition

CAPACITY, OBS, ACTION = 5, 3, 2
_buffer = make_replay(CAPACITY, OBS, ACTION)
_insert = jax.jit(_buffer.insert)
_sample = jax.jit(_buffer.sample, static_argnums=2)


def _transition(i):
    """A transition whose every number identifies it."""
    i = np.float32(i)
    return Transition(
        obs=np.arange(OBS, dtype=np.float32) + i,
        action=np.arange(ACTION, dtype=np.float32) - i,
        reward=10 * i,
        next_obs=np.arange(OBS, dtype=np.float32) + i + np.float32(0.5),
        discount=np.float32(i % 2),
    )


@settings(deadline=None, max_examples=25)
@given(active=st.lists(st.booleans(), max_size=14), seed=st.integers(0, 2**31 - 1))
def test_ring_equals_deque(active, seed):
    replay, model = _buffer.init(), deque(maxlen=CAPACITY)
    for i, keep in enumerate(active):
        replay = _insert(replay, _transition(i), keep)
        if keep:
            model.append(i)
    assert int(replay.size) == len(model)
    assert int(replay.position) == sum(active) % CAPACITY

    batch = _sample(replay, jax.random.key(seed), 64)
    if not model:
        assert not any(leaf.any() for leaf in jax.tree.leaves(batch))
        return
    drawn = np.asarray(batch.reward) / 10
    assert set(drawn) <= set(model)
    expected = jax.tree.map(lambda *x: np.stack(x), *map(_transition, drawn))
    jax.tree.map(np.testing.assert_array_equal, batch, expected)


def test_masked_insert_changes_nothing():
    replay = _insert(_buffer.init(), _transition(1), True)
    for off in (False, 0, np.float32(0.0)):
        after = _buffer.insert(replay, _transition(2), jnp.asarray(off))
        jax.tree.map(np.testing.assert_array_equal, after, replay)


def test_sampling_is_uniform_over_the_filled_part():
    replay = _buffer.init()
    for i in range(3):
        replay = _insert(replay, _transition(i), True)
    drawn = np.asarray(_sample(replay, jax.random.key(0), 30_000).reward) / 10
    share = np.bincount(drawn.astype(int), minlength=CAPACITY) / drawn.size
    np.testing.assert_allclose(share, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=0.015)


def test_vmap_keeps_peers_apart():
    replay = jax.vmap(lambda _: _buffer.init())(jnp.arange(2))
    transitions = jax.tree.map(lambda *x: np.stack(x), _transition(1), _transition(2))
    replay = jax.vmap(_buffer.insert)(replay, transitions, jnp.asarray([True, False]))
    np.testing.assert_array_equal(replay.size, [1, 0])
    np.testing.assert_array_equal(replay.rows[1], 0.0)
