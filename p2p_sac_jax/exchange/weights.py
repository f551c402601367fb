"""How much one sender's word weighs: recency, confidence, validity.

Everything a sender says is a claim. Claims are bounded here, once, before any
of them is multiplied with another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from p2p_sac_jax.hyper import ExchangeHyper
from p2p_sac_jax.types import Array, DemandSummary, Insight

# No honest entry comes near; squares and sums of what passes stay finite.
_MAX_CLAIM = 1e9


def accept(insight: Insight) -> Insight:
    """Bounds what senders claim, so that no claim can poison an average.

    Confidence is clipped to [0, 1] and becomes 0 where it is not a number. A cell
    with an entry that is not finite, beyond ±1e9, or a negative count is treated
    as a cell without data: all its entries become 0.

    Args:
      insight: fields [..., K] and [..., K, A].

    Returns:
      Insight of the same shapes, everywhere finite; ``valid`` is exactly 0 or 1.
    """
    confidence = jnp.where(jnp.isfinite(insight.confidence), insight.confidence, 0.0)
    insight = insight._replace(confidence=jnp.clip(confidence, 0.0, 1.0))
    values = (insight.state_value, insight.action_value, insight.entropy, insight.count)
    credible = (insight.valid > 0.0) & (insight.count >= 0.0)
    credible &= jnp.isfinite(insight.timestamp)
    for x in values:
        credible &= jnp.abs(x) <= _MAX_CLAIM
    for x in (insight.action_mean, insight.action_std):
        credible &= jnp.all(jnp.abs(x) <= _MAX_CLAIM, axis=-1)

    def keep(x: Array) -> Array:
        extra = (1,) * (x.ndim - credible.ndim)
        return jnp.where(credible.reshape(credible.shape + extra), x, 0.0)

    return jax.tree.map(keep, insight)._replace(
        valid=jnp.where(credible, 1.0, 0.0),
    )


def accept_demand(summary: DemandSummary) -> DemandSummary:
    """Drops a sender's demand statistics [J, ...] if any entry is not finite."""
    finite = jnp.isfinite(summary.count) & (summary.count >= 0.0)
    finite &= jnp.all(jnp.isfinite(summary.shift), axis=-1)
    finite &= jnp.all(jnp.isfinite(summary.precision), axis=(-2, -1))
    return DemandSummary(
        precision=jnp.where(finite[..., None, None], summary.precision, 0.0),
        shift=jnp.where(finite[..., None], summary.shift, 0.0),
        count=jnp.where(finite, summary.count, 0.0),
    )


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


def sender_weight(insight: Insight, now: Array, hyper: ExchangeHyper) -> Array:
    """Weight of each sender's word on each cell, whoever listens.

    Args:
      insight: claims of J senders, fields [J, K]; need not be clean.
      now: [] seconds.
      hyper: ``recency_tau_s`` and ``age_max_s`` are read.

    Returns:
      [J, K] in [0, 1]: temporal x confidence x valid.
    """
    claim = accept(insight)
    recency = temporal(now, claim.timestamp, hyper.recency_tau_s, hyper.age_max_s)
    return recency * claim.confidence * claim.valid


def network_share(hyper: ExchangeHyper, has: Array) -> Array:
    """network_weight·has / (local_weight + network_weight·has), 0 if both are 0.

    Args:
      hyper: the two weights, scalars.
      has: [...] 1 where the network says anything, else 0.

    Returns:
      [...] in [0, 1].
    """
    network = hyper.network_weight * has
    total = hyper.local_weight + network
    positive = total > 0.0
    return jnp.where(positive, network / jnp.where(positive, total, 1.0), 0.0)


def annealing(own_steps: Array, anneal_steps: Array) -> Array:
    """1/(1 + (t/t0)²): the share left to the network's values after t own steps.

    Args:
      own_steps: [...] real steps the receiver has taken.
      anneal_steps: [] t0, steps that halve the share; 0 never anneals.

    Returns:
      [...] in (0, 1].
    """
    anneals = anneal_steps > 0.0
    ratio = own_steps / jnp.where(anneals, anneal_steps, 1.0)
    return jnp.where(anneals, 1.0 / (1.0 + jnp.square(ratio)), 1.0)
