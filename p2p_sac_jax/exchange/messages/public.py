"""Mode public: the little that anybody may read."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.exchange.demand_prior import mean_prior
from p2p_sac_jax.exchange.messages.base import (
    Mode,
    Setting,
    diagonal_summary,
    no_demand,
    stream,
)
from p2p_sac_jax.exchange.messages.noised_demand import make_box, make_coefficients
from p2p_sac_jax.privacy.accountant import (
    PUBLIC_TIME,
    Releases,
    demand_release,
    gaussian_channel,
    inverse_square,
)
from p2p_sac_jax.privacy.noise import expected_sign, gaussian, randomised_response
from p2p_sac_jax.types import Array, DemandSummary, Insight, MessageInputs, Received

ENTROPY_RANGE = (-5.0, 2.0)  # nats a dimension of the action
# Public guess of a peer's entropy a dimension, that of a std of .3, and its sd.
_ENTROPY_GUESS = math.log(0.3) + 0.5 * math.log(2.0 * math.pi * math.e)
_ENTROPY_SD = 1.0
_TREND, _ENTROPY, _DEMAND = range(3)  # uses of the key


class PublicMessage(NamedTuple):
    """What leaves one peer. Demand is () where it is not shared."""

    trend: Array  # [K] -1 or 1, randomised sign of the change of values
    entropy: Array  # [] nats, noised mean over cells; 0 where not shared
    time: Array  # [] seconds, the clock at sending
    demand_mean: Array  # [F] out of noised sums, in a public box
    demand_known: Array  # [] 1 from ``privacy.min_weeks`` steps on


def make_public(setting: Setting) -> Mode:
    """Builds the mode.

    Replace-one, every release on its own:

    * trend: randomised response, ``privacy.trend_epsilon`` a cell, and a fair coin
      where nothing changed or there is nothing to compare. One record may turn all K
      signs.
    * entropy: clipped to a public range of width Δ; a policy depends on every record,
      so the width is its sensitivity. sd = ``privacy.value_noise`` · Δ. It leaves
      where entropies are shared.

    Demand: see ``make_coefficients``. Trends may steer exploration and nothing else:
    at the receiver values and counts are 0.
    """
    config, prior = setting.config, setting.base_prior
    privacy = config.privacy
    low, high = (setting.action_dim * end for end in ENTROPY_RANGE)
    guess = setting.action_dim * _ENTROPY_GUESS
    entropy_std = privacy.value_noise * (high - low)
    entropy_sd = setting.action_dim * _ENTROPY_SD
    belief = entropy_sd**2 / (entropy_sd**2 + entropy_std**2)
    coefficients = make_coefficients(setting) if setting.shares_demand else None

    def encode(
        inputs: MessageInputs, key: Array, round_index: Array, clock_s: Array
    ) -> PublicMessage:
        insight = inputs.message.insight
        seen = jnp.where(insight.valid > 0.0, 1.0, 0.0)
        comparable = (insight.valid > 0.0) & (inputs.past_valid > 0.0)
        change = jnp.sign(insight.state_value - inputs.past_value)
        entropy = jnp.zeros(())
        if setting.shares_entropies:
            cells = jnp.sum(seen)
            mean = jnp.sum(seen * insight.entropy) / jnp.maximum(cells, 1.0)
            entropy = jnp.clip(jnp.where(cells > 0.0, mean, guess), low, high)
            entropy += gaussian(stream(key, _ENTROPY, round_index), (), entropy_std)
        coefficient_mean, known = (), ()
        if coefficients is not None:
            demand_key = jax.random.fold_in(key, _DEMAND)
            coefficient_mean, _, known = coefficients(
                inputs.statistics, demand_key, round_index
            )
        return PublicMessage(
            trend=randomised_response(
                stream(key, _TREND, round_index),
                jnp.where(comparable, change, 0.0),
                privacy.trend_epsilon,
            ),
            entropy=entropy,
            time=jnp.asarray(clock_s, jnp.float32),
            demand_mean=coefficient_mean,
            demand_known=known,
        )

    def decode(message: PublicMessage) -> Received:
        # Every message has a sign in every cell: without, there was no message yet.
        one, zero = jnp.abs(message.trend), jnp.zeros_like(message.trend)
        no_action = jnp.zeros((setting.num_cells, setting.action_dim))
        # Noise of seven nats would drown every policy: keep what is left of it.
        entropy = guess + belief * (message.entropy - guess)
        insight = Insight(
            state_value=zero,
            action_value=zero,
            entropy=jnp.clip(entropy, low, high) * one,
            confidence=one,
            timestamp=message.time * one,
            action_mean=no_action,
            action_std=no_action,
            count=zero,
            valid=one,
        )
        trend = expected_sign(message.trend, privacy.trend_epsilon)
        return Received(insight, demand(message), jnp.zeros(()), trend)

    def demand(message: PublicMessage) -> DemandSummary:
        """The mean, as uncertain as the base prior: no posterior is any wider."""
        if coefficients is None:
            return no_demand(setting.num_features)
        precision = 1.0 / np.diagonal(prior.covariance)
        count = message.demand_known * privacy.min_weeks
        return diagonal_summary(message.demand_mean, jnp.asarray(precision), count)

    def releases() -> Releases:
        response = f"privacy.trend_epsilon={privacy.trend_epsilon:g}"
        cells = setting.num_cells
        channels = {
            "trend": f"epsilon: {cells} randomised responses a release, {response}"
        }
        noises, each, once = [], 0.0, 0.0
        if setting.shares_entropies:
            worst = "worst change of one bounded number"
            channels["entropy"] = gaussian_channel(config, "value_noise", worst)
            noises += ["value_noise"]
            each += inverse_square(privacy.value_noise)
        if setting.shares_demand:
            channels["demand coefficients"], often, once = demand_release(config)
            noises += ["demand_noise"]
            each += often
        channels["time"] = PUBLIC_TIME
        return Releases(
            channels,
            each,
            once,
            responses=cells,
            response_epsilon=privacy.trend_epsilon,
            noises=tuple(noises),
            requires_noise=True,
        )

    most = 1.0 / np.diagonal(prior.covariance)
    pool = None
    if config.memory.pooling != "none":
        pool = partial(mean_prior, min_peers=privacy.min_peers)
    return Mode(
        "public",
        encode,
        jax.vmap(decode),
        releases,
        make_box(setting, most, 0.0 * most),
        pool,
    )
