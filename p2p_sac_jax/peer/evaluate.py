"""Evaluation of one peer: its greedy policy, and its values against returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.behaviour import greedy_policy
from p2p_sac_jax.peer.context import (
    CONFIDENCE_ERROR,
    EVALUATE,
    PeerComponents,
    stream,
)
from p2p_sac_jax.peer.message import local_summary, sample_observations
from p2p_sac_jax.peer.model_rollouts import model_blend_weight
from p2p_sac_jax.peer.state import PeerState
from p2p_sac_jax.types import Array, Insight, Score


class Episode(NamedTuple):
    """T greedy steps."""

    obs: Array  # [T, D]
    reward: Array  # [T]
    final_obs: Array  # [T, D] true successor of each step
    terminated: Array  # [T] bool
    truncated: Array  # [T] bool


class ConfidenceError(NamedTuple):
    """Confidence beside the error of the values it was given to, by context cell."""

    confidence: Array  # [K] of the insight
    error: Array  # [K] |state value - mean return|, own reward units
    visits: Array  # [K] steps of the episode in the cell, 0 where it has no value


class Evaluation(NamedTuple):
    """The greedy policy over a number of steps, and the episodes that end in them."""

    score: Score  # mean per step
    episode_return: Array  # [] reward summed over an episode, see ``mean_return``
    confidence_error: ConfidenceError


def evaluate(
    components: PeerComponents,
    state: PeerState,
    params: Any,
    hyper: Hyper,
    clock: Array,
) -> Evaluation:
    """Runs the greedy policy from ``reset`` on keys of its own.

    Args:
      components: the peer's functions.
      state: of the peer.
      params: environment parameters.
      hyper: of the run.
      clock: [] int32 step of the shared clock.
    """
    environment = components.environment
    share = model_blend_weight(hyper.memory, state.steps, state.normalised_error)
    policy = greedy_policy(components, state.learner, state.belief, share, params)
    start = environment.reset(stream(state.key, EVALUATE, 0), params)

    def body(
        carry: tuple[Any, Array], step: Array
    ) -> tuple[Any, tuple[Score, Episode]]:
        world, obs = carry
        key = stream(state.key, EVALUATE, step)
        result = environment.step(key, world, policy(obs), params)
        row = Episode(
            obs, result.reward, result.final_obs, result.terminated, result.truncated
        )
        return (result.state, result.obs), (environment.score(result.info), row)

    steps = 1 + jnp.arange(components.evaluation_steps)
    _, (scores, episode) = jax.lax.scan(body, start, steps)
    sample = sample_observations(components, state.replay, state.key, clock)
    summary = local_summary(components, state, sample, hyper.exchange, clock)
    key = stream(state.key, CONFIDENCE_ERROR, clock)
    return Evaluation(
        score=jax.tree.map(jnp.mean, scores),
        episode_return=mean_return(episode),
        confidence_error=confidence_error(
            components, state, summary.insight, episode, hyper.sac.discount, key
        ),
    )


def mean_return(episode: Episode) -> Array:
    """[] mean return of the episodes that end within T steps, undiscounted.

    What follows the last end belongs to an episode that is not over, and does not
    count. Where none ends, the T steps are the episode.
    """
    ends = jnp.logical_or(episode.terminated, episode.truncated)
    over = jnp.cumsum(ends[::-1])[::-1] > 0  # [T] an end lies ahead, or here
    episodes = jnp.sum(ends)
    counted = jnp.where(over | (episodes == 0), episode.reward, 0.0)
    return jnp.sum(counted) / jnp.maximum(episodes, 1)


def confidence_error(
    components: PeerComponents,
    state: PeerState,
    insight: Insight,
    episode: Episode,
    discount: Array,
    key: Array,
) -> ConfidenceError:
    """Compares an insight's values with the discounted returns of one episode.

    Returns run to the end of an episode or are cut there by the peer's own value,
    as truncation is. The entropy bonus is part of the soft values and not of the
    returns; late in training it is small.

    Args:
      components: the peer's functions.
      state: of the peer, at the time of the insight.
      insight: of the peer.
      episode: greedy steps.
      discount: [] gamma.
      key: typed key.
    """
    _, tail = components.sac.value(state.learner, episode.final_obs, key)  # [T]
    tail = tail + state.potential[jax.vmap(components.cell)(episode.final_obs)]
    last = jnp.arange(tail.shape[0]) == tail.shape[0] - 1
    cut = episode.truncated | last

    def back(after: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, terminated, cut, tail = step
        future = jnp.where(terminated, 0.0, jnp.where(cut, tail, after))
        now = reward + discount * future
        return now, now

    steps = episode.reward, episode.terminated, cut, tail
    _, returns = jax.lax.scan(back, jnp.zeros(()), steps, reverse=True)
    cells = jax.vmap(components.cell)(episode.obs)
    member = jax.nn.one_hot(cells, components.num_cells, dtype=jnp.float32)  # [T, K]
    visits = jnp.sum(member, axis=0)
    mean = (returns @ member) / jnp.maximum(visits, 1.0)
    known = (visits > 0.0) & (insight.valid > 0.0)
    return ConfidenceError(
        confidence=insight.confidence,
        error=jnp.where(known, jnp.abs(insight.state_value - mean), 0.0),
        visits=jnp.where(known, visits, 0.0),
    )
