"""Every seed trains the stores that it draws."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.provenance import describe_run
from tests.helpers.populations import placement, run, small_config


def _config(draw, **changed):
    population = dataclasses.replace(small_config().population, draw=draw)
    return dataclasses.replace(small_config(), population=population, **changed)


def _of_peer(world, peer):
    return jax.tree.map(lambda leaf: leaf[peer], world.params)


def test_each_run_has_the_stores_of_its_seed():
    config = _config("random", seed=3, seeds=2, arms="memory,network")
    where = placement(config, "vmap")
    setup = build_experiment(config, where)
    for index, (_, seed) in enumerate(setup.labels):
        world = make_world(config.environment, config.population, seed)
        assert setup.worlds[seed].names == world.names
        for peer in range(config.population.peers):
            chex.assert_trees_all_equal(
                setup.params(peer, index), _of_peer(world, peer)
            )
    assert setup.worlds[3].names != setup.worlds[4].names
    peers = describe_run(setup, where)["peers"]
    assert [row["names"][4] for row in peers] == setup.worlds[4].names


def test_quantiles_are_the_same_stores_at_every_seed():
    config = _config("quantiles", seed=3, seeds=2)
    setup = build_experiment(config, placement(config, "vmap"))
    assert setup.worlds[3] is setup.worlds[4]
    peer = setup.params(1, 0)
    chex.assert_trees_all_equal(peer, setup.params(1, len(setup.labels) - 1))


@pytest.mark.thorough
def test_seeds_side_by_side_act_in_the_markets_of_seeds_alone():
    """The oracle's prices and profits depend on market and noise alone."""
    config = _config("random", seed=3, seeds=2, arms="memory")
    together = run(config, chunks=1).metrics[0].peer
    for index, seed in enumerate((3, 4)):
        alone = _config("quantiles", seed=seed, seeds=1, arms="memory")
        world = make_world(config.environment, config.population, seed)
        setup = build_experiment(alone, placement(alone, "vmap"), world)
        reported = run(alone, setup=setup, chunks=1).metrics[0].peer
        for name in ("oracle_price", "oracle_profit", "cost"):
            both = np.asarray(getattr(together.info, name))[:, :, index]
            one = np.asarray(getattr(reported.info, name))[:, :, 0]
            np.testing.assert_allclose(both, one, rtol=1e-5)
