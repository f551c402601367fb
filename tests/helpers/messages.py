"""What a peer knows, and its messages, for the tests of the network modes."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from p2p_sac_jax.config import ExchangeConfig, PrivacyConfig, TrainConfig
from p2p_sac_jax.exchange.messages import make_mode
from p2p_sac_jax.types import (
    DemandStatistics,
    DemandSummary,
    Insight,
    LocalSummary,
    MessageInputs,
)
from tests.helpers.demand import base_prior
from tests.reference import bayes, modes

K, PER_GROUP, A, F = 10, 4, 2, 5  # the last of three groups has two cells
G = 3
ROUND, CLOCK = np.int32(3), np.float32(7e5)
EXACT = {"value_noise": 0.0, "demand_noise": 0.0}


def settings(
    mode="consortium",
    value_sharing="precision",
    pooling="prior",
    entropy_sharing=True,
    **privacy,
):
    shared = {"value_sharing": value_sharing, "entropy_sharing": entropy_sharing}
    config = TrainConfig(
        steps=208,
        exchange=ExchangeConfig(mode=mode, **shared),
        privacy=PrivacyConfig(**privacy),
    )
    memory = dataclasses.replace(config.memory, pooling=pooling)
    return dataclasses.replace(config, memory=memory)


@functools.cache
def build(size=F, cells=K, **options):
    mode = make_mode(
        settings(**options),
        num_cells=cells,
        cells_per_group=PER_GROUP,
        action_dim=A,
        base_prior=base_prior(size),
    )
    return mode._replace(encode=jax.jit(mode.encode), decode=jax.jit(mode.decode))


def weeks(seed, steps=60, size=F):
    rng = np.random.default_rng(seed)
    x = bayes.market_features(rng, steps, size)
    theta = np.append([0.2, 2.7], np.full(size - 2, 0.1))
    return x, bayes.log_sales(rng, x, theta, 0.4)


def statistics(x, z):
    """Sums over bounded records, in the units of the regressors."""
    sums = np.zeros((x.shape[1] + 1,) * 2)
    for row, outcome in zip(x, z, strict=True):
        plain = np.append(row, outcome).astype(np.float64)
        scaled = modes.bounded_record(row, outcome)
        shrink = 0.7 * plain[-1]
        plain *= scaled[-1] / shrink if shrink else 1.0
        sums += np.outer(plain, plain)
    leaves = sums[:-1, :-1], sums[:-1, -1], sums[-1, -1], float(len(z))
    return DemandStatistics(*(np.float32(leaf) for leaf in leaves))


def message_inputs(seed=0, size=F, cells=K, steps=60):
    """Everything one peer knows; cell 2 is empty and the last group hardly seen."""
    rng = np.random.default_rng(seed)
    valid = np.ones(cells)
    count, visits = rng.uniform(2, 12, cells), rng.integers(2, 12, cells)
    if cells == K:
        valid[2], count[8:], visits[8:] = 0, 1.0, 1
    insight = Insight(
        state_value=5 + 3 * rng.normal(size=cells),
        action_value=rng.normal(size=cells),
        entropy=rng.uniform(-2, 1, cells),
        confidence=rng.uniform(size=cells),
        timestamp=rng.uniform(0, 7e5, cells),
        action_mean=rng.uniform(-0.9, 0.9, (cells, A)),
        action_std=rng.uniform(0.02, 0.6, (cells, A)),
        count=count,
        valid=valid,
    )
    insight = Insight(*(x * valid.reshape(-1, *[1] * (x.ndim - 1)) for x in insight))
    sums = DemandStatistics(np.eye(size), np.zeros(size), np.zeros(()), np.zeros(()))
    if size > 1:
        sums = statistics(*weeks(seed, steps, size))
    known = MessageInputs(
        message=LocalSummary(
            insight=insight,
            demand=DemandSummary(np.eye(size), rng.normal(size=size), np.float64(60)),
            performance=rng.uniform(),
        ),
        statistics=sums,
        past_value=insight.state_value - rng.choice([-0.5, 0.5], cells),
        past_valid=valid,
        visits=np.zeros(cells),
    )
    known = jax.tree.map(np.float32, known)
    return known._replace(visits=visits.astype(np.int32))


def make_message(mode, known, seed=0, round_index=ROUND):
    return mode.encode(known, jax.random.key(seed), round_index, CLOCK)


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def with_insight(known, **fields):
    insight = known.message.insight._replace(**fields)
    return known._replace(message=known.message._replace(insight=insight))


def honest(senders=1, cells=1):
    """Messages with data in every cell, fields [senders, cells]."""
    ones = np.ones((senders, cells), np.float32)
    actions = np.zeros((senders, cells, 1), np.float32)
    return Insight(
        state_value=ones,
        action_value=ones,
        entropy=ones,
        confidence=0.5 * ones,
        timestamp=0.0 * ones,
        action_mean=actions,
        action_std=actions,
        count=ones,
        valid=ones,
    )
