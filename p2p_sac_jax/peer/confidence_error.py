"""What a peer's confidence is worth: its values against Monte-Carlo returns."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.peer.components import PeerComponents
from p2p_sac_jax.sac.sac import SacState
from p2p_sac_jax.types import Array, Insight


class Lived(NamedTuple):
    """An episode of T greedy steps."""

    obs: Array  # [T, D]
    reward: Array  # [T]
    final_obs: Array  # [T, D] true successor of each step
    terminated: Array  # [T] bool
    truncated: Array  # [T] bool


class ConfidenceError(NamedTuple):
    """Claims beside what happened, by context cell."""

    confidence: Array  # [K] as claimed
    error: Array  # [K] |claimed state value - mean return|, own reward units
    visits: Array  # [K] steps of the episode in the cell, 0 where nothing is claimed


def rate(
    components: PeerComponents,
    learner: SacState,
    claims: Insight,
    lived: Lived,
    potential: Array,
    discount: Array,
    key: Array,
) -> ConfidenceError:
    """Holds an insight's values against the discounted returns of one episode.

    Returns run to the end of an episode or are cut there by the peer's own value,
    as truncation is. The entropy bonus is part of the claimed soft values and not of
    the returns; late in training it is small.

    Args:
      components: the peer's functions.
      learner: its critics.
      claims: its insight of the same moment.
      lived: the episode.
      potential: [K] what shaping takes off the learner's values.
      discount: [] gamma.
      key: typed key.
    """
    _, tail = components.sac.value(learner, lived.final_obs, key)  # [T]
    tail = tail + potential[jax.vmap(components.cell)(lived.final_obs)]
    last = jnp.arange(tail.shape[0]) == tail.shape[0] - 1
    cut = lived.truncated | last

    def back(after: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, terminated, cut, tail = step
        future = jnp.where(terminated, 0.0, jnp.where(cut, tail, after))
        now = reward + discount * future
        return now, now

    steps = lived.reward, lived.terminated, cut, tail
    _, returns = jax.lax.scan(back, jnp.zeros(()), steps, reverse=True)
    cells = jax.vmap(components.cell)(lived.obs)
    member = jax.nn.one_hot(cells, components.num_cells, dtype=jnp.float32)  # [T, K]
    visits = jnp.sum(member, axis=0)
    mean = (returns @ member) / jnp.maximum(visits, 1.0)
    known = (visits > 0.0) & (claims.valid > 0.0)
    return ConfidenceError(
        confidence=claims.confidence,
        error=jnp.where(known, jnp.abs(claims.state_value - mean), 0.0),
        visits=jnp.where(known, visits, 0.0),
    )
