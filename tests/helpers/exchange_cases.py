"""Inputs of the exchange, and its parts as kinds: weights, means, attacks, faults."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange import trust, weights
from p2p_sac_jax.exchange.aggregators import AGGREGATORS
from p2p_sac_jax.exchange.sanitize import sanitize_insight, sanitize_received
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING, ValueSharingInputs
from p2p_sac_jax.hyper import Hyper, make_hyper
from p2p_sac_jax.simulation.attacks import ATTACKS, make_attack
from p2p_sac_jax.simulation.faults import make_fault_plan, online, surviving
from p2p_sac_jax.simulation.schedules import edges_of_round
from p2p_sac_jax.types import (
    DemandStatistics,
    DemandSummary,
    Insight,
    LocalSummary,
    MessageInputs,
    Received,
)
from tests.helpers.configs import in_sections
from tests.helpers.contracts import Kind, P
from tests.helpers.demand import base_prior

K, A, F = 4, 1, 5
CLOCK, NOW = np.int32(12), np.float32(1000.0)
BYZANTINE_FRACTION = 0.34
BASE = base_prior(F)
# Most attacks depend on a byzantine peer's rank among them, and "mimic" copies the
# first honest peer: both stay where they are, everyone else may move.
BYZANTINE = (0, 1, 0, 1, 0)
RANKED_ORDER = (0, 4, 1, 2, 3)
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "loss": {"loss": 0.4},
    "churn": {"churn": 0.4, "leave_step": 4},
    "partition": {"heal_step": 16},
}
FAULTS["all"] = FAULTS["loss"] | FAULTS["churn"] | FAULTS["partition"]


def insights(rng: np.random.Generator, peers: int, cells: int) -> Insight:
    shape = (peers, cells)
    return Insight(
        state_value=3.0 + 2.0 * rng.normal(size=shape),
        action_value=rng.normal(size=shape),
        entropy=rng.normal(size=shape),
        confidence=rng.uniform(0.1, 1.0, shape),
        timestamp=rng.uniform(0.0, 900.0, shape),
        action_mean=rng.uniform(-0.9, 0.9, (*shape, A)),
        action_std=rng.uniform(0.1, 0.5, (*shape, A)),
        count=rng.uniform(1.0, 12.0, shape),
        valid=rng.uniform(size=shape) < 0.8,
    )


def messages(rng: np.random.Generator, peers: int, cells: int = K) -> LocalSummary:
    factor = rng.normal(size=(peers, 4 * F, F))
    precision = np.einsum("jnf,jng->jfg", factor, factor)
    theta = BASE.mean + 0.3 * rng.normal(size=(peers, F))
    summary = LocalSummary(
        insight=insights(rng, peers, cells),
        demand=DemandSummary(
            precision=precision,
            shift=np.einsum("jfg,jg->jf", precision, theta),
            count=rng.integers(0, 9, peers),
        ),
        performance=rng.normal(size=peers),
    )
    return single(summary)


def received(rng: np.random.Generator, peers: int, cells: int = K) -> Received:
    trend = rng.uniform(-1.0, 1.0, (peers, cells))
    return Received(*messages(rng, peers, cells), np.float32(trend))


def local_summary(
    rng: np.random.Generator, peers: int, cells: int = K
) -> MessageInputs:
    message = messages(rng, peers, cells)
    steps = 12
    x = np.clip(0.3 * rng.normal(size=(peers, steps, F)), -0.5, 0.5)
    x[:, :, 0] = 1.0
    z = x @ np.asarray(BASE.mean) + 0.3 * rng.normal(size=(peers, steps))
    inputs = MessageInputs(
        message=message,
        statistics=DemandStatistics(
            G=np.einsum("jnf,jng->jfg", x, x),
            h=np.einsum("jnf,jn->jf", x, z),
            yy=np.sum(z * z, axis=1),
            n=np.full(peers, steps),
        ),
        past_value=message.insight.state_value + rng.normal(size=(peers, cells)),
        past_valid=np.ones((peers, cells)),
        visits=np.zeros(()),
    )
    visits = rng.integers(2, 12, (peers, cells)).astype(np.int32)
    return single(inputs)._replace(visits=visits)


def edges(rng: np.random.Generator, peers: int) -> np.ndarray:
    """Edge weights in [0, 1], most of them positive; none from a peer to itself."""
    edge_weight = rng.integers(1, 9, (peers, peers)) / 8.0
    edge_weight *= (rng.uniform(size=(peers, peers)) < 0.8) & ~np.eye(peers, dtype=bool)
    return edge_weight.astype(np.float32)


def random_trust(rng: np.random.Generator, peers: int) -> np.ndarray:
    """Trust whose rows sum to 1."""
    odds = rng.uniform(0.5, 1.5, (peers, peers))
    return np.float32(odds / odds.sum(axis=1, keepdims=True))


def single(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


def settings(**sections: dict[str, Any]) -> TrainConfig:
    """Four rounds, and peers whose few weeks may already leave them."""
    small = {
        "population": {"peers": P},
        "privacy": {"min_peers": 2, "min_count": 2},
        "exchange": {"recency_tau_s": 500.0, "age_max_s": 800.0},
    }
    return in_sections(TrainConfig(steps=16), small, sections)


def hyper(seed: int, **switches: float) -> Hyper:
    """Hyper-parameters; of an odd seed with every switch of the weights flipped."""
    rules = make_hyper(settings())
    flipped = {
        "recency": 0.0,
        "confidence": 0.0,
        "trust_rate": 0.3,
        "performance_filter": 1.0,
        "max_share": 0.4,
    }
    chosen = (flipped if seed % 2 else {}) | switches
    chosen = {name: np.float32(value) for name, value in chosen.items()}
    return rules._replace(weights=rules.weights._replace(**chosen))


def weight_kinds() -> dict[str, Kind]:
    def make_insights(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        return single(insights(rng, peers, K)), hyper(seed), NOW

    def sender(sent, rules, now):
        sane = sanitize_insight(sent)
        return (weights.sender_weight(sane, now, rules.exchange, rules.weights),)

    def make_performances(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        earned = single((rng.normal(size=peers), rng.normal(size=peers)))
        return *earned, edges(rng, peers), random_trust(rng, peers), hyper(seed)

    def edge_factor(performance, own, edge, opinion, rules):
        edge_weight = weights.edge_factor(
            edge, opinion, own, performance, rules.weights
        )
        report = (
            weights.effective_neighbours(edge_weight),
            weights.largest_share(edge_weight),
        )
        return edge_weight, report

    def make_trust(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        sent, own = received(rng, peers), messages(rng, peers)
        return sent, own, edges(rng, peers), random_trust(rng, peers), hyper(seed)

    def update(sent, own, edge, opinion, rules):
        sane = sanitize_received(sent, BASE.record_scale, CLOCK)
        theta = trust.coefficients(sane.demand, BASE)[0]
        error = trust.demand_error(own.demand, theta)
        error = error + trust.value_error(sanitize_insight(own.insight), sane.insight)
        return error, trust.update_trust(opinion, error, edge > 0.0, rules.weights)

    return {
        "weights: sender": Kind(sender, make_insights, "j--", "j", "absent"),
        "weights: edge": Kind(edge_factor, make_performances, "jiET-", "Ei", "finite"),
        "weights: trust": Kind(update, make_trust, "jiET-", "TT", "finite"),
    }


def aggregator_kind(name: str) -> Kind:
    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        weight, own_weight = rng.uniform(size=(2, peers, K))
        drawn = (
            (rng.uniform(size=(peers, K)) < 0.8) * weight,
            rng.normal(size=(peers, K, A)),
            edges(rng, peers),
            rng.normal(size=(peers, K, A)),
            (rng.uniform(size=(peers, K)) < 0.8) * own_weight,
        )
        return single(drawn)

    def run(weight, x, edge, own, own_weight):
        return AGGREGATORS[name](edge, weight, x, own, own_weight, BYZANTINE_FRACTION)

    # The mean reads what has been sanitized already.
    return Kind(run, make, "sjEii", "ii", "no" if name == "mean" else "absent")


def value_sharing_kind(name: str) -> Kind:
    cells = 1 if name == "scalar" else K

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        sent, own = insights(rng, peers, cells), insights(rng, peers, cells)
        steps = rng.uniform(0.0, 200.0, peers).astype(np.float32)
        return single(sent), single(own), edges(rng, peers), steps, hyper(seed), NOW

    def run(sent, own, edge, steps, rules, now):
        sane = sanitize_insight(sent)
        annealing = weights.annealing(steps, rules.exchange.value_half_life)[:, None]
        return VALUE_SHARING[name].estimate(
            ValueSharingInputs(
                received=sane,
                own=sanitize_insight(own),
                edge_weight=edge,
                sender_weight=weights.sender_weight(
                    sane, now, rules.exchange, rules.weights
                ),
                hyper=rules.exchange,
                now=now,
                annealing=annealing,
                aggregate=functools.partial(
                    AGGREGATORS["mean"], byzantine_fraction=BYZANTINE_FRACTION
                ),
            )
        )

    return Kind(run, make, "jiEi--", "ii", "absent")


def attack_kind(name: str) -> Kind:
    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        byzantine = np.float32([BYZANTINE[j % P] for j in range(peers)])
        sent, own = received(rng, peers), received(rng, peers)
        return sent, own, edges(rng, peers), byzantine, np.int32(seed), NOW

    def run(sent, own, edge, byzantine, seed, now):
        transform = make_attack(name, 1.0).transform
        return (transform(sent, own, edge, byzantine, jax.random.key(seed), now),)

    gives = "E" if ATTACKS[name].per_receiver else "j"
    # The adversary sees all messages, whoever receives them.
    return Kind(
        run,
        make,
        "siEs--",
        gives,
        order=RANKED_ORDER,
        empty_padding=True,
        finite=name != "nonfinite",
    )


def fault_kind(name: str) -> Kind:
    config = settings(faults=FAULTS[name])

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        sized = settings(faults=FAULTS[name], population={"peers": peers})
        plan = make_fault_plan(sized, peers)
        return edges(rng, peers), plan, plan, np.int32(seed), CLOCK

    def run(edge, receivers, senders, seed, clock):
        key = jax.random.key(seed)
        kept = surviving(config.faults, edge, receivers, senders, key, clock)
        return kept, online(receivers, clock)

    return Kind(run, make, "Eis--", "Ei")


def schedule_kind() -> Kind:
    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        partners = rng.integers(-1, peers, (peers, 3)).astype(np.int32)
        return edges(rng, peers), partners, np.int32(seed)

    def run(edge, partners, round_index):
        return (edges_of_round(edge, partners, round_index),)

    return Kind(run, make, "Ep-", "E")


# Of two names of one estimate one is enough: how a value is used, learners decide.
VALUE_MODES = {rule.estimate: name for name, rule in reversed(VALUE_SHARING.items())}
PARTS = {
    **weight_kinds(),
    **{f"aggregator: {name}": aggregator_kind(name) for name in AGGREGATORS},
    **{
        f"value sharing: {name}": value_sharing_kind(name)
        for name in VALUE_MODES.values()
    },
    **{f"fault: {name}": fault_kind(name) for name in FAULTS},
    "schedule": schedule_kind(),
}
ATTACK_KINDS = {f"attack: {name}": attack_kind(name) for name in ATTACKS}
