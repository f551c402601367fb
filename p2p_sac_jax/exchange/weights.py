"""Weights of messages, by sender, receiver and cell.

A weight has two factors: ``sender_weight`` [J, K] is the same for every receiver,
``edge_factor`` [I, J] the same for every cell. Messages must be sanitized
before they come here.
"""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.hyper import ExchangeHyper, WeightsHyper
from p2p_sac_jax.types import Array, Insight


def temporal(now: Array, timestamp: Array, tau_s: Array, age_max_s: Array) -> Array:
    """Recency weight exp(-age/τ), exactly 0 for the stale.

    Args:
      now: [] seconds on the shared clock.
      timestamp: [...] seconds on the same clock.
      tau_s: [] seconds, positive.
      age_max_s: [] seconds; older is stale. So is a timestamp from the future,
        which would otherwise buy a sender influence, and one that is not a number.

    Returns:
      [...] in [0, 1].
    """
    age = now - timestamp
    fresh = (age >= 0.0) & (age <= age_max_s)
    return jnp.where(fresh, jnp.exp(-jnp.where(fresh, age, 0.0) / tau_s), 0.0)


def sender_weight(
    insight: Insight, now: Array, hyper: ExchangeHyper, switches: WeightsHyper
) -> Array:
    """Weight of each sender's message in each cell, for every receiver.

    Args:
      insight: sanitized, of J senders, fields [J, K].
      now: [] seconds.
      hyper: ``recency_tau_s`` and ``age_max_s`` are read.
      switches: where ``recency`` is 0 age costs nothing up to ``age_max_s``, where
        ``confidence`` is 0 every message counts in full.

    Returns:
      [J, K] in [0, 1]: temporal x confidence x valid.
    """
    tau = jnp.where(switches.recency > 0.0, hyper.recency_tau_s, jnp.inf)
    recency = temporal(now, insight.timestamp, tau, hyper.age_max_s)
    confidence = jnp.where(switches.confidence > 0.0, insight.confidence, 1.0)
    return recency * confidence * insight.valid


def edge_factor(
    edge: Array,
    trust: Array,
    own_performance: Array,
    performance: Array,
    hyper: WeightsHyper,
) -> Array:
    """Weight of each neighbour for each receiver, for every cell.

    edge x trust x 1[performance_j >= performance_i - margin], with shares capped.
    Trust is relative to the largest of its row, so that the most trusted has full
    weight and equal trust changes nothing, bit for bit. Senders state their own
    performance: the filter helps among honest peers, trust and cap against others.

    Args:
      edge: [I, J] non-negative; 0 where i does not receive from j.
      trust: [I, J] non-negative.
      own_performance: [I] mean reward of the receivers.
      performance: [J] the same, stated by the senders.
      hyper: the filter, its margin and ``max_share`` are read.

    Returns:
      [I, J] non-negative.
    """
    highest = jnp.max(trust, axis=-1, keepdims=True)
    below = trust < highest
    relative = jnp.where(below, trust / jnp.where(below, highest, 1.0), 1.0)
    keeps_up = (
        performance[None] >= (own_performance - hyper.performance_margin)[:, None]
    )
    eligible = keeps_up | (hyper.performance_filter <= 0.0)
    edge_weight = edge * relative * jnp.where(eligible, 1.0, 0.0)
    return cap_shares(edge_weight, hyper.max_share)


def cap_shares(edge: Array, max_share: Array) -> Array:
    """Lowers the largest weights, so that none exceeds a share of its row's total.

    Water-filling: all above a level c are lowered to it, c the largest number with
    c <= max_share · Σ_j min(w_j, c). As a sum of minima is the least over "m largest
    lowered" of m·c + (sum of the rest), c = min_m max_share·rest_m/(1 - max_share·m).
    Fewer than 1/max_share neighbours cannot all stay below it: they become equal
    to the smallest.

    Args:
      edge: [I, J] non-negative.
      max_share: [] in (0, 1]; 1 leaves ``edge`` as it is, bit for bit.

    Returns:
      [I, J].
    """
    order = jnp.sort(edge, axis=-1, descending=True)
    # Summed from the smallest upwards: no digits are lost by subtraction.
    rest = jnp.cumsum(order[:, ::-1], axis=-1)[:, ::-1]
    left = 1.0 - max_share * jnp.arange(edge.shape[-1])
    possible = left > 0.0
    level = max_share * rest / jnp.where(possible, left, 1.0)[None]
    level = jnp.min(jnp.where(possible[None], level, jnp.inf), axis=-1, keepdims=True)
    positive = jnp.where(edge > 0.0, edge, jnp.inf)
    smallest = jnp.min(positive, axis=-1, keepdims=True)
    capped = jnp.minimum(edge, jnp.maximum(level, smallest))
    return jnp.where(max_share < 1.0, capped, edge)


def senders(edge: Array, sender_weight: Array) -> Array:
    """How many senders of any weight [I, K] a receiver has in a cell."""
    sends = jnp.where(sender_weight > 0.0, 1.0, 0.0)
    return jnp.matmul(jnp.where(edge > 0.0, 1.0, 0.0), sends, precision="highest")


def coverage(mass: Array) -> Array:
    """Share [I] of context cells with a message from any sender, mass [I, K]."""
    return jnp.mean(jnp.where(mass > 0.0, 1.0, 0.0), axis=-1)


def effective_neighbours(edge: Array) -> Array:
    """(Σw)²/Σw² of each row (Kish 1965): n for n equal weights, 0 for none.

    Args:
      edge: [I, J] non-negative weights of the senders of a round.

    Returns:
      [I].
    """
    share = _relative(edge)
    squares = jnp.sum(jnp.square(share), axis=-1)
    total = jnp.square(jnp.sum(share, axis=-1))
    return total / jnp.where(squares > 0.0, squares, 1.0)


def largest_share(edge: Array) -> Array:
    """Share [I] of the largest in each row of weights [I, J], 0 for none."""
    total = jnp.sum(_relative(edge), axis=-1)
    return jnp.where(total > 0.0, 1.0 / jnp.where(total > 0.0, total, 1.0), 0.0)


def _relative(edge: Array) -> Array:
    """Rows divided by their maximum: squares of small weights would underflow."""
    largest = jnp.max(edge, axis=-1, keepdims=True)
    return edge / jnp.where(largest > 0.0, largest, 1.0)


def network_share(hyper: ExchangeHyper, has: Array) -> Array:
    """network_weight·has / (local_weight + network_weight·has), 0 if both are 0.

    Args:
      hyper: the two weights, scalars.
      has: [...] 1 where a message arrived, else 0.

    Returns:
      [...] in [0, 1].
    """
    network = hyper.network_weight * has
    total = hyper.local_weight + network
    positive = total > 0.0
    return jnp.where(positive, network / jnp.where(positive, total, 1.0), 0.0)


def annealing(own_steps: Array, half_life: Array) -> Array:
    """1/(1 + (t/t0)²): the share left to the network's values after t own steps.

    Args:
      own_steps: [...] real steps the receiver has taken.
      half_life: [] t0, steps that halve the share; 0 never anneals.

    Returns:
      [...] in (0, 1].
    """
    anneals = half_life > 0.0
    ratio = own_steps / jnp.where(anneals, half_life, 1.0)
    return jnp.where(anneals, 1.0 / (1.0 + jnp.square(ratio)), 1.0)
