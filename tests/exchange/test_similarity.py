"""Similarity of contexts against a loop."""

import math

import numpy as np
import pytest

from p2p_sac_jax.exchange.similarity import context_similarity

CONTEXT = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def test_matches_a_loop():
    width = 0.7
    found = context_similarity(CONTEXT, width)
    assert found.dtype == np.float32
    for i, own in enumerate(CONTEXT.tolist()):
        for j, other in enumerate(CONTEXT.tolist()):
            apart = math.dist(own, other) / math.sqrt(3)
            expected = math.exp(-0.5 * (apart / width) ** 2)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_one_width_apart_costs_a_factor_of_root_e():
    found = context_similarity(np.array([[0.0, 0.0], [2.0, 2.0]]), 2.0)
    np.testing.assert_allclose(found, [[1, np.exp(-0.5)], [np.exp(-0.5), 1]])


def test_repeating_descriptors_changes_nothing():
    twice = np.concatenate([CONTEXT, CONTEXT], axis=1)
    np.testing.assert_allclose(
        context_similarity(twice, 0.7), context_similarity(CONTEXT, 0.7), rtol=1e-6
    )


def test_equal_contexts_are_one_however_narrow():
    same = np.repeat(CONTEXT[:1], 4, axis=0)
    np.testing.assert_array_equal(context_similarity(same, 1e-6), 1.0)
    found = context_similarity(CONTEXT, 1e-200)
    np.testing.assert_array_equal(found, np.eye(6))
