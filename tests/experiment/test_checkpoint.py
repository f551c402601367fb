"""Checkpoints under another padding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.experiment.checkpoint import Checkpoints

PEERS, RUNS = 3, 2


class State(NamedTuple):
    score: jax.Array  # [P, R]
    trust: jax.Array  # [P, R, J]


def state(padded, seed):
    rng = np.random.default_rng(seed)
    score = jnp.asarray(rng.normal(size=(padded, RUNS)), jnp.float32)
    trust = jnp.asarray(rng.uniform(size=(padded, RUNS, padded)), jnp.float32)
    return State(score, trust)


@pytest.mark.parametrize("later", [3, 4, 6])
def test_trust_survives_another_padding(tmp_path, later):
    before, like = state(4, 0), state(later, 1)
    checkpoints = Checkpoints(tmp_path, PEERS)
    checkpoints.save(7, before)
    after = checkpoints.restore(7, like)
    checkpoints.close()
    np.testing.assert_array_equal(after.score[:PEERS], before.score[:PEERS])
    np.testing.assert_array_equal(after.score[PEERS:], like.score[PEERS:])
    own = after.trust[:PEERS]
    np.testing.assert_array_equal(own[..., :PEERS], before.trust[:PEERS, :, :PEERS])
    assert not own[..., PEERS:].any()
