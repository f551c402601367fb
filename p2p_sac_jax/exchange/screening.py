"""Screens senders whose demand curve fits neither the others nor the receiver's data.

Demand statistics are sums, pooled by their precision; a robust mean of sums has no
meaning. A sender is therefore kept or left out as a whole, whatever the aggregator.
What it states of its own precision buys it no vote on who is left out.
"""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.exchange.demand_prior import SPREAD_CAP
from p2p_sac_jax.exchange.order_statistics import weighted_median
from p2p_sac_jax.exchange.trust import coefficients
from p2p_sac_jax.types import Array, DemandSummary

# By simulation: peers that differ by the guessed spread, 3 to 104 weeks of data, one
# byzantine of 3 to 5 peers, 3 of 10, 5 of 16. Of the honest .97 or more are kept, also
# beside byzantine peers, and .73 or more where they differ twice as much; of flipped
# signs, large noise and the steepest curve .2 or less, mostly none.
LIMIT = 3.0  # standard deviations from the others in any coefficient
NEAR = 2.0  # within which a sender counts in their mean
SPREAD_SENDERS = 16.0  # senders that the guess of the spread is worth
_CHI_SQUARE_MEDIAN = 0.4549  # of one degree of freedom
_TINY = 1e-6


def screen_demand(
    edge: Array, summaries: DemandSummary, own: DemandSummary, base: BasePrior
) -> Array:
    """Edges without the senders whose demand curve cannot be that of such a peer.

    Coefficient by coefficient, coefficients of peers are draws of N(μ, T), T the
    guessed spread. A sender whose data know one to a variance of 1/e weighs e/(1 + eT),
    at most the median of all, so that no one outweighs the others by stating much. The
    receiver itself counts as one more, and the base prior as another. From their
    weighted median come those near it, and from these, without the sender itself, a
    mean of variance U. Left out is who is further from that mean than 3 standard
    deviations √(1/e + T + U), widened where most are far apart.

    Args:
      edge: [I, J] non-negative.
      summaries: sanitized, of the senders, leaves [J, ...].
      own: the receivers' own data, leaves [I, ...].
      base: prior of a peer that knows nothing, [F] and a *diagonal* [F, F].

    Returns:
      [I, J], each entry that of ``edge`` or 0; ``edge`` itself for F = 0, where there
      is no demand curve.
    """
    if base.size == 0:
        return edge
    widest = jnp.diagonal(jnp.asarray(base.covariance))
    guess = jnp.minimum(base.spread, SPREAD_CAP * widest)
    spread, mean = guess[None, None], base.mean[None, None]
    prior = 1.0 / (widest - guess)[None, None]
    # Axis 1 holds the J senders and, last, the receiver itself.
    evidence, centre = (
        _with_own(theirs, mine)
        for theirs, mine in zip(
            _evidence(summaries, base), _evidence(own, base), strict=True
        )
    )  # [I, J + 1, F]
    present = jnp.where((edge > 0.0) & (summaries.count > 0.0)[None], edge, 0.0)
    relative = present / jnp.maximum(jnp.max(present, -1, keepdims=True), _TINY)
    knows = jnp.where(own.count > 0.0, 1.0, 0.0)[:, None]
    share = jnp.concatenate([relative, knows], axis=1)[:, :, None] + 0.0 * centre
    member = jnp.where(share > 0.0, 1.0, 0.0)

    stated = evidence / (1.0 + evidence * spread)
    weight = share * jnp.minimum(stated, weighted_median(stated, member)[:, None])
    variance = 1.0 / jnp.maximum(evidence, _TINY) + spread

    def with_prior(x: Array, of_prior: Array) -> Array:
        rest = jnp.broadcast_to(of_prior, (x.shape[0], 1, x.shape[2]))
        return jnp.concatenate([x, rest], axis=1)

    weights = with_prior(weight, prior)
    middle = weighted_median(with_prior(centre, mean), weights)[:, None]
    total = jnp.sum(weights, axis=1, keepdims=True)
    square = jnp.square(centre - middle) / (variance + 1.0 / total)
    typical = weighted_median(square, member)[:, None] / _CHI_SQUARE_MEDIAN
    # Two are as far from their middle as from each other, which shows no spread.
    number = jnp.maximum(jnp.sum(member, axis=1, keepdims=True) - 2.0, 0.0)
    wider = (SPREAD_SENDERS + number * typical) / (SPREAD_SENDERS + number)
    wider = jnp.maximum(wider, 1.0)

    near = jnp.where(square <= NEAR**2 * wider, weight, 0.0)
    near = near.at[:, -1].set(weight[:, -1])
    theirs = near[:, :-1]
    left = prior + jnp.sum(near, axis=1, keepdims=True) - theirs  # [I, J, F]
    pull = prior * mean + jnp.sum(near * centre, axis=1, keepdims=True)
    gap = centre[:, :-1] - (pull - theirs * centre[:, :-1]) / left
    square = jnp.square(gap) / (variance[:, :-1] + 1.0 / left)
    return jnp.where(jnp.any(square > LIMIT**2 * wider, axis=-1), 0.0, edge)


def _evidence(summaries: DemandSummary, base: BasePrior) -> tuple[Array, Array]:
    """What data add to the base prior, by coefficient: precision, and mean [_, F]."""
    mean, variance = coefficients(summaries, base)
    prior = 1.0 / jnp.diagonal(jnp.asarray(base.covariance))[None]
    precision = jnp.maximum(1.0 / variance - prior, 0.0)
    informed = precision > _TINY
    shift = mean / variance - prior * base.mean[None]
    centre = shift / jnp.where(informed, precision, 1.0)
    return precision, jnp.where(informed, centre, base.mean[None])


def _with_own(theirs: Array, mine: Array) -> Array:
    """Senders' [J, F] for every receiver, and its own [I, F]: [I, J + 1, F]."""
    everyone = jnp.broadcast_to(theirs[None], (len(mine), *theirs.shape))
    return jnp.concatenate([everyone, mine[:, None]], axis=1)
