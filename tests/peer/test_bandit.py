"""The demand memory alone: Thompson's draws, the best price, and nothing learned."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.demand.base import Posterior
from p2p_sac_jax.environments.observation import observation
from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.context import (
    BANDIT,
    EVALUATE,
    MARKET,
    RESET,
    RoundContext,
    StepInputs,
    make_peer_components,
    step_keys,
    stream,
)
from p2p_sac_jax.peer.learning import pretrain_on_model
from p2p_sac_jax.peer.step import select_action
from p2p_sac_jax.types import Experience
from p2p_sac_jax.validation import validate
from tests.helpers.populations import assert_close, assert_identical, run, small_config
from tests.reference.market import HIGH, LOW

BANDIT_RUN = {"learner": "thompson", "arms": "memory,network"}
CONFIG = small_config(root=BANDIT_RUN, exchange={"value_sharing": "precision"})
WORLD = make_world(CONFIG.environment, CONFIG.population)
COMPONENTS = make_peer_components(CONFIG, WORLD.environment)
MEMORY, NETWORK = range(2)
PEER, WEEKS = 2, 8
PARAMS = jax.tree.map(lambda leaf: jnp.asarray(leaf[PEER]), WORLD.params)
SPACING = np.log(1.5) / 20  # of the candidates' log prices


def belief(mean, factor):
    return Posterior(mean, factor @ factor.T, jnp.asarray(0.2), factor)


def best_price(cost, slope):
    """Of exponential demand, within reach."""
    return np.clip(cost + 1.0 / slope, LOW, HIGH)


@functools.partial(jax.jit, static_argnames="count")
def draw_prices(state, obs, key, count):
    """[count] prices and distances of the behaviour policy in one state."""
    context = RoundContext(None, PARAMS, make_hyper(CONFIG), jnp.ones(()))
    peer = SimpleNamespace(obs=obs)  # nothing else of a peer is read

    def one(clock):
        inputs = StepInputs(state, context, step_keys(key, clock), clock)
        return select_action(COMPONENTS, peer, inputs)

    action, away = jax.vmap(one)(jnp.arange(count))
    return jnp.exp(np.log(1.5) * action[:, 0]), away


@pytest.mark.parametrize("cost", [0.5, 0.8])
@pytest.mark.parametrize("slope", [0.4, 2.0, 5.0])
def test_the_greedy_price_is_the_closed_form_whatever_the_ignorance(cost, slope):
    obs = observation(week=9, cost=cost, rival_price=1.1)
    mean = jnp.array([0.3, slope, 0.4, 0.1, -0.2])
    for ignorance in (0.0, 1.0):
        policy = greedy_policy(
            COMPONENTS, None, belief(mean, ignorance * jnp.eye(5)), 0.0, PARAMS
        )
        price = np.exp(np.log(1.5) * float(policy(obs)[0]))
        assert abs(np.log(price / best_price(cost, slope))) < SPACING


def test_prices_are_drawn_as_often_as_they_are_best():
    rng, count = np.random.default_rng(0), 4096
    mean, factor = np.array([0.0, 2.5, 0.0, 0.0, 0.0]), np.tri(5) * 0.4
    obs = observation(week=30, cost=0.7)
    found = belief(jnp.float32(mean), jnp.float32(factor))
    price, away = draw_prices(found, obs, jax.random.key(3), count)
    slope = (mean + rng.normal(size=(100_000, 5)) @ factor.T)[:, 1]
    expected = best_price(0.7, np.maximum(slope, 0.5))
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(
        np.log(np.quantile(price, levels)),
        np.log(np.quantile(expected, levels)),
        atol=1.5 * SPACING,
    )
    greedy = best_price(0.7, 2.5)
    np.testing.assert_allclose(
        np.log(1.5) * away, np.abs(np.log(price / greedy)), atol=SPACING
    )


@pytest.fixture(scope="module")
def finished():
    """Both arms of four stores after eight weeks."""
    validate(CONFIG)
    return run(CONFIG, chunks=WEEKS // CONFIG.evaluate_every)


@jax.jit
def week(key, world, obs, memory, clock):
    """One week of a bandit, written down once more."""
    model = WORLD.environment.demand
    state = COMPONENTS.memory.posterior(memory, COMPONENTS.memory.base_prior.prior)
    options = model.candidates(obs, PARAMS)
    draw = jax.random.normal(stream(key, BANDIT, clock), (1, 5))[0]
    theta = state.mean + state.factor @ draw
    theta = theta.at[1].set(jnp.maximum(theta[1], 0.5))
    profit = options.gain * jnp.exp(options.features @ theta)
    action = options.actions[jnp.argmax(profit)]
    step = WORLD.environment.step(stream(key, MARKET, clock), world, action, PARAMS)
    seen = Experience(
        model.features(obs, action), step.info.log_sales, action, step.reward, 0
    )
    memory = COMPONENTS.memory.update(memory, seen, jnp.ones(()), jnp.ones(()))
    return step.state, step.obs, memory, step.info.price


def test_a_peer_alone_is_a_plain_loop(finished):
    key = jax.random.fold_in(jax.random.key(0), PEER)
    world, obs = WORLD.environment.reset(stream(key, RESET, 0), PARAMS)
    memory, prices = COMPONENTS.memory.init(), []
    for clock in range(WEEKS):
        world, obs, memory, price = week(key, world, obs, memory, clock)
        prices.append(price)
    paid = [
        metrics.peer.info.price[:, PEER, MEMORY].ravel() for metrics in finished.metrics
    ]
    np.testing.assert_allclose(np.concatenate(paid), prices, rtol=1e-5)
    state = jax.tree.map(lambda leaf: leaf[PEER, MEMORY], finished.state)
    assert_close(state.memory, memory, 1e-4)
    acts_on = COMPONENTS.memory.posterior(memory, COMPONENTS.memory.base_prior.prior)
    assert_close(state.belief, acts_on, 1e-3)


def test_the_network_changes_what_a_peer_believes_and_nothing_else(finished):
    last = finished.metrics[-1]
    assert not np.asarray(last.peer.value_weight).any()
    assert not np.asarray(last.peer.std_weight).any()
    assert (np.asarray(last.exchange.has_prior)[..., NETWORK] == 1.0).all()
    spread = np.trace(finished.state.belief.covariance, axis1=-2, axis2=-1)
    assert (spread[:, NETWORK] < spread[:, MEMORY]).all()


def test_it_sends_what_it_has_seen_and_nothing_of_values(finished):
    setup, clock = finished.setup, jnp.asarray(WEEKS)
    local_summary = jax.jit(setup.population.local_summary)
    summary = local_summary(finished.state, setup.peer_inputs, setup.run_inputs, clock)
    week_s = CONFIG.environment.seconds_per_step
    unstamped = summary.insight._replace(
        timestamp=summary.insight.timestamp - 7 * week_s
    )
    assert all(leaf.shape[2] == 1 for leaf in summary.insight)
    assert not any(np.asarray(leaf).any() for leaf in unstamped)
    assert (np.asarray(summary.demand.count) == WEEKS).all()
    # Ten numbers beside the demand statistics go to three neighbours, twice a chunk.
    size = 4 * (5 * 5 + 5 + 1 + 10)
    sent = np.asarray(finished.metrics[-1].traffic.bytes_received)[..., NETWORK]
    np.testing.assert_array_equal(sent, np.full((2, 4), 3 * size))


def test_nothing_is_learned_by_gradient(finished):
    setup = finished.setup
    start = finished.programs.init(setup.peer_inputs, setup.run_inputs)
    assert_identical(finished.state.learner, start.learner)
    assert not any(np.asarray(leaf).any() for leaf in finished.metrics[-1].peer.learner)
    assert not np.asarray(finished.metrics[-1].peer.model_rollout_fraction).any()
    learner = start.learner
    assert pretrain_on_model(COMPONENTS, learner, None, None, None, None) is learner


def test_it_is_evaluated_at_the_best_price_under_its_belief(finished):
    """Against the closed form, which names prices between the candidates too."""
    setup = finished.setup
    evaluate = jax.jit(setup.population.evaluate)
    clock = jnp.asarray(WEEKS)
    score = evaluate(finished.state, setup.peer_inputs, setup.run_inputs, clock).score
    step = jax.jit(WORLD.environment.step)
    key = jax.random.fold_in(jax.random.key(0), PEER)
    for arm in (MEMORY, NETWORK):
        slope = float(finished.state.belief.mean[PEER, arm, 1])
        world, obs = WORLD.environment.reset(stream(key, EVALUATE, 0), PARAMS)
        achieved = []
        for number in range(1, 1 + CONFIG.evaluation_weeks):
            price = best_price(float(obs[2]) / 4.0 + 0.7, slope)
            action = jnp.array([np.log(price) / np.log(1.5)], jnp.float32)
            result = step(stream(key, EVALUATE, number), world, action, PARAMS)
            world, obs = result.state, result.obs
            achieved.append(float(result.info.expected_profit))
        np.testing.assert_allclose(
            score.achieved[PEER, arm], np.mean(achieved), rtol=2e-3
        )


@pytest.mark.parametrize(
    ("sections", "start"),
    [
        (
            {"memory": {"kind": "bins"}},
            "learner='thompson' must be 'sac' with memory.kind='bins'",
        ),
        (
            {
                "environment": {"name": "lqr"},
                "memory": {"kind": "none"},
                "exploration": {"source": "policy"},
            },
            "learner='thompson' must be 'sac' with memory.kind='none'",
        ),
        (
            {"root": BANDIT_RUN | {"arms": TrainConfig().arms}},
            "arms='plain,memory,network' must leave out plain with learner='thompson'",
        ),
    ],
)
def test_what_a_bandit_cannot_do_is_refused(sections, start):
    with pytest.raises(ConfigError) as error:
        validate(small_config(**({"root": BANDIT_RUN} | sections)))
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)
