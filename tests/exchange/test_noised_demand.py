"""Demand coefficients that leave a peer: their noise, and what they still show."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from p2p_sac_jax.exchange.messages.base import Setting
from p2p_sac_jax.exchange.messages.noised_demand import (
    make_coefficients,
    make_noised_sums,
)
from p2p_sac_jax.privacy.clipping import SUM_SENSITIVITY
from p2p_sac_jax.privacy.noise import stream_coefficients
from tests.helpers.demand import base_prior
from tests.helpers.messages import (
    EXACT,
    PER_GROUP,
    A,
    F,
    K,
    build,
    make_message,
    message_inputs,
    settings,
    stack,
    statistics,
    weeks,
)
from tests.reference import bayes


@pytest.mark.parametrize("release", ["matrix", "independent"])
def test_demand_noise_is_the_mechanism_that_is_accounted_for(release):
    config = settings(release=release, demand_noise=0.7)
    noised = make_noised_sums(Setting(config, K, PER_GROUP, A, base_prior(F)))
    nothing = jax.tree.map(np.zeros_like, message_inputs().statistics)
    keys = jax.random.split(jax.random.key(0), 3000)
    rounds = np.array([0, 20], np.int32)
    over = jax.jit(jax.vmap(jax.vmap(noised, (None, None, 0)), (None, 0, None)))
    out = over(nothing, keys, rounds)
    out = jax.tree.map(np.asarray, out)
    np.testing.assert_allclose(out.sums, np.swapaxes(out.sums, -1, -2), atol=1e-4)
    draw = 0.7 * SUM_SENSITIVITY
    f = stream_coefficients(52)
    growth, factor, map_batch_size = [1.0, 1.0], 1.0, 0.0
    if release == "matrix":
        growth = [np.sqrt(np.sum(f[: t + 1] ** 2)) for t in rounds]
        factor = np.linalg.norm(f)
        # Both share the draw of round 0: B Bᵀ of the first and the later round.
        map_batch_size = f[0] * f[20] / (growth[0] * growth[1])
    diagonal = np.diagonal(out.sums, axis1=-2, axis2=-1)  # [keys, 2, F + 1]
    for t in range(2):
        expected = draw * factor * growth[t]
        np.testing.assert_allclose(out.std[:, t], expected, rtol=1e-5)
        np.testing.assert_allclose(diagonal[:, t].std(), expected, rtol=0.03)
        off = out.sums[:, t][
            :, np.triu_indices(F + 1, 1)[0], np.triu_indices(F + 1, 1)[1]
        ]
        np.testing.assert_allclose(off.std(), expected / np.sqrt(2), rtol=0.03)
    correlation = np.mean(diagonal[:, 0] * diagonal[:, 1]) / np.prod(
        diagonal.std((0, 2))
    )
    assert abs(correlation - map_batch_size) < 0.03


@pytest.mark.parametrize(("size", "noise"), [(5, 0.0), (5, 0.1), (5, 1.0), (6, 0.1)])
def test_coefficients_are_as_far_off_as_their_variance(size, noise):
    prior = base_prior(size)
    config = settings(demand_noise=noise)
    coefficients = make_coefficients(Setting(config, K, PER_GROUP, A, prior))
    rng = np.random.default_rng(size)
    peers, steps = 150, 60
    # Truths from the prior within the public box.
    theta = rng.normal(prior.mean, np.sqrt(np.diag(prior.covariance)), (600, size))
    rest = np.max(np.abs(np.delete(theta, 1, axis=1)), axis=1)
    theta = theta[(theta[:, 1] > 0.1) & (theta[:, 1] < 5.9) & (rest < 1.9)][:peers]
    x = np.stack([bayes.market_features(rng, steps, size) for _ in range(peers)])
    x[:, :, 1] *= 0.6
    if size == 6:
        x[:, :, 2] *= 0.5
    z = np.stack([bayes.log_sales(rng, *xt, 0.4) for xt in zip(x, theta, strict=True)])
    sums = stack([statistics(*rows) for rows in zip(x, z, strict=True)])
    keys = jax.random.split(jax.random.key(size), peers)
    over = jax.jit(jax.vmap(coefficients, (0, 0, None)))
    mean, variance, _ = jax.tree.map(np.asarray, over(sums, keys, np.int32(15)))
    square = np.mean((mean - theta) ** 2 / variance, axis=0)
    assert 0.5 < np.mean(square) < 1.5
    # The truths of the slope were cut at both ends.
    assert np.all((square > 0.3) & (square < 1.8))
    ratio = np.mean(variance, axis=0) / np.diag(prior.covariance)
    assert np.all(ratio <= 1)
    assert ratio[1] < {0.0: 0.1, 0.1: 0.5, 1.0: 1.0}[noise]


def test_without_noise_the_coefficients_are_the_regression():
    x, z = weeks(3, 200)
    x[:, 1] *= 0.6
    known = message_inputs(0)._replace(statistics=statistics(x, z))
    wire = make_message(build(mode="consortium", **EXACT), known)
    mean, covariance, _ = bayes.demand_posterior(
        x, z, np.ones(200), *base_prior(F).prior
    )
    np.testing.assert_allclose(wire.demand_mean, mean, atol=0.02)
    np.testing.assert_allclose(wire.demand_variance, np.diag(covariance), rtol=0.15)


def test_a_receiver_reads_the_posterior_back_out_of_the_message():
    known, prior = message_inputs(0), base_prior(F)
    mode = build(mode="consortium", **EXACT)
    wire = make_message(mode, known)
    demand = jax.tree.map(lambda x: np.asarray(x)[0], mode.decode(stack([wire])).demand)
    precision = np.diag(1 / np.diag(prior.covariance)) + demand.precision
    mean = np.linalg.solve(
        precision, prior.mean / np.diag(prior.covariance) + demand.shift
    )
    informed = np.diag(demand.precision) > 0
    assert informed[:2].all()
    np.testing.assert_allclose(mean[informed], wire.demand_mean[informed], atol=1e-3)
    np.testing.assert_allclose(1 / np.diag(precision), wire.demand_variance, rtol=2e-3)
    assert demand.count == 8
    young = known._replace(statistics=known.statistics._replace(n=np.float32(7)))
    empty = mode.decode(stack([make_message(mode, young)])).demand
    chex.assert_trees_all_equal(empty, jax.tree.map(np.zeros_like, empty))
