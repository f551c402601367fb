"""Guidance: exploration, bootstrap, and the theory of the mix on tabular MDPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.exchange.aggregation import weighted_mean
from p2p_sac_jax.exchange.guidance import bootstrap, exploration_std, network_std
from p2p_sac_jax.types import Guidance, Prior
from tests.reference import exchange as reference

S, N, ALPHA, GAMMA = 6, 3, 0.2, 0.8
PRIOR = Prior(np.zeros(1, np.float32), np.ones((1, 1), np.float32))
explore = jax.jit(exploration_std, static_argnums=5)


def guide(value, value_weight, entropy=None, std_weight=None):
    value = jnp.asarray(value, jnp.float32)
    zeros = jnp.zeros_like(value)
    return Guidance(
        value=value,
        value_weight=zeros + value_weight,
        entropy=zeros if entropy is None else zeros + entropy,
        std_weight=zeros if std_weight is None else zeros + std_weight,
        prior=PRIOR,
        has_prior=jnp.float32(0.0),
    )


@jax.jit
def mixed(v, value, weight):
    return bootstrap(guide(value, weight), jnp.arange(v.shape[-1]))(v)


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
    entropy = 2 * (np.log(shared) + 0.5 * np.log(2 * np.pi * np.e))
    guidance = guide(np.zeros(3), 0.0, entropy, np.array([0.0, 0.25, 1.0]))
    got = explore(local, guidance, 1, jnp.float32(0.8), jnp.float32(2.0), 2)
    expected = (0.75 * local + 0.25 * shared) * (1 + 2.0 * 0.25 * 0.8)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    whole = explore(local, guidance, 2, jnp.float32(0.0), jnp.float32(2.0), 2)
    np.testing.assert_allclose(whole, shared, rtol=1e-5)


@pytest.mark.parametrize(("entropy", "bound"), [(1e9, np.e), (-1e9, np.exp(-5.0))])
def test_exploration_std_is_bounded(entropy, bound):
    guidance = guide(np.zeros(1), 0.0, entropy, 1.0)
    local = np.array([0.2, 0.4], np.float32)
    got = explore(local, guidance, 0, jnp.float32(1.0), jnp.float32(1.0), 2)
    np.testing.assert_allclose(got, bound, rtol=1e-5)


def test_silent_network_changes_no_bit():
    local = np.array([1e-7, 123.456], np.float32)  # beyond the clip on both sides
    guidance = guide(np.full(3, 1e30), 0.0, 1e9, 0.0)
    got = explore(local, guidance, 1, jnp.float32(1.0), jnp.float32(9.0), 2)
    np.testing.assert_array_equal(got, local)
    v = jnp.asarray(np.random.default_rng(0).normal(size=S), jnp.float32)
    unread = np.full(S, np.inf, np.float32)
    np.testing.assert_array_equal(mixed(v, unread, 0.0), v)


def test_bootstrap_reads_the_cell_of_the_next_state():
    guidance = guide([10.0, 20.0, 30.0], jnp.array([0.0, 0.5, 1.0]))
    mix = jax.jit(lambda cells, v: bootstrap(guidance, cells)(v))
    got = mix(jnp.array([2, 0, 1, 1]), jnp.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(got, [30.0, 2.0, 11.5, 12.0])


# --- Theory of the mix on random soft MDPs, driven by the package's bootstrap.


def solve(mdp, u=0.0, w=0.0):
    value = np.broadcast_to(np.float32(u), (S,))
    return reference.soft_iteration(
        *mdp, GAMMA, ALPHA, lambda v: mixed(v.astype(np.float32), value, np.float32(w))
    )


@pytest.mark.parametrize("u", [-2.0, 3.0])
def test_constant_value_is_a_shorter_horizon(u):
    """SAC at discount γ(1-w) on rewards raised by the constant γwU."""
    w = 0.3
    transition, reward = reference.soft_mdp(np.random.default_rng(0), S, N)
    short = reference.soft_iteration(transition, reward, GAMMA * (1 - w), ALPHA)
    lift = GAMMA * w * u / (1 - GAMMA * (1 - w))
    np.testing.assert_allclose(
        solve((transition, reward), u, w), short + lift, atol=1e-5
    )


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), w=st.floats(0.0, 1.0))
def test_bias_is_bounded_by_the_error_of_the_advice(seed, w):
    """‖Q_w - Q*‖ ≤ γw/(1-γ(1-w)) · ‖U - V*‖."""
    rng = np.random.default_rng(seed)
    mdp = reference.soft_mdp(rng, S, N)
    best = reference.soft_iteration(*mdp, GAMMA, ALPHA)
    value = reference.soft_value(best, ALPHA)
    advice = (value + rng.normal(size=S)).astype(np.float32)
    bias = np.abs(solve(mdp, advice, w) - best).max()
    bound = GAMMA * w / (1 - GAMMA * (1 - w)) * np.abs(advice - value).max()
    assert bias <= bound + 1e-5
    np.testing.assert_allclose(solve(mdp, value, w), best, atol=1e-5)


@jax.jit
def coupled_mix(v, W, w):
    """Each peer's [P, S] values mixed with its neighbours', by the package."""
    advice, mass = weighted_mean(W, jnp.ones_like(v), v)
    weight = jnp.where(mass > 0.0, w, 0.0)
    return jax.vmap(mixed)(v, advice, weight)


def coupled(transitions, rewards, W, w):
    """Fixed point of P peers that bootstrap on each other, [P, S, N]."""
    q = np.zeros(rewards.shape)
    for _ in range(120):
        v = reference.soft_value(q, ALPHA).astype(np.float32)
        following = np.asarray(coupled_mix(v, W, np.float32(w)), np.float64)
        q = rewards + GAMMA * np.einsum("psnt,pt->psn", transitions, following)
    return q


@pytest.mark.parametrize("w", [0.3, 1.0])
def test_coupled_peers(w):
    """Equal peers: no bias. Unequal: at most γw/(1-γ)·max Σ W ‖V_j* - V_i*‖."""
    rng = np.random.default_rng(1)
    peers = 4
    W = rng.dirichlet(np.ones(peers), size=peers).astype(np.float32)
    transition, reward = reference.soft_mdp(rng, S, N)
    equal = np.repeat(reward[None], peers, 0)
    shared = np.repeat(transition[None], peers, 0)
    best = reference.soft_iteration(transition, reward, GAMMA, ALPHA)
    np.testing.assert_allclose(
        coupled(shared, equal, W, w), np.repeat(best[None], peers, 0), atol=1e-5
    )
    mdps = [reference.soft_mdp(rng, S, N) for _ in range(peers)]
    transitions, rewards = (np.stack(x) for x in zip(*mdps, strict=True))
    alone = np.stack([reference.soft_iteration(*m, GAMMA, ALPHA) for m in mdps])
    values = reference.soft_value(alone, ALPHA)
    apart = np.abs(values[:, None] - values[None]).max(axis=-1)
    bound = GAMMA * w / (1 - GAMMA) * (W * apart).sum(axis=1).max()
    together = reference.soft_value(coupled(transitions, rewards, W, w), ALPHA)
    bias = np.abs(together - values).max()
    assert 1e-3 < bias <= bound + 1e-5
