"""Guidance: exploration, bootstrap, shaped rewards; no messages change no bit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.guidance import (
    bootstrap,
    exploration_std,
    network_std,
    potential,
    shaped_reward,
)
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.types import Guidance, Prior

S = 6
PRIOR = Prior(np.zeros(1, np.float32), np.ones((1, 1), np.float32))
ALL = make_hyper(TrainConfig())
SLOPE = np.array([1.0, 0.5], np.float32)


@jax.jit
def explore(local, guidance, cell, bonus, beta):
    hyper = ALL.exploration._replace(bonus=beta, std_min=0.05, std_max=0.6)
    return exploration_std(local, guidance, cell, bonus, hyper, SLOPE)


def entropy_of(std):
    """Of a Gaussian in two dimensions."""
    return 2 * (np.log(std) + 0.5 * np.log(2 * np.pi * np.e))


def guide(value, value_weight, entropy=None, std_weight=None, trend=None):
    value = jnp.asarray(value, jnp.float32)
    zeros = jnp.zeros_like(value)
    return Guidance(
        value=value,
        value_weight=zeros + value_weight,
        entropy=zeros if entropy is None else zeros + entropy,
        entropy_weight=zeros if std_weight is None else zeros + std_weight,
        std_weight=zeros if std_weight is None else zeros + std_weight,
        trend=zeros if trend is None else zeros + trend,
        prior=PRIOR,
        has_prior=jnp.float32(0.0),
    )


@partial(jax.jit, static_argnames="use")
def used(v, value, weight, use):
    return bootstrap(guide(value, weight), jnp.arange(v.shape[-1]), use)(v)


shaped = jax.jit(shaped_reward)


@settings(deadline=None, max_examples=25)
@given(log_std=st.floats(-5.0, 1.0), action_dim=st.integers(1, 6))
def test_entropy_and_std_round_trip(log_std, action_dim):
    unit = 0.5 * np.log(2 * np.pi * np.e)
    entropy = jnp.float32(action_dim * (log_std + unit))
    got = float(network_std(entropy, action_dim))
    assert got == pytest.approx(np.exp(log_std), rel=1e-5)


def test_exploration_std_formula():
    local = np.array([0.2, 0.4], np.float32)
    shared = 0.5
    weights = np.array([0.0, 0.25, 1.0])
    guidance = guide(np.zeros(3), 0.0, entropy_of(shared), weights)
    got = explore(local, guidance, 1, jnp.float32(0.8), jnp.float32(2.0))
    expected = local**0.75 * shared**0.25 * (1 + 2.0 * 0.25 * 0.8)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    whole = explore(local, guidance, 2, jnp.float32(0.0), jnp.float32(2.0))
    np.testing.assert_allclose(whole, shared, rtol=1e-5)
    bonus_alone = guidance._replace(entropy_weight=np.zeros(3, np.float32))
    got = explore(local, bonus_alone, 1, jnp.float32(0.8), jnp.float32(2.0))
    np.testing.assert_array_equal(got, local * np.float32(1 + 2.0 * 0.25 * 0.8))


def test_no_stated_spread_leaves_the_bounds_of_the_receiver():
    """Five nats, or none, at full weight: wider only than own bounds and spread."""
    local = np.array([0.2, 2.0], np.float32)  # the second is wider than the bounds
    for entropy, bound in ((1e9, [0.6, 2.0]), (-1e9, [0.05, 0.1])):
        guidance = guide(np.zeros(1), 0.0, entropy, 1.0)
        got = explore(local, guidance, 0, jnp.float32(0.0), jnp.float32(1.0))
        np.testing.assert_allclose(got, bound, rtol=1e-5)
    # With the weight of the shipped market a lie of five nats widens by a few percent.
    lie = guide(np.zeros(1), 0.0, 10.0, 0.05 / 0.75)
    got = explore(local, lie, 0, jnp.float32(0.0), jnp.float32(1.0))
    np.testing.assert_allclose(got, [0.2 * 3.0 ** (0.05 / 0.75), 2.0], rtol=1e-5)


def test_exploration_std_is_bounded():
    local = np.array([1e-7, 123.456], np.float32)
    guidance = guide(np.zeros(1), 0.0, 0.0, 0.5)._replace(entropy_weight=jnp.zeros(1))
    got = explore(local, guidance, 0, jnp.float32(0.0), jnp.float32(1.0))
    np.testing.assert_allclose(got, [np.exp(-5.0), np.e], rtol=1e-5)


@pytest.mark.parametrize(
    ("trend", "bonus"), [(0.3, 0.8), (0.9, 1.0), (-0.9, 0.5), (0.0, 0.5)]
)
def test_rising_values_call_for_exploration(trend, bonus):
    local = np.array([0.2, 0.4], np.float32)
    risen = guide(np.zeros(2), 0.0, 0.1, 0.5, jnp.array([0.0, trend]))
    still = guide(np.zeros(2), 0.0, 0.1, 0.5)
    beta = jnp.float32(1.5)
    got = explore(local, risen, 1, jnp.float32(0.5), beta)
    wanted = explore(local, still, 1, jnp.float32(bonus), beta)
    if trend > 0:
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    else:
        np.testing.assert_array_equal(got, wanted)
    elsewhere = explore(local, risen, 0, jnp.float32(0.5), beta)
    np.testing.assert_array_equal(
        elsewhere, explore(local, still, 0, jnp.float32(0.5), beta)
    )


def test_a_network_without_messages_changes_no_bit():
    local = np.array([1e-7, 123.456], np.float32)  # beyond the clip on both sides
    guidance = guide(np.full(3, 1e30), 0.0, 1e9, 0.0, 1.0)
    got = explore(local, guidance, 1, jnp.float32(1.0), jnp.float32(9.0))
    np.testing.assert_array_equal(got, local)
    v = jnp.asarray(np.random.default_rng(0).normal(size=S), jnp.float32)
    unread = np.full(S, np.inf, np.float32)
    for use in {sharing.use for sharing in VALUE_SHARING.values()}:
        np.testing.assert_array_equal(used(v, unread, 0.0, use), v)
    cells = jnp.arange(S)
    ignored = guide(unread, 0.0)
    gamma = jnp.float32(0.9)
    np.testing.assert_array_equal(shaped(ignored, v, cells, cells, 0 * v + 1, gamma), v)
    np.testing.assert_array_equal(potential(ignored), 0.0)


def test_bootstrap_reads_the_cell_of_the_next_state():
    guidance = guide([10.0, 20.0, 30.0], jnp.array([0.0, 0.5, 1.0]))
    cells, v = jnp.array([2, 0, 1, 1]), jnp.array([1.0, 2.0, 3.0, 44.0])
    mix = jax.jit(lambda cells, v: bootstrap(guidance, cells)(v))
    np.testing.assert_allclose(mix(cells, v), [30.0, 2.0, 11.5, 32.0])
    top = jax.jit(lambda cells, v: bootstrap(guidance, cells, "max")(v))
    np.testing.assert_allclose(top(cells, v), [30.0, 2.0, 11.5, 44.0])
    for use in ("shaping", "none"):
        np.testing.assert_array_equal(bootstrap(guidance, cells, use)(v), v)


def test_shaped_reward_formula():
    guidance = guide([10.0, np.inf, 30.0], jnp.array([0.5, 0.0, 0.1]))
    np.testing.assert_allclose(potential(guidance), [5.0, 0.0, 3.0], rtol=1e-6)
    cells, following = jnp.array([0, 0, 1, 2, 1]), jnp.array([2, 2, 0, 1, 1])
    alive = jnp.array([1.0, 0.0, 1.0, 1.0, 1.0])
    reward = jnp.array([1.0, 1.0, 1.0, 1.0, 0.1])
    got = shaped(guidance, reward, cells, following, alive, jnp.float32(0.9))
    expected = [1 + 2.7 - 5, 1 - 5, 1 + 4.5, 1 - 3, 0.1]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got[4] == reward[4]
