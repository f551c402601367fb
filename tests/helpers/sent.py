"""Messages of several senders as receivers read them, for the tests of attacks."""

from __future__ import annotations

import jax
import numpy as np

from p2p_sac_jax.types import DemandSummary, Insight, Received

K, A, F = 6, 2, 5
STEPS = 40.0  # real steps behind everybody's demand


def messages(seed=0, peers=7, absent=(), features=F):
    """Messages of ``peers`` senders; the absent have no data at all."""
    rng = np.random.default_rng(seed)
    shape = (peers, K)
    has_data = np.ones(peers)
    has_data[list(absent)] = 0.0
    factor = rng.normal(size=(peers, max(features, 1) * 4, features))
    precision = np.einsum("jnf,jng->jfg", factor, factor) + 10 * np.eye(features)
    theta = 1.0 + 0.3 * rng.normal(size=(peers, features))
    sent = Received(
        insight=Insight(
            state_value=3.0 + rng.normal(size=shape),
            action_value=rng.normal(size=shape),
            entropy=rng.normal(size=shape),
            confidence=rng.uniform(0.2, 0.9, shape),
            timestamp=rng.uniform(0, 900, shape),
            action_mean=rng.uniform(-0.9, 0.9, (*shape, A)),
            action_std=rng.uniform(0.1, 0.5, (*shape, A)),
            count=rng.uniform(1, 12, shape),
            valid=(rng.uniform(size=shape) < 0.8) * has_data[:, None],
        ),
        demand=DemandSummary(
            precision=precision * has_data[:, None, None],
            shift=np.einsum("jfg,jg->jf", precision, theta) * has_data[:, None],
            count=STEPS * has_data,
        ),
        performance=rng.uniform(0.5, 1.5, peers),
        trend=rng.uniform(-0.9, 0.9, shape),
    )
    return jax.tree.map(np.float32, sent)


def at(tree, *index):
    """The leaves of a tree at an index."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def same(one, other):
    """The same trees to the bit, NaN included."""
    jax.tree.map(np.testing.assert_array_equal, one, other)
