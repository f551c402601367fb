"""Robust means over neighbours, some of whom lie.

What a sender claims of itself (confidence, recency, counts) only decides *whether* it
has a voice in a cell; how loud it is, only the receiver's own ``edge`` says. Else an
inflated confidence would outvote the honest. Claims that are not finite, or beyond
±1e9, are no voice. A sender's *vector* is all it says, over the cells it speaks on.
With n neighbours heard, f = floor(tolerated·n) of them may lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

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

# Below this float32 products of weights lose their digits: the network is silent.
MIN_MASS = 1e-30
WEISZFELD_STEPS = 32
_SMOOTHING = 1e-2  # of the median distance; keeps Weiszfeld from sticking to a claim
_FAR = 1e30  # squared distance of senders that share no cell
_TINY = 1e-12


class Aggregator(Protocol):
    """How the claims of J senders become one, for each of I receivers."""

    def __call__(
        self,
        edge: Array,
        weight: Array,
        x: Array,
        own: Array,
        own_weight: Array,
        byzantine_fraction: float,
    ) -> tuple[Array, Array]:
        """Aggregates claims.

        Args:
          edge: [I, J] non-negative; how loud j is for i, 0 where it is not heard.
          weight: [J, K] non-negative; 0 where j does not speak.
          x: [J, K] or [J, K, A] claims; read only where its sender speaks.
          own: [I, K] or [I, K, A] the same of the receivers themselves.
          own_weight: [I, K]; 0 where the receiver knows nothing.
          byzantine_fraction: share of neighbours that may lie, in [0, 0.5), static.

        Returns:
          mean, shaped like ``own``, and mass [I, K]; both exactly 0 where nobody is
          heard. The mass of a robust mean is the sum of the voices heard in the cell
          times the weighted median of their weights.
        """
        ...


class AggregatorInputs(NamedTuple):
    """Filtered claims: everything finite, and 0 where there is no voice."""

    edge: Array  # [I, J] relative to the loudest in its row
    edge_weight: Array  # [I, J, K] edge where the sender speaks
    has_data: Array  # [J, K] 1 where a sender speaks, else 0
    x: Array  # [J, K, A]
    own: Array  # [I, K, A]
    knows: Array  # [I, K] 1 where the receiver knows something itself
    counts: np.ndarray  # [J + 1] f by number of voices
    byzantine_fraction: float


# What a method makes of a scene: estimates [I, K, A] and whether it hears [I, K].
_Method = Callable[[AggregatorInputs], tuple[Array, Array]]


def _robust(method: _Method) -> Aggregator:
    """Filters claims first, and gives mass and zeros where they belong after."""

    def aggregate(
        edge: Array,
        weight: Array,
        x: Array,
        own: Array,
        own_weight: Array,
        byzantine_fraction: float,
    ) -> tuple[Array, Array]:
        shape = jnp.shape(own)
        has_data, x = _filter(weight, x)
        knows, own = _filter(own_weight, own)
        loudest = jnp.max(edge, axis=-1, keepdims=True)
        edge = edge / jnp.where(loudest > 0.0, loudest, 1.0)
        edge_weight = edge[:, :, None] * has_data[None]
        counts = byzantine_counts(byzantine_fraction, edge.shape[1])
        inputs = AggregatorInputs(
            edge, edge_weight, has_data, x, own, knows, counts, byzantine_fraction
        )
        estimate, heard = method(inputs)
        typical = weighted_median(
            jnp.broadcast_to((has_data * weight)[None], edge_weight.shape), edge_weight
        )
        mass = loudest * jnp.sum(edge_weight, axis=1) * typical
        heard = heard & (mass > MIN_MASS)
        mean = jnp.where(heard[:, :, None], estimate, 0.0)
        return mean.reshape(shape), jnp.where(heard, mass, 0.0)

    return aggregate


def _filter(weight: Array, x: Array) -> tuple[Array, Array]:
    """Who speaks, [J, K] of 0 and 1, and the claims [J, K, A] with 0 elsewhere."""
    x = x if x.ndim == 3 else x[:, :, None]
    sound = jnp.all((x <= MAX_ABS_VALUE) & (x >= -MAX_ABS_VALUE), axis=-1)
    has_data = (weight > 0.0) & sound
    return jnp.where(has_data, 1.0, 0.0), jnp.where(has_data[:, :, None], x, 0.0)


def _per_coordinate(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Claims and voices spread out, [I, J, K, A] each."""
    shape = (*inputs.edge_weight.shape, inputs.x.shape[-1])
    x = jnp.broadcast_to(inputs.x[None], shape)
    return x, jnp.broadcast_to(inputs.edge_weight[:, :, :, None], shape)


def _anyone(inputs: AggregatorInputs) -> Array:
    """[I, K] True where a receiver hears anybody."""
    return jnp.any(inputs.edge_weight > 0.0, axis=1)


def _median(inputs: AggregatorInputs) -> tuple[Array, Array]:
    return weighted_median(*_per_coordinate(inputs)), _anyone(inputs)


def _trimmed_mean(inputs: AggregatorInputs) -> tuple[Array, Array]:
    x, edge_weight = _per_coordinate(inputs)
    return trimmed_mean(x, edge_weight, inputs.byzantine_fraction), _anyone(inputs)


def _geometric_median(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """argmin_z Σ_j edge_j ‖x_j - z‖ by smoothed Weiszfeld (Pillutla et al. 2022).

    Each norm is over the cells its sender speaks on. Starts at the median.
    """
    start, heard = _median(inputs)

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
    return z, heard


def _centred_clipping(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Own + Σ_j edge_j clip(x_j - own, τ) / Σ_j edge_j (He, Karimireddy & Jaggi 2022).

    Distances are root mean squares over the cells the sender speaks on; τ is the
    receiver's weighted median of them. Where the receiver knows nothing itself, the
    median of what it hears stands in.
    """
    median, heard = _median(inputs)
    centre = jnp.where(inputs.knows[:, :, None] > 0.0, inputs.own, median)
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
    return centre + moved, heard


def _krum(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """The vector of the sender with the least score (Blanchard et al. 2017).

    A score is the sum of squared distances to the n - f - 2 nearest, at least one.
    Senders of exactly the same score, as two are that are each other's only nearest,
    are averaged: no order among peers decides. Where the chosen one is silent, the
    receiver hears nothing.
    """
    return _best(inputs, jnp.ones_like(_number(inputs)))


def _multi_krum(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Weighted mean of the n - f senders with the least Krum scores."""
    return _best(inputs, _honest(inputs))


def _best(inputs: AggregatorInputs, keep: Array) -> tuple[Array, Array]:
    """Weighted mean over the ``keep`` [I] senders of the least score."""
    heard, n = _edge(inputs) > 0.0, _number(inputs)
    senders = heard.shape[1]
    others = heard[:, None] & ~jnp.eye(senders, dtype=bool)[None]
    distance = jnp.where(others, _distances(inputs)[None], jnp.inf)  # [I, J, J]
    nearest = jnp.minimum(jnp.maximum(_honest(inputs) - 2, 1), n - 1)
    counted = np.arange(senders)[None] < nearest[:, None]
    near = jnp.where(counted[:, None], jnp.sort(distance, axis=-1), 0.0)
    score = jnp.where(heard, jnp.sum(near, axis=-1), jnp.inf)
    chosen = heard & (score <= _smallest(score, keep))
    edge_weight = jnp.where(chosen[:, :, None], inputs.edge_weight, 0.0)
    total = jnp.sum(edge_weight, axis=1)
    mean = jnp.einsum("ijk,jka->ika", edge_weight, inputs.x, precision="highest")
    return mean / jnp.where(total > 0.0, total, 1.0)[:, :, None], total > 0.0


def _nearest_neighbour(inputs: AggregatorInputs) -> tuple[Array, Array]:
    """Trimmed mean of vectors mixed with their nearest (Allouah et al. 2023).

    Each sender's vector becomes the weighted mean of the n - f nearest to it, itself
    included, cell by cell over those of them who speak there.
    """
    heard = _edge(inputs) > 0.0
    distance = jnp.where(heard[:, None], _distances(inputs)[None], jnp.inf)
    least = _smallest(distance, _honest(inputs)[:, None])
    near = jnp.where(heard[:, None] & (distance <= least), 1.0, 0.0)  # [I, J, J]
    said = inputs.edge_weight[:, :, :, None] * inputs.x[None]
    total = jnp.einsum("ijl,ilk->ijk", near, inputs.edge_weight, precision="highest")
    mixed = jnp.einsum("ijl,ilka->ijka", near, said, precision="highest")
    mixed = mixed / jnp.where(total > 0.0, total, 1.0)[:, :, :, None]
    _, edge_weight = _per_coordinate(inputs)
    return trimmed_mean(mixed, edge_weight, inputs.byzantine_fraction), _anyone(inputs)


def _edge(inputs: AggregatorInputs) -> Array:
    """Edges [I, J] to the senders that say anything at all."""
    return inputs.edge * jnp.max(inputs.has_data, axis=-1)[None]


def _number(inputs: AggregatorInputs) -> Array:
    """n: how many senders [I] a receiver hears."""
    return jnp.sum(_edge(inputs) > 0.0, axis=-1)


def _honest(inputs: AggregatorInputs) -> Array:
    """How many of them [I] can be relied on, n - f."""
    n = _number(inputs)
    return n - jnp.take(inputs.counts, n)


def _squares(inputs: AggregatorInputs, gap: Array) -> Array:
    """Squared norms [I, J] of gaps [I, J, K, A] over the cells each j speaks on."""
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


median = _robust(_median)
trimmed = _robust(_trimmed_mean)
geometric_median = _robust(_geometric_median)
krum = _robust(_krum)
multi_krum = _robust(_multi_krum)
centred_clipping = _robust(_centred_clipping)
nearest_neighbour = _robust(_nearest_neighbour)
