"""Screens senders whose demand curve is too far from the others.

Demand statistics are sums, pooled by their precision; a robust mean of sums has no
meaning. A robust aggregator therefore finds the centre of the demand *curves*, and
senders too far from it are left out. The precision that a sender states has no effect
here: the weights are the receiver's own ``edge``.
"""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.exchange.aggregators import AGGREGATORS
from p2p_sac_jax.exchange.order_statistics import weighted_median
from p2p_sac_jax.exchange.trust import coefficients
from p2p_sac_jax.types import Array, DemandSummary

# Chosen by simulation: peers that differ by the guessed spread, 3 to 104
# weeks of data, 4 to 31 peers, the median as centre. Kept are .96 of the honest where
# no peer is byzantine, .89 or more where a third send "alie" (close to the honest, and
# kept), .99 beside flipped signs or noise; of these .15 and .05 or less are kept.
RADIUS = 1.75  # in median distances from the centre
# Peers who differ no more than peers do are not suspect, however alike the others
# are: else byzantine peers close to the centre would exclude the honest.
LEAST_RADIUS = 1.65  # in root mean squares of what peers differ by


def screen_demand(
    edge: Array,
    summaries: DemandSummary,
    own: DemandSummary,
    base: BasePrior,
    aggregator: str,
    byzantine_fraction: float,
) -> Array:
    """Edges without the senders whose demand curve is far from that of most.

    θ_j is the posterior mean of j's data under the base prior, in units of the spread
    between peers; c_i the robust centre of i's senders that have data. j is
    left out by i where ‖θ_j - c_i‖ > max(1.75·m_i, 1.65·√F), m_i the median distance
    weighted by ``edge``. Half of the weight are always kept.

    Args:
      edge: [I, J] non-negative.
      summaries: sanitized, of the senders, leaves [J, ...].
      own: the receivers' own data, leaves [I, ...]; only a self-centred aggregator
        reads them.
      base: prior of a peer that knows nothing, [F] and a *diagonal* [F, F].
      aggregator: a key of ``AGGREGATORS``, static; "mean" screens none.
      byzantine_fraction: share of byzantine neighbours, in [0, 0.5), static.

    Returns:
      [I, J], each entry that of ``edge`` or 0; ``edge`` itself for "mean" and for
      F = 0, where there is no demand curve.
    """
    if aggregator == "mean" or base.size == 0:
        return edge
    scale = jnp.sqrt(jnp.asarray(base.spread))[None]
    theirs = coefficients(summaries, base) / scale
    mine = coefficients(own, base) / scale
    has = jnp.where(summaries.count > 0.0, 1.0, 0.0)
    knows = jnp.where(own.count > 0.0, 1.0, 0.0)
    centre, _ = AGGREGATORS[aggregator](
        edge,
        has[:, None],
        theirs[:, None],
        mine[:, None],
        knows[:, None],
        byzantine_fraction,
    )
    distance = jnp.sqrt(jnp.sum(jnp.square(theirs[None] - centre), axis=-1))  # [I, J]
    median = weighted_median(distance, edge * has[None])[:, None]
    radius = jnp.maximum(RADIUS * median, LEAST_RADIUS * base.size**0.5)
    return jnp.where(distance > radius, 0.0, edge)
