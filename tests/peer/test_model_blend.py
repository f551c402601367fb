"""The weight of the demand memory in the price: limits, averages, and use."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax import TrainConfig
from p2p_sac_jax.config import EnvironmentConfig, MemoryConfig, PopulationConfig
from p2p_sac_jax.demand.base import Posterior
from p2p_sac_jax.environments.observation import observation
from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.hyper import MemoryHyper
from p2p_sac_jax.peer.behaviour import blend_with_model, candidates_of, greedy_policy
from p2p_sac_jax.peer.context import make_peer_components
from p2p_sac_jax.peer.model_rollouts import model_blend_weight

CONFIG = TrainConfig()
WORLD = make_world(EnvironmentConfig(), PopulationConfig(peers=1))
COMPONENTS = make_peer_components(CONFIG, WORLD.environment)
PARAMS = jax.tree.map(lambda leaf: leaf[0], WORLD.params)
MEAN = jnp.array([0.2, 2.5, 0.4, 0.1, -0.2])
BELIEF = Posterior(MEAN, 0.1 * jnp.eye(5), jnp.asarray(0.2), 0.3 * jnp.eye(5))
OBS = observation(week=9, cost=0.7)
best_action = COMPONENTS.memory.best_action
OPTIONS = candidates_of(COMPONENTS, OBS, PARAMS)


def share_after(steps, model_blend_half_life, normalised_error=1.0):
    hyper = MemoryHyper(np.float32(1.0), np.float32(model_blend_half_life))
    return float(
        model_blend_weight(hyper, jnp.asarray(steps), jnp.asarray(normalised_error))
    )


@pytest.mark.parametrize("steps", [0, 7, 500])
def test_it_is_off_by_default(steps):
    assert share_after(steps, 0.0) == 0.0


def test_its_weight_halves_and_falls_with_its_error():
    assert share_after(0, 50.0) == 1.0
    assert share_after(50, 50.0) == pytest.approx(0.5)
    assert share_after(150, 50.0) == pytest.approx(0.25)
    assert share_after(50, 50.0, normalised_error=2.0) == pytest.approx(0.5)
    assert share_after(50, 50.0, normalised_error=8.0) == pytest.approx(0.125)


@pytest.mark.parametrize("mean", [-3.0, -0.4, 0.0, 1.1])
def test_a_memory_without_weight_changes_no_bit(mean):
    mean = jnp.array([mean])
    same = blend_with_model(COMPONENTS, mean, BELIEF, OPTIONS, jnp.zeros(()))
    np.testing.assert_array_equal(same, mean)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_actions_are_averaged(share):
    mean = jnp.array([-0.4])
    moved = blend_with_model(COMPONENTS, mean, BELIEF, OPTIONS, jnp.asarray(share))
    best = np.asarray(best_action(BELIEF, OPTIONS))
    expected = (1.0 - share) * np.tanh(-0.4) + share * best
    np.testing.assert_allclose(np.tanh(moved), expected, rtol=1e-5)


def test_a_price_at_the_end_of_the_range_stays_finite():
    dear = BELIEF._replace(mean=jnp.array([0.0, 0.5, 0.0, 0.0, 0.0]))
    assert float(best_action(dear, OPTIONS)[0]) == pytest.approx(1.0)
    moved = blend_with_model(COMPONENTS, jnp.array([20.0]), dear, OPTIONS, jnp.ones(()))
    assert np.isfinite(moved).all()
    assert float(jnp.tanh(moved)[0]) == pytest.approx(1.0, abs=2e-3)


def test_the_policy_asks_the_memory_in_evaluation_too():
    learner = COMPONENTS.sac.init(jax.random.key(0))

    def price(share):
        return greedy_policy(COMPONENTS, learner, BELIEF, jnp.asarray(share), PARAMS)(
            OBS
        )

    np.testing.assert_array_equal(
        price(0.0), jnp.tanh(COMPONENTS.sac.policy(learner, OBS)[0])
    )
    np.testing.assert_allclose(price(1.0), best_action(BELIEF, OPTIONS), atol=1e-5)


def test_without_a_memory_of_demand_there_is_no_blend():
    config = dataclasses.replace(CONFIG, memory=MemoryConfig(kind="bins"))
    components = make_peer_components(config, WORLD.environment)
    mean = jnp.array([0.3])
    assert blend_with_model(components, mean, None, OPTIONS, jnp.ones(())) is mean
