"""Imagined prices and exploration, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import (
    EXPLORATION_SOURCES,
    EnvironmentConfig,
    ModelRolloutsConfig,
    TrainConfig,
)
from p2p_sac_jax.demand.base import Posterior
from p2p_sac_jax.demand.posterior import make_demand_memory
from p2p_sac_jax.environments.calibration import select_population
from p2p_sac_jax.environments.pricing import make_pricing, make_pricing_params
from p2p_sac_jax.hyper import ExplorationHyper, make_hyper
from p2p_sac_jax.peer.behaviour import local_std
from p2p_sac_jax.peer.model_rollouts import (
    BelievedMarket,
    mix_model_rollouts,
    model_rollout,
    model_rollout_share,
    pretrain_rows,
)
from p2p_sac_jax.types import Experience, Transition

CONFIG = EnvironmentConfig()
MODEL = make_pricing(CONFIG).demand
MEMORY = make_demand_memory(MODEL.coefficients).model
PARAMS = jax.tree.map(
    lambda leaf: leaf[0], make_pricing_params(CONFIG, select_population("chain", 2))
)
ROWS = 4096


def belief(spread):
    """Slope 3 at the usual price, and a common sd of all coefficients."""
    mean = jnp.array([0.1, 3.0, 0.2, 0.0, 0.0])
    covariance = jnp.eye(5) * spread**2
    return Posterior(mean, covariance, jnp.asarray(0.2), jnp.eye(5) * spread)


def market(spread):
    return BelievedMarket(MODEL, MEMORY, belief(spread), PARAMS)


@pytest.fixture(scope="module")
def weeks():
    """Real-looking weeks at the status quo, with a demand shock of .3."""
    keys = jax.random.split(jax.random.key(1), ROWS)
    rows = jax.jit(jax.vmap(MODEL.exogenous, (0, None)))(keys, PARAMS)
    return rows._replace(next_obs=rows.next_obs.at[:, 6].set(0.5 * 0.3))


def price_of(rows):
    return np.exp(np.log(1.5) * np.asarray(rows.action)[:, 0])


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_imagined_rewards_are_the_mean_demand_whatever_the_ignorance(weeks, spread):
    @jax.jit
    def run(rows, key):
        return model_rollout(market(spread), rows, jnp.zeros(ROWS), key)

    imagined = run(weeks, jax.random.key(2))
    price, obs = price_of(imagined), np.asarray(weeks.obs)
    assert price.min() < 0.67
    assert price.max() > 1.49
    cost = obs[:, 2] / 4 + 0.7
    log_mean = 0.1 - 3.0 * (price - 1) + 0.2 * obs[:, 3] / 4
    expected = (price - cost) / (1 - float(PARAMS.unit_cost)) * np.exp(log_mean)
    reward = np.asarray(imagined.reward)
    if spread == 0.0:
        np.testing.assert_allclose(reward, expected, rtol=1e-3, atol=1e-4)
        # The week's shock stays: log demand of the next observation is the mean + .3.
        shown = np.asarray(imagined.next_obs)[:, 6]
        np.testing.assert_allclose(
            shown, 0.5 * np.clip(log_mean + 0.3, -3, 3), atol=1e-4
        )
    else:
        assert np.std(reward - expected) > 0.1
        assert np.mean(reward - expected) == pytest.approx(0.0, abs=0.03)


def test_every_batch_holds_the_share_and_share_zero_changes_nothing(weeks):
    @jax.jit
    def mix(share):
        key = jax.random.key(3)
        return mix_model_rollouts(market(0.1), weeks, share, 64, key)

    mixed = mix(jnp.asarray(0.75))
    changed = np.asarray(mixed.action)[:, 0] != 0.0
    assert (changed.reshape(-1, 64).sum(axis=1) == 48).all()
    untouched = mix(jnp.zeros(()))
    assert isinstance(untouched, Transition)
    jax.tree.map(np.testing.assert_array_equal, untouched, weeks)


def test_pretraining_has_no_shock_but_the_belief(weeks):
    del weeks
    rows = jax.jit(lambda key: pretrain_rows(market(0.0), 256, key))(jax.random.key(4))
    log_mean = 0.1 - 3.0 * (price_of(rows) - 1) + 0.2 * np.asarray(rows.obs)[:, 3] / 4
    shown = np.asarray(rows.next_obs)[:, 6]
    np.testing.assert_allclose(shown, 0.5 * np.clip(log_mean, -3, 3), atol=1e-4)


@pytest.mark.parametrize(
    ("anneal", "steps", "normalised_error", "share"),
    [
        (0.0, 500, 1.0, 0.9),
        (0.0, 500, 2.0, 0.9),  # a calibrated memory is trusted
        (0.0, 500, 8.0, 0.9 / 4),  # one that errs gives way in proportion
        (100.0, 0, 1.0, 0.9),
        (100.0, 100, 1.0, 0.45),
        (100.0, 300, 4.0, 0.9 / 8),
    ],
)
def test_the_share_falls_with_own_steps_and_with_the_error(
    anneal, steps, normalised_error, share
):
    config = TrainConfig(
        model_rollouts=ModelRolloutsConfig(fraction=0.9, half_life=anneal)
    )
    hyper = make_hyper(config).model_rollouts
    found = model_rollout_share(
        hyper, jnp.asarray(steps), jnp.asarray(normalised_error)
    )
    np.testing.assert_allclose(found, share, rtol=1e-6)


def test_the_error_is_in_units_of_the_spread():
    state = belief(0.1)
    x = np.array([1.0, 0.2, 0.1, 1.0, 0.0], np.float32)
    mean = float(np.asarray(state.mean) @ x) - 0.1  # the noise's mean correction
    spread = 0.01 * float(x @ x) + 0.2
    for error in (0.0, 0.5, -1.0):
        happened = Experience(
            jnp.asarray(x), jnp.float32(mean + error), jnp.zeros(1), jnp.zeros(()), 0
        )
        found = MEMORY.prediction_error(state, happened)
        np.testing.assert_allclose(found, error**2 / spread, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "remembered", "expected"),
    [
        ("memory", 0.01, 0.05),
        ("memory", 0.1, 0.1),
        ("memory", 0.9, 0.15),
        ("fixed", 0.1, 0.15),
    ],
)
def test_spread_in_action_units_is_divided_by_the_slope(source, remembered, expected):
    hyper = _exploration(source)
    for mean in (0.0, 0.8):
        std = local_std(
            hyper, jnp.array([mean]), jnp.array([-1.0]), jnp.asarray(remembered)
        )
        np.testing.assert_allclose(
            std, [expected / (1 - np.tanh(mean) ** 2)], rtol=1e-5
        )
    saturated = local_std(
        hyper, jnp.array([9.0]), jnp.array([-1.0]), jnp.asarray(remembered)
    )
    np.testing.assert_allclose(saturated, [expected / 0.1], rtol=1e-5)


def test_the_policy_may_explore_by_itself():
    std = local_std(
        _exploration("policy"), jnp.array([0.3]), jnp.array([-1.0]), jnp.asarray(0.1)
    )
    np.testing.assert_allclose(std, [np.exp(-1.0)], rtol=1e-6)


def _exploration(source):
    index = float(EXPLORATION_SOURCES.index(source))
    return ExplorationHyper(*(jnp.asarray(v) for v in (index, 0.15, 0.05, 1.0)))
