"""Screening of demand: far curves are left out, honest ones mostly are not."""

import jax
import numpy as np
import pytest

from p2p_sac_jax.exchange import screening
from p2p_sac_jax.exchange.aggregators import AGGREGATORS
from p2p_sac_jax.types import DemandSummary
from tests.helpers.demand import base_prior
from tests.reference import bayes
from tests.reference import robust as reference

PEERS, BYZANTINE, F = 10, 3, 5
BASE = base_prior(F)
SPREAD = bayes.SPREAD[[0, 1, 3, 4, 5]]
CENTRE = np.array([0.0, 2.2, 0.2, 0.05, -0.05])
TOLERATED = 0.34
screen = jax.jit(screening.screen_demand, static_argnums=(4, 5))
EDGE = (1.0 - np.eye(PEERS)).astype(np.float32)


def population(seed, peers=PEERS, noise=0.35):
    """Own data of peers that differ by the guessed spread."""
    rng = np.random.default_rng(seed)
    S, b, n = [], [], []
    for _ in range(peers):
        theta = (
            np.array([0.0, 2.2, 0.2, 0.05, -0.05]) + rng.normal(size=F) * SPREAD**0.5
        )
        steps = int(rng.integers(3, 105))
        x = bayes.market_features(rng, steps).astype(float)
        z = bayes.log_sales(rng, x, theta, noise)
        S.append(x.T @ x / noise**2)
        b.append(x.T @ z / noise**2 + (x.T @ x)[:, 0] / 2)
        n.append(steps)
    return DemandSummary(*(np.array(leaf, np.float32) for leaf in (S, b, n)))


def theta_of(summaries):
    """Posterior means under the base prior."""
    P0 = np.linalg.inv(BASE.covariance.astype(float))
    return np.array(
        [
            np.linalg.solve(P0 + S, P0 @ BASE.mean + b)
            for S, b in zip(summaries.precision, summaries.shift, strict=True)
        ]
    )


def attacked(summaries, kind, seed=0):
    """The last few send other coefficients, with the mean precision of the honest."""
    rng = np.random.default_rng(seed)
    theta, honest = theta_of(summaries), slice(0, PEERS - BYZANTINE)
    mean, std = theta[honest].mean(axis=0), theta[honest].std(axis=0)
    S, b = np.array(summaries.precision), np.array(summaries.shift)
    for j in range(PEERS - BYZANTINE, PEERS):
        wanted = {
            "sign_flip": -theta[j],
            "gaussian": mean + 10.0 * std * rng.normal(size=F),
            "alie": mean - 0.5 * std,
            "far": np.full(F, 1e6),
        }[kind]
        S[j] = S[honest].mean(axis=0)
        b[j] = S[j] @ wanted
    return summaries._replace(precision=S, shift=b.astype(np.float32))


def kept(kind, aggregator, populations=20):
    """Shares of the honest and of the byzantine that the honest keep."""
    honest, byzantine_peers = (
        slice(0, PEERS - BYZANTINE),
        slice(PEERS - BYZANTINE, PEERS),
    )
    shares = []
    for seed in range(populations):
        sent = attacked(population(seed), kind, seed)
        out = np.asarray(screen(EDGE, sent, sent, BASE, aggregator, TOLERATED))
        pairs = EDGE[honest, honest].sum()
        shares.append(
            (out[honest, honest].sum() / pairs, out[honest, byzantine_peers].mean())
        )
    return np.mean(shares, axis=0)


@pytest.mark.parametrize("kind", ["sign_flip", "gaussian", "alie", "far"])
def test_the_honest_stay_and_far_byzantine_peers_go(kind):
    honest, byzantine_peers = kept(kind, "median")
    assert honest > 0.9
    if kind != "alie":  # which hides among the honest
        assert byzantine_peers < 0.2


@pytest.mark.parametrize("aggregator", sorted(set(AGGREGATORS) - {"mean"}))
def test_any_robust_centre_will_do(aggregator):
    honest, byzantine_peers = kept("far", aggregator, populations=5)
    assert honest > 0.85
    assert byzantine_peers == 0.0


def test_among_the_honest_nearly_all_stay():
    shares = []
    for seed in range(20):
        sent = population(seed)
        out = screen(EDGE, sent, sent, BASE, "median", TOLERATED)
        shares.append(np.asarray(out).sum() / EDGE.sum())
    assert np.mean(shares) > 0.93


@pytest.mark.parametrize("kind", ["sign_flip", "gaussian", "alie"])
def test_matches_the_loops(kind):
    rng = np.random.default_rng(3)
    edge = rng.uniform(0.2, 1.0, (2, PEERS)) * (rng.uniform(size=(2, PEERS)) < 0.8)
    sent = attacked(population(3), kind)
    own = DemandSummary(*(leaf[:2] for leaf in sent))
    got = np.asarray(
        screen(edge.astype(np.float32), sent, own, BASE, "median", TOLERATED)
    )
    theta = theta_of(sent) / np.sqrt(SPREAD)
    for i in range(2):
        centre = [reference.weighted_median(theta[:, f], edge[i]) for f in range(F)]
        distance = np.linalg.norm(theta - np.array(centre), axis=1)
        radius = max(
            screening.RADIUS * reference.weighted_median(distance, edge[i]),
            screening.LEAST_RADIUS * np.sqrt(F),
        )
        np.testing.assert_allclose(got[i], np.where(distance > radius, 0, edge[i]))


def test_the_mean_screens_nobody():
    sent = attacked(population(0), "far")
    edge = EDGE * np.float32(0.3)
    out = screen(edge, sent, sent, BASE, "mean", TOLERATED)
    np.testing.assert_array_equal(out, edge)


def test_without_a_demand_curve_there_is_nothing_to_screen():
    base, size = base_prior(0), 0
    sent = DemandSummary(
        np.full((PEERS, size, size), 1e9, np.float32),
        np.full((PEERS, size), -1e9, np.float32),
        np.ones(PEERS, np.float32),
    )
    out = screen(EDGE, sent, sent, base, "median", TOLERATED)
    np.testing.assert_array_equal(out, EDGE)


def test_senders_without_data_have_no_weight():
    """Senders without data neither move the centre nor lose their edge."""
    sent = population(4)
    fewer = np.array(sent.count)
    fewer[5:] = 0.0
    S, b = np.array(sent.precision), np.array(sent.shift)
    S[5:], b[5:] = 0.0, 0.0
    absent = DemandSummary(S, b, fewer)
    alone = DemandSummary(*(leaf[:5] for leaf in sent))
    out = screen(EDGE, absent, absent, BASE, "median", TOLERATED)
    few = screen(EDGE[:5, :5], alone, alone, BASE, "median", TOLERATED)
    np.testing.assert_array_equal(out[:5, :5], few)
    np.testing.assert_array_equal(out[:, 5:], EDGE[:, 5:])


def test_one_or_two_neighbours_are_always_kept():
    sent = attacked(population(5), "far")
    edge = np.zeros((3, PEERS), np.float32)
    edge[0, 9], edge[1, [0, 9]] = 1.0, 1.0
    own = DemandSummary(*(leaf[:3] for leaf in sent))
    for aggregator in ("median", "krum", "nearest_neighbour"):
        out = screen(edge, sent, own, BASE, aggregator, TOLERATED)
        np.testing.assert_array_equal(out, edge)
