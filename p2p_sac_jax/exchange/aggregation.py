"""How several claims become one: weighted means, and the table of all aggregators.

The mean is factorised as edge x sender; the robust ones are in ``robust``.
"""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.exchange import aggregators as robust
from p2p_sac_jax.exchange.aggregators import MIN_MASS, Aggregator
from p2p_sac_jax.types import Array


def weighted_mean(edge: Array, sender_weight: Array, x: Array) -> tuple[Array, Array]:
    """Mean of x over the senders each receiver hears.

    The weight of j's word on cell k for i is ``edge[i, j] · sender_weight[j, k]``,
    so both sums are contractions over senders, O(IJK), and no [I, J, K] array is
    formed.

    Args:
      edge: [I, J] non-negative; 0 where i does not receive from j.
      sender_weight: [J, K] non-negative.
      x: [J, K] or [J, K, A]; read only where its sender weighs anything.

    Returns:
      mean [I, K] or [I, K, A], and mass [I, K], the unnormalised sum of weights.
      Both are exactly 0 where no weight reaches the receiver.
    """
    extra = (1,) * (x.ndim - sender_weight.ndim)
    weight = sender_weight.reshape(sender_weight.shape + extra)
    term = jnp.where(weight > 0.0, weight * x, 0.0)
    mass = jnp.einsum("ij,jk->ik", edge, sender_weight, precision="highest")
    total = jnp.einsum("ij,jk...->ik...", edge, term, precision="highest")
    heard = mass > MIN_MASS
    mass = jnp.where(heard, mass, 0.0)
    shape = mass.shape + extra
    divisor = jnp.where(heard, mass, 1.0).reshape(shape)
    return jnp.where(heard.reshape(shape), total / divisor, 0.0), mass


def _mean(
    edge: Array,
    weight: Array,
    x: Array,
    own: Array,
    own_weight: Array,
    byzantine_fraction: float,
) -> tuple[Array, Array]:
    """``weighted_mean``; believes every claim."""
    del own, own_weight, byzantine_fraction
    return weighted_mean(edge, weight, x)


AGGREGATORS: dict[str, Aggregator] = {
    "mean": _mean,
    "median": robust.median,
    "trimmed_mean": robust.trimmed,
    "geometric_median": robust.geometric_median,
    "krum": robust.krum,
    "multi_krum": robust.multi_krum,
    "centred_clipping": robust.centred_clipping,
    "nearest_neighbour": robust.nearest_neighbour,
}
