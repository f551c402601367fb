"""A demand model of seven coefficients runs through network, privacy and agent."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p2p_sac_jax.agent.price_history import PriceHistory
from p2p_sac_jax.agent.price_memory import P2PPriceMemory
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.metrics import chunk_rows
from tests.helpers.populations import placement, run, small_config
from tests.helpers.promotions import EFFECTS, promotion_world

MODES = ("private", "consortium", "public")


def config_of(mode):
    return small_config(
        root={"arms": "network", "steps": 8},
        exchange={"mode": mode},
        privacy={"min_weeks": 2, "demand_noise": 0.1, "value_noise": 0.1},
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=[] if mode == "public" else pytest.mark.thorough)
        for mode in MODES
    ],
)
def test_seven_coefficients_train_in_every_mode(mode):
    config = config_of(mode)
    setup = build_experiment(
        config, placement(config, "vmap", 1), promotion_world(config)
    )
    done = run(config, setup=setup)
    chex.assert_shape(done.state.belief.mean, (4, 1, 7))
    chex.assert_shape(done.state.memory.G, (4, 1, 7, 7))
    peer = done.metrics[-1].peer
    chex.assert_tree_all_finite((peer.learner, peer.belief, done.state.belief))
    assert np.all(np.asarray(done.metrics[-1].exchange.has_prior) == 1.0)
    evaluation = jax.jit(setup.population.evaluate)(
        done.state, setup.peer_inputs, setup.run_inputs, jnp.asarray(8)
    )
    rows = chunk_rows(setup, 8, done.metrics[-1], evaluation, done.state.trust)
    slope = done.state.belief.mean[0, 0, 1]
    shown = next(row["demand_slope"] for row in rows if row.get("peer") == 0)
    assert abs(shown - slope) < 2.0  # before and after the last step


def test_the_agents_memory_learns_the_controls():
    config = small_config()
    world = promotion_world(config)
    environment = world.environment
    params = jax.tree.map(lambda leaf: leaf[0], world.params)
    step = jax.jit(environment.step)
    state, obs = environment.reset(jax.random.key(0), params)
    rng, rows = np.random.default_rng(0), ([], [], [])
    for week in range(104):
        action = rng.uniform(-0.5, 0.5, 1).astype(np.float32)
        rows[0].append(np.asarray(obs))
        done = step(jax.random.key(1 + week), state, action, params)
        rows[1].append(float(done.info.price))
        rows[2].append(float(np.exp(done.info.log_sales)))
        state, obs = done.state, done.obs
    memory = P2PPriceMemory(
        PriceHistory(*(np.asarray(column) for column in rows)),
        None,
        config,
        environment=environment,
        params=params,
    )
    belief = memory._belief()
    np.testing.assert_allclose(belief.mean[5:], EFFECTS, atol=0.2)
    assert len(memory.get_promising_regions(rows[0][0])) == 3
