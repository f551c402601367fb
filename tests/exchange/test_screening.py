"""Screening of demand: far curves are left out, honest ones mostly are not."""

import jax
import numpy as np
import pytest

from p2p_sac_jax.exchange import screening
from p2p_sac_jax.types import DemandSummary
from tests.helpers.demand import base_prior
from tests.reference import bayes
from tests.reference import robust as reference

F = 5
BASE = base_prior(F)
SPREAD = bayes.SPREAD[[0, 1, 3, 4, 5]]
CENTRE = np.array([0.0, 2.5, 0.2, 0.05, -0.05])
screen = jax.jit(screening.screen_demand)


def all_edges(peers):
    return (1.0 - np.eye(peers)).astype(np.float32)


def population(seed, peers, noise=0.35):
    """Own data of peers that differ by the guessed spread."""
    rng = np.random.default_rng(seed)
    S, b, n = [], [], []
    for _ in range(peers):
        theta = CENTRE + rng.normal(size=F) * SPREAD**0.5
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


def attacked(summaries, kind, byzantine, seed=0):
    """The last few send other coefficients, with the mean precision of the honest."""
    if kind == "none":
        return summaries
    rng, honest = np.random.default_rng(seed), slice(0, -byzantine)
    theta = theta_of(summaries)
    mean, std = theta[honest].mean(axis=0), theta[honest].std(axis=0)
    S, b = np.array(summaries.precision), np.array(summaries.shift)
    for j in range(len(S) - byzantine, len(S)):
        wanted = {
            "sign_flip": -theta[j],
            "gaussian": mean + 10.0 * std * rng.normal(size=F),
            "alie": mean - 0.5 * std,
            "far": np.full(F, 1e6),
            "steep": np.where(BASE.own_price > 0, BASE.high, mean),
        }[kind]
        S[j] = (50.0 if kind == "steep" else 1.0) * S[honest].mean(axis=0)
        b[j] = S[j] @ wanted
    return summaries._replace(precision=S, shift=b.astype(np.float32))


@pytest.mark.parametrize(("peers", "byzantine"), [(5, 1), (10, 3)])
@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("none", 1.0),
        ("alie", 1.0),  # hides among the honest
        ("sign_flip", 0.2),
        ("gaussian", 0.2),
        ("far", 0.0),
        ("steep", 0.2),
    ],
)
def test_the_honest_stay_and_far_byzantine_peers_go(kind, most, peers, byzantine):
    honest = slice(0, peers - byzantine)
    kept = []
    for seed in range(20):
        sent = attacked(population(seed, peers), kind, byzantine, seed)
        out = np.asarray(screen(all_edges(peers), sent, sent, BASE))
        pairs = all_edges(peers)[honest, honest].sum()
        kept.append(
            (out[honest, honest].sum() / pairs, out[honest, -byzantine:].mean())
        )
    among_honest, of_byzantine = np.mean(kept, axis=0)
    assert among_honest > 0.96
    assert of_byzantine <= most


@pytest.mark.parametrize("kind", ["none", "sign_flip", "gaussian", "steep"])
def test_matches_the_loops(kind):
    peers = 8
    for seed in range(5):
        sent = attacked(population(seed, peers), kind, 2, seed)
        out = np.asarray(screen(all_edges(peers), sent, sent, BASE))
        rows = list(zip(sent.precision.astype(float), sent.shift, strict=True))
        for i in range(peers):
            others = [j for j in range(peers) if j != i]
            variance = np.diagonal(BASE.covariance).astype(float)
            distance = reference.demand_outliers(
                [rows[j] for j in others], rows[i], BASE.mean, variance, SPREAD
            )
            clear = np.abs(distance - screening.LIMIT) > 0.02
            expected = np.where(distance > screening.LIMIT, 0.0, 1.0)
            np.testing.assert_array_equal(out[i, others][clear], expected[clear])


def test_own_data_judge_a_lone_sender():
    """Nobody else sends: base prior and own weeks decide, and no data decide little."""
    sent = attacked(population(2, 2), "steep", 1)
    edge = np.float32([[0, 1], [0, 0]])
    own = population(7, 2)
    own = own._replace(precision=4 * own.precision, shift=4 * own.shift)
    assert screen(edge, sent, own, BASE)[0, 1] == 0.0
    nothing = jax.tree.map(np.zeros_like, own)
    np.testing.assert_array_equal(screen(edge, sent, nothing, BASE), edge)


def test_without_a_demand_curve_there_is_nothing_to_screen():
    sent = DemandSummary(
        np.full((3, 0, 0), 1e9, np.float32),
        np.full((3, 0), -1e9, np.float32),
        np.ones(3, np.float32),
    )
    out = screening.screen_demand(all_edges(3), sent, sent, base_prior(0))
    np.testing.assert_array_equal(out, all_edges(3))


def test_senders_without_data_have_no_weight():
    """They neither move the centre nor lose their edge."""
    sent = population(4, 10)
    S, b, fewer = (np.array(leaf) for leaf in sent)
    S[5:], b[5:], fewer[5:] = 0.0, 0.0, 0.0
    absent, alone = DemandSummary(S, b, fewer), jax.tree.map(lambda x: x[:5], sent)
    edge = 0.3 * all_edges(10)
    out = screen(edge, absent, absent, BASE)
    few = screen(edge[:5, :5], alone, alone, BASE)
    np.testing.assert_array_equal(out[:5, :5], few)
    np.testing.assert_array_equal(out[:, 5:], edge[:, 5:])
