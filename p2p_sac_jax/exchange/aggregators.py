"""How the messages of several senders become one: a weighted mean and robust means.

The mean is factorised as edge weight x sender weight. In a robust mean the sender
weight, which rests on what the sender states of itself (confidence, recency, counts),
only decides *whether* the sender counts in a cell; how much it counts follows from the
receiver's own edge weight alone. Otherwise an inflated confidence would outvote the
honest. Entries that are not finite, or beyond ±1e9, do not count. A sender's *vector*
holds all its entries, over the cells in which it counts. Of n neighbours up to
f = floor(byzantine_fraction · n) may be byzantine.

A new aggregator is one function, one entry of ``AGGREGATORS``, and its NumPy reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.exchange.order_statistics import (
    byzantine_counts,
    trimmed_mean,
    weighted_median,
)
from p2p_sac_jax.exchange.sanitize import MAX_ABS_VALUE
from p2p_sac_jax.types import Array

# Below this, float32 products of weights lose their digits: the mass counts as 0.
MIN_MASS = 1e-30
WEISZFELD_STEPS = 32
_SMOOTHING = 1e-2  # of the median distance; keeps Weiszfeld from sticking to a message
_FAR = 1e30  # squared distance of senders that share no cell
_TINY = 1e-12


def weighted_mean(
    edge_weight: Array, sender_weight: Array, x: Array
) -> tuple[Array, Array]:
    """Mean of x over senders, of weight ``edge_weight[i, j] · sender_weight[j, k]``.

    Both sums are contractions over senders, O(IJK); no [I, J, K] array is formed.

    Args:
      edge_weight: [I, J] non-negative.
      sender_weight: [J, K] non-negative.
      x: [J, K] or [J, K, A]; read only where its sender weight is positive.

    Returns:
      mean [I, K] or [I, K, A], and mass [I, K], the unnormalised sum of weights.
      Both are exactly 0 where no weight reaches the receiver.
    """
    extra = (1,) * (x.ndim - sender_weight.ndim)
    weight = sender_weight.reshape(sender_weight.shape + extra)
    term = jnp.where(weight > 0.0, weight * x, 0.0)
    mass = jnp.einsum("ij,jk->ik", edge_weight, sender_weight, precision="highest")
    total = jnp.einsum("ij,jk...->ik...", edge_weight, term, precision="highest")
    reached = mass > MIN_MASS
    mass = jnp.where(reached, mass, 0.0)
    shape = mass.shape + extra
    divisor = jnp.where(reached, mass, 1.0).reshape(shape)
    return jnp.where(reached.reshape(shape), total / divisor, 0.0), mass


def _mean(
    edge_weight: Array, sender_weight: Array, x: Array, *_: Any, **__: Any
) -> tuple[Array, Array]:
    """``weighted_mean`` as an aggregator; not robust."""
    return weighted_mean(edge_weight, sender_weight, x)


class AggregatorInputs(NamedTuple):
    """Filtered entries: everything finite, and 0 where a sender does not count."""

    edge: Array  # [I, J] edge weight relative to the largest of its row
    edge_weight: Array  # [I, J, K] the same where the sender counts, else 0
    has_data: Array  # [J, K] 1 where the sender counts, else 0
    x: Array  # [J, K, A]
    own: Array  # [I, K, A]
    own_has_data: Array  # [I, K] 1 where the receiver has data, else 0
    counts: np.ndarray  # [J + 1] f by number of senders
    byzantine_fraction: float


# Estimates [I, K, A], and whether any sender reaches the receiver [I, K].
_Method = Callable[[AggregatorInputs], tuple[Array, Array]]
# Edge weight, sender weight, x, own, own weight, share of byzantine neighbours, as
# below -> mean and mass.
Aggregator = Callable[..., tuple[Array, Array]]


def _robust(method: _Method) -> Aggregator:
    """Filters entries before ``method``, and adds the mass and exact zeros after."""

    def aggregate(
        edge_weight: Array,
        sender_weight: Array,
        x: Array,
        own: Array,
        own_weight: Array,
        byzantine_fraction: float,
    ) -> tuple[Array, Array]:
        """How the entries of J senders become one, for each of I receivers.

        Args:
          edge_weight: [I, J] non-negative weight of j for i.
          sender_weight: [J, K] non-negative; 0 where j has no data.
          x: [J, K] or [J, K, A]; read only where its sender weight is positive.
          own: [I, K] or [I, K, A] the same of the receivers themselves.
          own_weight: [I, K]; 0 where the receiver has no data.
          byzantine_fraction: share of byzantine neighbours in [0, 0.5), static.

        Returns:
          mean, shaped like ``own``, and mass [I, K]; both exactly 0 where no weight
          reaches the receiver. The mass of a robust mean is the sum of the edge weights
          in the cell times the weighted median of their sender weights.
        """
        shape = jnp.shape(own)
        has_data, x = _filter(sender_weight, x)
        own_has_data, own = _filter(own_weight, own)
        largest = jnp.max(edge_weight, axis=-1, keepdims=True)
        edge = edge_weight / jnp.where(largest > 0.0, largest, 1.0)
        by_cell = edge[:, :, None] * has_data[None]
        counts = byzantine_counts(byzantine_fraction, edge.shape[1])
        inputs = AggregatorInputs(
            edge, by_cell, has_data, x, own, own_has_data, counts, byzantine_fraction
        )
        estimate, reached = method(inputs)
        typical = weighted_median(
            jnp.broadcast_to((has_data * sender_weight)[None], by_cell.shape), by_cell
        )
        mass = largest * jnp.sum(by_cell, axis=1) * typical
        reached = reached & (mass > MIN_MASS)
        mean = jnp.where(reached[:, :, None], estimate, 0.0)
        return mean.reshape(shape), jnp.where(reached, mass, 0.0)

    return aggregate


def _filter(weight: Array, x: Array) -> tuple[Array, Array]:
    """Where a sender counts, [J, K] of 0 and 1, and x [J, K, A] with 0 elsewhere."""
    x = x if x.ndim == 3 else x[:, :, None]
    sound = jnp.all((x <= MAX_ABS_VALUE) & (x >= -MAX_ABS_VALUE), axis=-1)
    has_data = (weight > 0.0) & sound
    return jnp.where(has_data, 1.0, 0.0), jnp.where(has_data[:, :, None], x, 0.0)


def _per_coordinate(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Entries and their edge weights, broadcast to [I, J, K, A] each."""
    shape = (*inputs.edge_weight.shape, inputs.x.shape[-1])
    x = jnp.broadcast_to(inputs.x[None], shape)
    return x, jnp.broadcast_to(inputs.edge_weight[:, :, :, None], shape)


def _any_sender(inputs: AggregatorInputs) -> Array:
    """[I, K] True where any sender reaches the receiver."""
    return jnp.any(inputs.edge_weight > 0.0, axis=1)


def _median(inputs: AggregatorInputs) -> tuple[Array, Array]:
    return weighted_median(*_per_coordinate(inputs)), _any_sender(inputs)


def _trimmed_mean(inputs: AggregatorInputs) -> tuple[Array, Array]:
    x, edge_weight = _per_coordinate(inputs)
    return trimmed_mean(x, edge_weight, inputs.byzantine_fraction), _any_sender(inputs)


def _geometric_median(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """argmin_z Σ_j edge_j ‖x_j - z‖ by smoothed Weiszfeld (Pillutla et al. 2022).

    Each norm is over the cells in which its sender counts. Starts at the median.
    """
    start, reached = _median(inputs)

    def step(z: Array, smoothing: Array) -> Array:
        gap = inputs.x[None] - z[:, None]  # [I, J, K, A]
        distance = jnp.sqrt(_squares(inputs, gap) + jnp.square(smoothing))
        pull = inputs.edge_weight / jnp.maximum(distance, _TINY)[:, :, None]
        total = jnp.sum(pull, axis=1)[:, :, None]
        moved = jnp.sum(pull[:, :, :, None] * gap, axis=1)
        return z + moved / jnp.where(total > 0.0, total, 1.0)

    distance = jnp.sqrt(_squares(inputs, inputs.x[None] - start[:, None]))
    smoothing = _SMOOTHING * weighted_median(distance, _edge(inputs))[:, None]
    z = jax.lax.fori_loop(0, WEISZFELD_STEPS, lambda _, z: step(z, smoothing), start)
    return z, reached


def _centred_clipping(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Own + Σ_j edge_j clip(x_j - own, τ) / Σ_j edge_j (He, Karimireddy & Jaggi 2022).

    Distances are root mean squares over the cells in which the sender counts; τ is the
    receiver's weighted median of them. Where the receiver has no data itself, the
    median of its senders takes the place of its own entry.
    """
    median, reached = _median(inputs)
    centre = jnp.where(inputs.own_has_data[:, :, None] > 0.0, inputs.own, median)
    gap = inputs.x[None] - centre[:, None]  # [I, J, K, A]
    coordinates = jnp.sum(inputs.has_data, axis=-1) * inputs.x.shape[-1]
    mean_square = _squares(inputs, gap) / jnp.maximum(coordinates, 1.0)[None]
    distance = jnp.sqrt(mean_square)
    radius = weighted_median(distance, _edge(inputs))[:, None]
    outside = distance > radius
    shrink = jnp.where(outside, radius / jnp.where(outside, distance, 1.0), 1.0)
    pull = (inputs.edge_weight * shrink[:, :, None])[:, :, :, None]
    total = jnp.sum(inputs.edge_weight, axis=1)[:, :, None]
    moved = jnp.sum(pull * gap, axis=1) / jnp.where(total > 0.0, total, 1.0)
    return centre + moved, reached


def _krum(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """The vector of the sender with the least score (Blanchard et al. 2017).

    A score is the sum of squared distances to the n - f - 2 nearest, at least one.
    Senders of exactly the same score, as two are that are each other's only nearest,
    are averaged, so that the result does not depend on the order of peers. Where the
    chosen sender has no data the mass is 0.
    """
    return _best(inputs, jnp.ones_like(_number(inputs)))


def _multi_krum(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Weighted mean of the n - f senders with the least Krum scores."""
    return _best(inputs, _honest(inputs))


def _best(inputs: AggregatorInputs, keep: Array) -> tuple[Array, Array]:
    """Weighted mean over the ``keep`` [I] senders of the least score."""
    reached, n = _edge(inputs) > 0.0, _number(inputs)
    senders = reached.shape[1]
    others = reached[:, None] & ~jnp.eye(senders, dtype=bool)[None]
    distance = jnp.where(others, _distances(inputs)[None], jnp.inf)  # [I, J, J]
    nearest = jnp.minimum(jnp.maximum(_honest(inputs) - 2, 1), n - 1)
    counted = np.arange(senders)[None] < nearest[:, None]
    near = jnp.where(counted[:, None], jnp.sort(distance, axis=-1), 0.0)
    score = jnp.where(reached, jnp.sum(near, axis=-1), jnp.inf)
    chosen = reached & (score <= _smallest(score, keep))
    edge_weight = jnp.where(chosen[:, :, None], inputs.edge_weight, 0.0)
    total = jnp.sum(edge_weight, axis=1)
    mean = jnp.einsum("ijk,jka->ika", edge_weight, inputs.x, precision="highest")
    return mean / jnp.where(total > 0.0, total, 1.0)[:, :, None], total > 0.0


def _nearest_neighbour(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Trimmed mean of vectors mixed with their nearest (Allouah et al. 2023).

    Each sender's vector becomes the weighted mean of the n - f nearest to it, itself
    included, cell by cell over those of them that count there.
    """
    reached = _edge(inputs) > 0.0
    distance = jnp.where(reached[:, None], _distances(inputs)[None], jnp.inf)
    least = _smallest(distance, _honest(inputs)[:, None])
    near = jnp.where(reached[:, None] & (distance <= least), 1.0, 0.0)  # [I, J, J]
    weighted = inputs.edge_weight[:, :, :, None] * inputs.x[None]
    total = jnp.einsum("ijl,ilk->ijk", near, inputs.edge_weight, precision="highest")
    mixed = jnp.einsum("ijl,ilka->ijka", near, weighted, precision="highest")
    mixed = mixed / jnp.where(total > 0.0, total, 1.0)[:, :, :, None]
    _, edge_weight = _per_coordinate(inputs)
    return trimmed_mean(mixed, edge_weight, inputs.byzantine_fraction), _any_sender(
        inputs
    )


def _edge(inputs: AggregatorInputs) -> Array:
    """Edges [I, J] from the senders that count in any cell."""
    return inputs.edge * jnp.max(inputs.has_data, axis=-1)[None]


def _number(inputs: AggregatorInputs) -> Array:
    """n: how many senders [I] reach a receiver."""
    return jnp.sum(_edge(inputs) > 0.0, axis=-1)


def _honest(inputs: AggregatorInputs) -> Array:
    """How many of them [I] are honest at least, n - f."""
    n = _number(inputs)
    return n - jnp.take(inputs.counts, n)


def _squares(inputs: AggregatorInputs, gap: Array) -> Array:
    """Squared norms [I, J] of gaps [I, J, K, A] over the cells in which j counts."""
    return jnp.einsum(
        "jk,ijka->ij", inputs.has_data, jnp.square(gap), precision="highest"
    )


def _distances(inputs: AggregatorInputs) -> Array:
    """Mean squared differences [J, J] over the coordinates two senders share."""
    gap = inputs.x[:, None] - inputs.x[None]  # [J, J, K, A]
    common = inputs.has_data[:, None] * inputs.has_data[None]
    total = jnp.sum(common * jnp.sum(jnp.square(gap), axis=-1), axis=-1)
    coordinates = jnp.sum(common, axis=-1) * inputs.x.shape[-1]
    mean = total / jnp.maximum(coordinates, 1.0)
    return jnp.where(coordinates > 0.0, mean, _FAR)


def _smallest(x: Array, rank: Array) -> Array:
    """The ``rank``-th smallest along the last axis, kept, counted from 1."""
    at = jnp.broadcast_to(jnp.maximum(rank - 1, 0)[..., None], (*x.shape[:-1], 1))
    return jnp.take_along_axis(jnp.sort(x, axis=-1), at, axis=-1)


AGGREGATORS: dict[str, Aggregator] = {
    "mean": _mean,
    "median": _robust(_median),
    "trimmed_mean": _robust(_trimmed_mean),
    "geometric_median": _robust(_geometric_median),
    "krum": _robust(_krum),
    "multi_krum": _robust(_multi_krum),
    "centred_clipping": _robust(_centred_clipping),
    "nearest_neighbour": _robust(_nearest_neighbour),
}
