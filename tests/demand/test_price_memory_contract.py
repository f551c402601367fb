"""What every price memory promises, whatever it holds."""

from __future__ import annotations

import functools

import chex
import jax
import numpy as np
import pytest

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.demand import base, bins
from p2p_sac_jax.demand import no_memory as none
from p2p_sac_jax.types import Candidates, Experience
from tests.helpers.demand import demand_memory
from tests.reference import bayes

MEMORIES = {
    "demand-5": lambda: demand_memory(5),
    "demand-6": lambda: demand_memory(6),
    "bins": lambda: bins.make_binned_memory(20),
}
ACTION = np.array([0.1], np.float32)
ONE = np.float32(1.0)
STEPS = 300


@pytest.fixture(params=MEMORIES, scope="module")
def memory(request):
    return MEMORIES[request.param]()


@pytest.fixture(scope="module")
def learn(memory):
    return jax.jit(functools.partial(remember, memory))


@pytest.fixture(scope="module")
def ask(memory):
    return jax.jit(functools.partial(consult, memory))


def num_features(memory):
    size = memory.base_prior.mean.shape[0]
    return size or 5


def experiences(seed, steps, size):
    """A consistent market path, leaves ``[steps, ...]``; all in one context."""
    rng = np.random.default_rng(seed)
    x = bayes.market_features(rng, steps, size)
    price = 1 - x[:, 1]
    theta = np.zeros(size)
    theta[1] = 2.5
    z = bayes.log_sales(rng, x, theta, 0.3)
    action = (np.log(price) / np.log(1.5)).astype(np.float32)[:, None]
    reward = ((price - 0.7) * np.exp(z) / 0.3).astype(np.float32)
    return Experience(x, z, action, reward, np.zeros(steps, np.int32))


def candidates(size, count=33):
    actions = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
    price = 1.5 ** actions[:, 0]
    features = np.zeros((count, size), np.float32)
    features[:, 0] = 1
    features[:, 1] = 1 - price
    return Candidates(actions, features, (price - 0.7) / 0.3, np.int32(0))


def remember(memory, rows):
    def step(state, row):
        return memory.update(state, row, ONE, ONE), None

    return jax.lax.scan(step, memory.init(), rows)[0]


def consult(memory, state, key):
    """Everything a memory can be asked, in one program."""
    std_key, region_key = jax.random.split(key)
    belief = memory.posterior(state, memory.base_prior.prior)
    options = candidates(num_features(memory))
    return {
        "belief": belief,
        "summary": memory.summary(state),
        "bonus": memory.exploration_bonus(belief, options, ACTION),
        "std": memory.optimal_exploration_std(belief, options, ACTION, std_key),
        "regions": memory.promising_regions(belief, options, region_key),
    }


def test_shapes_types_and_finiteness(memory, ask):
    answer = ask(memory.init(), jax.random.key(0))
    chex.assert_tree_all_finite(answer)
    assert {leaf.dtype for leaf in jax.tree.leaves(answer)} == {np.dtype(np.float32)}
    size = memory.base_prior.mean.shape[0]
    chex.assert_shape(memory.base_prior.covariance, (size, size))
    chex.assert_shape(answer["summary"].precision, (size, size))
    chex.assert_shape(answer["summary"].shift, (size,))
    chex.assert_shape([answer["summary"].count, answer["bonus"], answer["std"]], ())
    regions = answer["regions"]
    chex.assert_shape([regions.lo, regions.hi], (base.NUM_REGIONS, 1))
    chex.assert_shape(list(regions[2:]), (base.NUM_REGIONS,))
    assert isinstance(memory.base_prior, BasePrior)
    assert all(isinstance(leaf, np.ndarray) for leaf in memory.base_prior)


def test_statistics_have_the_shape_of_the_prior(memory, learn):
    size = memory.base_prior.mean.shape[0]
    fresh = memory.statistics(memory.init())
    chex.assert_shape(fresh.G, (size, size))
    chex.assert_shape(fresh.h, (size,))
    chex.assert_shape([fresh.yy, fresh.n], ())
    assert all(not np.any(leaf) for leaf in fresh)
    learned = memory.statistics(learn(experiences(0, STEPS, num_features(memory))))
    # Memories without coefficients have no statistics, whatever they observed.
    assert learned.n == (STEPS if size else 0)
    assert np.any(learned.G) == (size > 0)


def test_no_memory_has_no_statistics():
    memory = none.make_no_memory()
    nothing = memory.statistics(memory.init())
    assert [leaf.shape for leaf in nothing] == [(0, 0), (0,), (), ()]
    assert nothing.n == 0


def test_vmap_is_a_loop_and_compiles_once(memory, learn, ask):
    many = [experiences(seed, STEPS, num_features(memory)) for seed in range(3)]
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *many)

    def keys():
        return jax.random.split(jax.random.key(1), 3)

    loop = [ask(learn(r), k) for r, k in zip(many, keys(), strict=True)]
    assert ask._cache_size() == learn._cache_size() == 1
    map_batch_size = jax.jit(jax.vmap(lambda rows, key: ask(learn(rows), key)))(
        stacked, keys()
    )
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
    chex.assert_trees_all_close(map_batch_size, expected, atol=2e-4, rtol=2e-4)


def test_data_dispel_ignorance(memory, learn, ask):
    rows = experiences(0, STEPS, num_features(memory))
    before = ask(memory.init(), jax.random.key(2))
    after = ask(learn(rows), jax.random.key(2))
    np.testing.assert_allclose(before["bonus"], 1.0, atol=1e-3)
    assert 0 < after["bonus"] < 0.4
    assert 0 < after["std"] < 0.5 * before["std"]

    regions = after["regions"]
    assert np.all(np.diff(regions.probability) <= 0)
    assert np.all(regions.lo < regions.hi)
    assert 0 < np.sum(regions.probability) <= 1 + 1e-6
    # Closed form of exponential demand: p* = c + 1/k = .7 + .4.
    best = np.log(1.1) / np.log(1.5)
    assert abs(0.5 * (regions.lo[0, 0] + regions.hi[0, 0]) - best) < 0.25
    assert np.all(regions.count > before["regions"].count)


def test_masked_update_is_the_identity(memory, learn):
    rows = experiences(3, STEPS, num_features(memory))
    state = learn(rows)
    last = jax.tree.map(lambda leaf: leaf[-1], rows)
    masked = memory.update(state, last, np.float32(0.9), np.float32(0.0))
    jax.tree.map(np.testing.assert_array_equal, masked, state)
