"""The heterogeneity knob against scipy's scales, and what its ends promise."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments import calibration, heterogeneity, pricing_model
from p2p_sac_jax.environments.registry import make_world

SELLERS = calibration.select_population("brands", 16, newcomers=4)
MOVED = {
    name: leaf
    for name, leaf in SELLERS._asdict().items()
    if name not in ("store", "brand", "reference_ratio")
}


def logs(values):
    return np.log(np.asarray(values, np.float64))


def test_one_is_bit_identical():
    jax.tree.map(
        np.testing.assert_array_equal, heterogeneity.rescale(SELLERS, 1.0), SELLERS
    )
    worlds = [
        make_world(EnvironmentConfig(), PopulationConfig(peers=4, **changed))
        for changed in ({}, {"heterogeneity": 1.0})
    ]
    jax.tree.map(
        np.testing.assert_array_equal, *(world.params._asdict() for world in worlds)
    )


def test_zero_makes_all_alike_at_the_geometric_mean():
    alike = heterogeneity.rescale(SELLERS, 0.0)
    for name in MOVED:
        assert np.ptp(getattr(alike, name), axis=0).max() == 0.0, name
    np.testing.assert_allclose(
        alike.demand_noise[0], stats.gmean(SELLERS.demand_noise), rtol=1e-6
    )
    np.testing.assert_array_equal(alike.store, SELLERS.store)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_distances_from_the_mean_are_multiplied(factor):
    moved = heterogeneity.rescale(SELLERS, factor)
    scales = {
        "elasticity": lambda x: logs(-x - 1.0),
        "unit_cost": special.logit,
        "cost_vol": logs,
        "cost_persistence": lambda x: 0.5 * special.logit(0.5 + 0.5 * x),
        "rival_persistence": lambda x: 0.5 * special.logit(0.5 + 0.5 * x),
        "season_amplitude": logs,
        "cross_elasticity": logs,
        "rival_vol": logs,
        "demand_noise": logs,
        "context": np.asarray,
    }
    assert scales.keys() | {"season_phase"} == MOVED.keys()
    for name, scale in scales.items():
        before = scale(np.float64(getattr(SELLERS, name)))
        after = scale(np.float64(getattr(moved, name)))
        centre = before.mean(axis=0)
        np.testing.assert_allclose(
            after - centre, factor * (before - centre), atol=2e-4, err_msg=name
        )


def test_phases_move_around_the_circle():
    """Three phases on both sides of the seam at pi, their mean 0.1 beyond it."""
    mean, away = np.pi + 0.1, np.array([-0.3, 0.0, 0.3])
    phases = np.angle(np.exp(1j * (mean + away))).astype(np.float32)
    some = SELLERS._replace(**{name: leaf[:3] for name, leaf in MOVED.items()})
    moved = heterogeneity.rescale(some._replace(season_phase=phases), 2.0)
    expected = np.exp(1j * (mean + 2.0 * away))
    np.testing.assert_allclose(np.exp(1j * moved.season_phase), expected, atol=1e-5)
    assert (np.abs(moved.season_phase) <= np.float32(np.pi)).all()


@settings(deadline=None, max_examples=20)
@given(
    factor=st.floats(0.0, 2.0),
    population=st.sampled_from([("chain", 16), ("brands", 56), ("chain", 1)]),
)
def test_every_market_stays_a_valid_one(factor, population):
    sellers = calibration.select_population(*population)
    moved = heterogeneity.rescale(sellers, factor)
    params = pricing_model.make_pricing_params(EnvironmentConfig(), moved)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert (moved.elasticity < -1.0).all()
    assert (moved.season_amplitude > 0.0).all()
    assert (moved.demand_noise > 0.0).all()
    # Nobody overtakes anybody.
    order = np.argsort(sellers.elasticity, kind="stable")
    assert (np.diff(moved.elasticity[order]) >= 0.0).all()
