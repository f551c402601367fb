"""Theory of the network's values, held on random tabular MDPs to 1e-5.

Value iteration runs in float64 and bootstraps through the package's own functions,
one context cell for each state.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.exchange.aggregators import weighted_mean
from p2p_sac_jax.exchange.guidance import bootstrap, shaped_reward
from p2p_sac_jax.exchange.weights import annealing
from p2p_sac_jax.types import Guidance, Prior
from tests.reference import tabular

S, N, P, GAMMA = 6, 3, 4, 0.8
SOFT, HARD = 0.2, 0.0
SEEDS = st.integers(0, 10_000)
SHARES = st.floats(0.0, 1.0)
PRIOR = Prior(np.zeros(1, np.float32), np.ones((1, 1), np.float32))
CLOSE = 1e-5


def guide(value, weight):
    zeros = jnp.zeros_like(value)
    return Guidance(
        value=value,
        value_weight=zeros + weight,
        entropy=zeros,
        entropy_weight=zeros,
        std_weight=zeros,
        trend=zeros,
        prior=PRIOR,
        has_prior=jnp.float32(0.0),
    )


def used(v, value, weight, use):
    return bootstrap(guide(value, weight), jnp.arange(S), use)(v)


compiled = jax.jit(used, static_argnames="use")


def guided(mdp, network_value, w, use="mix", alpha=SOFT):
    """Fixed point of a learner that receives ``network_value`` [S], weight w."""
    network_value = np.broadcast_to(np.asarray(network_value, np.float32), (S,))
    weight = np.float32(w)
    return tabular.solve(
        mdp,
        GAMMA,
        alpha,
        lambda v: compiled(v.astype(np.float32), network_value, weight, use),
    )


def best(mdp, alpha=SOFT):
    q = tabular.solve(mdp, GAMMA, alpha)
    return q, tabular.soft_value(q, alpha)


def distance(x, y):
    return np.abs(x - y).max()


# --- Mixing.


@pytest.mark.parametrize("alpha", [SOFT, HARD])
@pytest.mark.parametrize("u", [-2.0, 3.0])
def test_constant_network_value_is_a_shorter_horizon(u, alpha):
    """SAC at discount γ(1-w), and the constant γwU/(1-γ(1-w)) on top."""
    w = 0.3
    mdp = tabular.random_mdp(np.random.default_rng(0), S, N)
    short = tabular.solve(mdp, GAMMA * (1 - w), alpha)
    lift = GAMMA * w * u / (1 - GAMMA * (1 - w))
    assert distance(guided(mdp, u, w, alpha=alpha), short + lift) < CLOSE


def test_where_episodes_end_constant_network_value_pays_for_survival():
    """The constant γwU is then earned in each step that goes on."""
    w, u = 0.3, 2.0
    mdp = tabular.random_mdp(np.random.default_rng(1), S, N, terminals=2)
    bonus = GAMMA * w * u * mdp.transition @ mdp.alive
    short = tabular.solve(mdp, GAMMA * (1 - w), SOFT, reward=mdp.reward + bonus)
    assert distance(guided(mdp, u, w), short) < CLOSE


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS, w=SHARES)
@pytest.mark.parametrize("use", ["mix", "max"])
def test_bias_is_bounded_by_the_error_of_the_network_value(use, seed, w):
    """‖Q_w - Q*‖ <= γw/(1-γ(1-w)) · ‖U - V*‖, of max only the excess (U - V*)+."""
    rng = np.random.default_rng(seed)
    mdp = tabular.random_mdp(rng, S, N, terminals=seed % 2)
    q, value = best(mdp)
    network_value = (value + rng.normal(size=S)).astype(np.float32)
    error = network_value - value if use == "max" else np.abs(network_value - value)
    bound = GAMMA * w / (1 - GAMMA * (1 - w)) * max(error.max(), 0.0)
    assert distance(guided(mdp, network_value, w, use), q) <= bound + CLOSE
    assert distance(guided(mdp, value, w, use), q) < CLOSE


@pytest.mark.parametrize("use", ["mix", "max"])
def test_the_bound_is_attained(use):
    """By network_value that is too high by a constant: the scale of w is 1-γ, not 1."""
    w, c = 0.3, 1.5
    mdp = tabular.random_mdp(np.random.default_rng(2), S, N)
    q, value = best(mdp)
    bias = GAMMA * w / (1 - GAMMA * (1 - w)) * c
    assert distance(guided(mdp, value + c, w, use), q + bias) < CLOSE


def test_annealed_network_value_leaves_no_bias():
    """w_t = w/(1 + (t/t0)²), as each round of learning weighs it."""
    mdp = tabular.random_mdp(np.random.default_rng(3), S, N)
    q, value = best(mdp)
    network_value = (value + 2.0).astype(np.float32)
    shares = 0.3 * np.asarray(annealing(jnp.arange(3000.0), jnp.float32(4.0)))
    got, gaps = np.zeros_like(q), []
    for w in shares.astype(np.float32):
        v = tabular.soft_value(got, SOFT).astype(np.float32)
        following = np.asarray(compiled(v, network_value, w, "mix"), np.float64)
        got = tabular.backup(mdp, GAMMA, following)
        gaps.append(distance(got, q))
    assert max(gaps[20:]) > 0.01
    assert gaps[-1] < CLOSE


# --- An upper envelope.


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS, w=SHARES)
def test_an_envelope_only_raises(seed, w):
    rng = np.random.default_rng(seed)
    mdp = tabular.random_mdp(rng, S, N)
    q, value = best(mdp)
    network_value = value + 2.0 * rng.normal(size=S)
    assert (guided(mdp, network_value, w, "max") >= q - CLOSE).all()
    lower = value - np.abs(rng.normal(size=S))
    assert distance(guided(mdp, lower, w, "max"), q) < CLOSE


# --- Shaping by a potential.


@jax.jit
def shape(reward, value, weight, discount):
    """Shaped rewards of every (s, a, s'), as one batch of transitions."""
    states, _, following = np.unravel_index(np.arange(S * N * S), (S, N, S))
    shaped = shaped_reward(
        guide(value, weight),
        reward.reshape(-1),
        jnp.asarray(states),
        jnp.asarray(following),
        discount.reshape(-1),
        jnp.float32(GAMMA),
    )
    return shaped.reshape(S, N, S)


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS)
@pytest.mark.parametrize("terminals", [0, 2])
def test_shaping_moves_values_by_the_potential_and_no_policy(terminals, seed):
    """Q = Q* - Φ for any Φ, at terminals included (Ng, Harada & Russell 1999)."""
    rng = np.random.default_rng(seed)
    mdp = tabular.random_mdp(rng, S, N, terminals)
    network_value = rng.normal(size=S).astype(np.float32)
    weight = (rng.uniform(size=S) * (rng.uniform(size=S) < 0.7)).astype(np.float32)
    full = (S, N, S)
    rewards = np.broadcast_to(mdp.reward[..., None], full).astype(np.float32)
    alive = np.broadcast_to(mdp.alive, full).astype(np.float32)
    shaped = np.asarray(shape(rewards, network_value, weight, alive), np.float64)
    expected = (mdp.transition * shaped).sum(axis=-1)
    for alpha in (SOFT, HARD):
        q, _ = best(mdp, alpha)
        got = tabular.solve(mdp, GAMMA, alpha, reward=expected)
        assert (
            distance(got, q - (weight * network_value).astype(np.float64)[:, None])
            < CLOSE
        )
        if alpha:
            policies = [tabular.soft_policy(x, alpha) for x in (got, q)]
            assert distance(*policies) < CLOSE / alpha
        else:
            np.testing.assert_array_equal(got.argmax(axis=1), q.argmax(axis=1))
    v = jnp.asarray(network_value)
    np.testing.assert_array_equal(compiled(v, v + 1.0, weight, "shaping"), v)


# --- Peers that learn from each other.


@jax.jit
def coupled_mix(v, W, w):
    """Each peer's values [P, S] mixed with its neighbours', by the package."""
    network_value, mass = weighted_mean(W, jnp.ones_like(v), v)
    weight = jnp.where(mass > 0.0, w, 0.0)
    return jax.vmap(lambda *x: used(*x, "mix"))(v, network_value, weight)


def coupled(mdps, W, w):
    """Fixed point of peers that bootstrap on each other, [P, S, N]."""
    q = np.zeros((len(mdps), S, N))
    for _ in range(120):
        v = tabular.soft_value(q, SOFT).astype(np.float32)
        following = np.asarray(coupled_mix(v, W, np.float32(w)), np.float64)
        q = np.stack(
            [tabular.backup(m, GAMMA, following[i]) for i, m in enumerate(mdps)]
        )
    return q


@settings(deadline=None, max_examples=5)
@given(seed=SEEDS, w=st.sampled_from([0.3, 1.0]))
def test_equal_peers_teach_each_other_without_bias(seed, w):
    rng = np.random.default_rng(seed)
    W = rng.dirichlet(np.ones(P), size=P).astype(np.float32)
    mdp = tabular.random_mdp(rng, S, N, terminals=seed % 2)
    q, _ = best(mdp)
    assert distance(coupled([mdp] * P, W, w), q[None]) < CLOSE


@settings(deadline=None, max_examples=5)
@given(seed=SEEDS, w=st.sampled_from([0.3, 1.0]))
def test_unequal_peers_are_biased_by_how_far_they_are_apart(seed, w):
    """At most γw/(1-γ) · max_i Σ_j W_ij ‖V_j* - V_i*‖, and not at all alone."""
    rng = np.random.default_rng(seed)
    W = rng.dirichlet(np.ones(P), size=P).astype(np.float32)
    mdps = [tabular.random_mdp(rng, S, N) for _ in range(P)]
    values = np.stack([best(mdp)[1] for mdp in mdps])
    apart = np.abs(values[:, None] - values[None]).max(axis=-1)
    bound = GAMMA * w / (1 - GAMMA) * (W * apart).sum(axis=1).max()
    map_batch_size = tabular.soft_value(coupled(mdps, W, w), SOFT)
    assert 1e-3 < distance(map_batch_size, values) <= bound + CLOSE
    alone = tabular.soft_value(coupled(mdps, 0.0 * W, w), SOFT)
    assert distance(alone, values) < CLOSE
