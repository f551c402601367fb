"""Insight against its formulas, cell by cell, and its degenerate cases."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.insight import (
    InsightInputs,
    has_scale,
    make_insight,
    normalise,
)
from p2p_sac_jax.hyper import make_hyper
from tests.reference import exchange as reference

M, K, A = 64, 6, 2
HYPER = make_hyper(TrainConfig()).exchange


@partial(jax.jit, static_argnums=1)
def summarise(inputs, num_cells):
    insight = make_insight(inputs, num_cells, jnp.float32(7.0), HYPER)
    return insight, normalise(insight), has_scale(insight)


def random_inputs(seed, cells=K, size=100.0):
    rng = np.random.default_rng(seed)
    return InsightInputs(
        cell=rng.integers(0, cells, M).astype(np.int32),
        state_value=rng.normal(3.0, 2.0, M).astype(np.float32),
        action_value=rng.normal(size=M).astype(np.float32),
        entropy=rng.normal(size=M).astype(np.float32),
        action_mean=rng.uniform(-1, 1, (M, A)).astype(np.float32),
        action_std=rng.uniform(0.1, 1, (M, A)).astype(np.float32),
        size=np.float32(size),
        td_error=np.float32(rng.uniform(0, 2)),
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), cells=st.integers(1, K))
def test_matches_reference(seed, cells):
    inputs = random_inputs(seed, cells)
    insight, (shape, centre, scale), _ = summarise(inputs, K)
    expected = reference.insight(
        inputs, K, 7.0, float(HYPER.n0), float(HYPER.td_penalty)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(insight, name), value, rtol=2e-5, atol=2e-5, err_msg=name
        )
    assert float(insight.count.sum()) == pytest.approx(100.0, rel=1e-5)
    seen = np.asarray(insight.valid) > 0
    np.testing.assert_allclose(
        centre + scale * shape[seen], insight.state_value[seen], rtol=1e-5
    )
    if seen.sum() > 1:
        weight = np.asarray(insight.count)
        assert np.average(shape, weights=weight) == pytest.approx(0.0, abs=1e-4)
        variance = np.average(shape**2, weights=weight)
        # Cells of all but equal value are spread by the floor, not by themselves.
        floored = float(scale) < 1.001 * (1e-4 * abs(float(centre)) + 1e-6)
        assert variance == pytest.approx(1.0, abs=1e-4) or (floored and variance < 1)


def test_one_cell_is_the_scalar_insight():
    inputs = random_inputs(0, cells=1)
    insight, (shape, centre, _), has = summarise(inputs, 1)
    assert insight.action_mean.shape == (1, A)
    assert float(insight.state_value[0]) == pytest.approx(inputs.state_value.mean())
    evidence = 100.0 / 108.0 * np.exp(-inputs.td_error)
    assert float(insight.confidence[0]) == pytest.approx(evidence, rel=1e-5)
    assert float(centre) == pytest.approx(float(insight.state_value[0]))
    assert float(shape[0]) == pytest.approx(0.0, abs=1e-3)
    assert float(has) == 0.0


def test_peer_without_data_sends_zeros():
    insight, (shape, centre, scale), has = summarise(random_inputs(1, size=0.0), K)
    for leaf in jax.tree.leaves((insight, shape, centre, has)):
        np.testing.assert_array_equal(leaf, 0.0)
    assert float(scale) > 0.0


@pytest.mark.parametrize("level", [0.0, 0.3, -250.0])
def test_constant_values_are_certain_and_flat(level):
    values = np.full(M, level, np.float32)
    inputs = random_inputs(2)._replace(state_value=values, td_error=np.float32(0.0))
    insight, (shape, _, _), _ = summarise(inputs, K)
    count = np.asarray(insight.count)
    np.testing.assert_allclose(insight.confidence, count / (count + 8.0), rtol=0.02)
    np.testing.assert_allclose(shape, 0.0, atol=1e-2)


def test_level_and_scale_of_the_sender_do_not_matter():
    inputs = random_inputs(3)
    moved = inputs._replace(state_value=10.0 * inputs.state_value - 40.0)
    one, (shape_one, _, _), _ = summarise(inputs, K)
    two, (shape_two, _, _), _ = summarise(moved, K)
    np.testing.assert_allclose(shape_one, shape_two, atol=1e-4)
    np.testing.assert_allclose(one.confidence, two.confidence, rtol=1e-4)
