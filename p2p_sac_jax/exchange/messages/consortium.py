"""Mode consortium: peers of several owners share what they learned, not their data.

Values, counts and demand coefficients are noised. Entropies leave in full, with no ε
stated for them, and only where they are shared. What nobody reads does not leave:
actions never, and values and counts not where values are not shared.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.exchange.insight import normalise
from p2p_sac_jax.exchange.messages.base import (
    Mode,
    Setting,
    diagonal_summary,
    group_of_cell,
    no_demand,
    stream,
)
from p2p_sac_jax.exchange.messages.noised_demand import (
    LEAST_VARIANCE,
    make_box,
    make_coefficients,
)
from p2p_sac_jax.privacy.accountant import (
    PUBLIC_TIME,
    Releases,
    demand_release,
    gaussian_channel,
    inverse_square,
)
from p2p_sac_jax.privacy.noise import gaussian
from p2p_sac_jax.types import Array, DemandSummary, Insight, MessageInputs, Received

COUNT_SENSITIVITY = math.sqrt(2.0)  # a replaced step leaves one group for another
_VALUE, _COUNT, _DEMAND = range(3)  # uses of the key


class ConsortiumMessage(NamedTuple):
    """What leaves one peer; G groups of cells. Demand is () where it is not shared."""

    value: Array  # [G] normalised, clipped and noised; 0 where suppressed
    count: Array  # [G] noised steps, not negative
    entropy: Array  # [K] nats, 0 where never seen or not shared
    time: Array  # [] seconds, the clock at sending
    demand_mean: Array  # [F] out of noised sums, in a public box
    demand_variance: Array  # [F]
    demand_known: Array  # [] 1 from ``privacy.min_weeks`` steps on


def make_consortium(setting: Setting) -> Mode:
    """Builds the mode.

    Replace-one, every release of values and counts on its own, of sd
    ``privacy.value_noise`` times the sensitivity:

    * values: critics depend on every record, so nothing less than the bound of their
      output will do. Two vectors in [-C, C]^G differ by at most Δ = 2C√G.
    * counts: real visits, each step once, so a replaced one moves two of them by 1.

    A group is suppressed where its *noised* count is below ``privacy.min_count``, so
    the mask costs nothing more. Demand: see ``make_coefficients``.
    """
    config, privacy = setting.config, setting.config.privacy
    group = group_of_cell(setting.num_cells, setting.cells_per_group)
    member = (group[:, None] == np.arange(group[-1] + 1)).astype(np.float32)  # [K, G]
    num_groups = member.shape[1]
    per_group = partial(jnp.einsum, "k,kg->g", precision="highest")
    value_std = privacy.value_noise * 2.0 * privacy.clip * math.sqrt(num_groups)
    count_std = privacy.value_noise * COUNT_SENSITIVITY
    coefficients = make_coefficients(setting) if setting.shares_demand else None
    # What a noised value is worth, like the spread within a cell in ``make_insight``.
    reliability = 1.0 / (1.0 + value_std**2)

    def values(insight: Insight, key: Array) -> Array:
        """Noised group means ``[G]`` of the peer's normalised state values."""
        weight = insight.valid * insight.count
        total = per_group(weight, member)
        mean = per_group(weight * normalise(insight)[0], member)
        mean = mean / jnp.where(total > 0.0, total, 1.0)
        clipped = jnp.clip(mean, -privacy.clip, privacy.clip)
        return clipped + gaussian(key, (num_groups,), value_std)

    def encode(
        inputs: MessageInputs, key: Array, round_index: Array, clock_s: Array
    ) -> ConsortiumMessage:
        insight = inputs.message.insight
        value = count = jnp.zeros(num_groups)
        if setting.shares_values:
            count = per_group(inputs.visits.astype(jnp.float32), member)
            count_key = stream(key, _COUNT, round_index)
            count = count + gaussian(count_key, (num_groups,), count_std)
            count = jnp.maximum(count, 0.0)
        kept = count >= privacy.min_count
        if setting.shares_values:
            # A suppressed group moves no level and no scale of the others either.
            shown = insight._replace(valid=jnp.where(kept[group], insight.valid, 0.0))
            noised = values(shown, stream(key, _VALUE, round_index))
            value = jnp.where(kept, noised, 0.0)
        mean, variance, known = (), (), ()
        if coefficients is not None:
            demand_key = jax.random.fold_in(key, _DEMAND)
            mean, variance, known = coefficients(
                inputs.statistics, demand_key, round_index
            )
        return ConsortiumMessage(
            value=value,
            count=count,
            entropy=jnp.where(insight.valid > 0.0, insight.entropy, 0.0)
            if setting.shares_entropies
            else jnp.zeros(setting.num_cells),
            time=jnp.asarray(clock_s, jnp.float32),
            demand_mean=mean,
            demand_variance=variance,
            demand_known=known,
        )

    def decode(message: ConsortiumMessage) -> Received:
        """The value of a group holds in each of its cells.

        With entropies it is known which cells the sender has seen: in those alone.
        """
        seen = jnp.ones(setting.num_cells)
        if setting.shares_entropies:
            seen = jnp.where(message.entropy != 0.0, 1.0, 0.0)
        if setting.shares_values:
            kept = jnp.where(message.count >= privacy.min_count, 1.0, 0.0)
            valid = seen * kept[group]
            # A group's steps, spread over its cells.
            steps = message.count / jnp.maximum(per_group(seen, member), 1.0)
            count = valid * steps[group]
            confidence = reliability * count / (count + config.exchange.n0)
        else:  # entropies alone, all alike
            valid = seen if setting.shares_entropies else 0.0 * seen
            count, confidence = 0.0 * seen, valid
        value = jnp.clip(message.value, -privacy.clip, privacy.clip)
        no_action = jnp.zeros((setting.num_cells, setting.action_dim))
        insight = Insight(
            state_value=valid * value[group],
            action_value=jnp.zeros_like(valid),
            entropy=valid * message.entropy,
            confidence=confidence,
            timestamp=jnp.broadcast_to(message.time, valid.shape),
            action_mean=no_action,
            action_std=no_action,
            count=count,
            valid=valid,
        )
        return Received(insight, demand(message), jnp.zeros(()), jnp.zeros_like(valid))

    def demand(message: ConsortiumMessage) -> DemandSummary:
        """What the posterior adds to the base prior, coefficient by coefficient."""
        if coefficients is None:
            return no_demand(setting.num_features)
        prior = setting.base_prior
        prior_variance = np.diagonal(prior.covariance)
        variance = jnp.clip(message.demand_variance, 1e-6, prior_variance)
        precision = jnp.maximum(1.0 / variance - 1.0 / prior_variance, 0.0)
        # Far from the prior mean by (m - μ0)(1/var)/precision; no evidence, no shift.
        pull = (message.demand_mean - prior.mean) / variance
        informed = precision > 1e-3 / prior_variance
        precision = jnp.where(informed, precision, 0.0)
        evidence = prior.mean + pull / jnp.where(informed, precision, 1.0)
        return diagonal_summary(
            jnp.where(informed, evidence, prior.mean),
            precision,
            message.demand_known * privacy.min_weeks,
        )

    def releases() -> Releases:
        channels, noises, each, once = {}, [], 0.0, 0.0
        if setting.shares_entropies:
            # Networks depend on every step they were trained on, whatever the cell.
            channels["entropy"] = (
                "no epsilon: the policy depends on every step and leaves without noise,"
                " and so does which cells were seen"
            )
        if setting.shares_values:
            bound = 2.0 * privacy.clip * math.sqrt(num_groups)
            worst = f"worst change {bound:.3g} = 2 clip sqrt({num_groups})"
            channels["values"] = gaussian_channel(config, "value_noise", worst)
            worst = "worst change sqrt(2), a step moves cell"
            channels["counts"] = gaussian_channel(config, "value_noise", worst)
            noises += ["value_noise"]
            each += 2.0 * inverse_square(privacy.value_noise)
        if setting.shares_demand:
            channels["demand coefficients"], often, once = demand_release(config)
            noises += ["demand_noise"]
            each += often
        channels["time"] = PUBLIC_TIME
        return Releases(channels, each, once, noises=tuple(noises))

    pull = 1.0 / np.diagonal(setting.base_prior.covariance)
    most = 1.0 / LEAST_VARIANCE - pull
    return Mode(
        "consortium",
        encode,
        jax.vmap(decode),
        releases,
        make_box(setting, most, pull),
    )
