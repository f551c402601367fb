"""The protocol of every price memory, and Thompson sampling over candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.types import (
    Array,
    Candidates,
    DemandStatistics,
    DemandSummary,
    Experience,
    Prior,
)

MemoryState = Any

STD_DRAWS = 64  # Thompson draws behind one exploration std
REGION_DRAWS = 256  # and behind the probabilities of the promising regions
NUM_REGIONS = 3


class Posterior(NamedTuple):
    """The belief of a memory; the binned memory has a context axis ``C`` in front."""

    mean: Array  # [F] demand coefficients, or [C, K] rewards
    covariance: Array  # [F, F] or [C, K, K]
    noise_variance: Array  # [] of log sales, or of reward
    factor: Array  # [F, F] or [C, K, r]: L with L Lᵀ = covariance


class Regions(NamedTuple):
    """The ``M`` candidate actions most likely to be best, most likely first."""

    lo: Array  # [M, A] lower edge of the region around the candidate
    hi: Array  # [M, A] upper edge
    probability: Array  # [M] that this action is the best
    mean: Array  # [M] expected reward, environment units
    std: Array  # [M] posterior sd of the expected reward
    count: Array  # [M] real steps at this action that would be as informative


class MemoryModel(NamedTuple):
    """What a memory of demand predicts of any price; functions of its posterior."""

    # (posterior, experience not yet learned) -> [] standardised squared error
    prediction_error: Callable[[Posterior, Experience], Array]
    # (posterior, features [..., F]) -> [...] ln(units / usual units)
    mean_log_demand: Callable[[Posterior, Array], Array]
    std_log_demand: Callable[[Posterior, Array], Array]
    # (posterior, features [..., F], normal noise [...]) -> [...]
    sample_log_demand: Callable[[Posterior, Array, Array], Array]


def _empty_summary(state: MemoryState) -> DemandSummary:
    """The summary of a memory without demand coefficients."""
    del state
    return DemandSummary(jnp.zeros((0, 0)), jnp.zeros(0), jnp.zeros(()))


def _empty_statistics(state: MemoryState) -> DemandStatistics:
    """The sums of a memory without demand coefficients."""
    del state
    zero = jnp.zeros(())
    return DemandStatistics(jnp.zeros((0, 0)), jnp.zeros(0), zero, zero)


class PriceMemory(NamedTuple):
    """A bundle of pure functions for ONE peer, and the prior it starts from.

    ``update`` leaves the state as it is where ``active`` is 0. ``summary`` holds own
    data alone, never a prior nor what neighbours sent, so that nothing is counted
    twice when it is passed on.
    """

    init: Callable[[], MemoryState]
    base_prior: BasePrior  # without coefficients where nothing is known of demand
    # (state, experience, decay, active) -> state
    update: Callable[[MemoryState, Experience, Array, Array], MemoryState]
    posterior: Callable[[MemoryState, Prior], Posterior]
    # (posterior, candidates, action [A]) -> [] in [0, 1]
    exploration_bonus: Callable[[Posterior, Candidates, Array], Array]
    # (posterior, candidates, key, S) -> [S, N] worth of the candidates in each of S
    # draws, up to a positive factor for each draw
    draw_values: Callable[[Posterior, Candidates, Array, int], Array]
    # (posterior, candidates) -> [N] expected worth, up to a positive factor
    mean_values: Callable[[Posterior, Candidates], Array]
    # (posterior, candidates) -> [N] each: expected reward, its posterior sd, evidence
    # in real steps
    rewards: Callable[[Posterior, Candidates], tuple[Array, Array, Array]]
    summary: Callable[[MemoryState], DemandSummary] = _empty_summary
    # The sums behind the summary
    statistics: Callable[[MemoryState], DemandStatistics] = _empty_statistics
    model: MemoryModel | None = None  # None: other prices cannot be predicted

    def best_action(self, belief: Posterior, candidates: Candidates) -> Array:
        """``[A]`` best candidate under the posterior mean."""
        best = jnp.argmax(self.mean_values(belief, candidates))
        return jnp.asarray(candidates.actions)[best]

    def draw_actions(
        self, belief: Posterior, candidates: Candidates, key: Array, draws: int
    ) -> Array:
        """``[S, A]`` best candidate of each of ``S`` posterior draws."""
        values = self.draw_values(belief, candidates, key, draws)
        return jnp.asarray(candidates.actions)[jnp.argmax(values, axis=-1)]

    def optimal_exploration_std(
        self, belief: Posterior, candidates: Candidates, action: Array, key: Array
    ) -> Array:
        """Root mean square distance from ``action`` [A] to the best action of a draw.

        Returns:
          ``[]`` in action units, unclipped: how far the action could be off, as far as
          is known.
        """
        best = self.draw_actions(belief, candidates, key, STD_DRAWS)
        return jnp.sqrt(jnp.mean((best - jnp.expand_dims(action, 0)) ** 2))

    def promising_regions(
        self, belief: Posterior, candidates: Candidates, key: Array
    ) -> Regions:
        """The candidates that win most Thompson draws, with the cell around each.

        Args:
          belief: of this memory.
          candidates: ``N >= NUM_REGIONS`` candidates in ascending order of action.
          key: typed key.

        Returns:
          ``NUM_REGIONS`` regions; neighbouring candidates share an edge half-way.
        """
        values = self.draw_values(belief, candidates, key, REGION_DRAWS)
        wins = jax.nn.one_hot(jnp.argmax(values, axis=-1), values.shape[-1])
        probability, index = jax.lax.top_k(jnp.mean(wins, axis=0), NUM_REGIONS)
        actions = jnp.asarray(candidates.actions)
        middle = 0.5 * (actions[1:] + actions[:-1])
        lo = jnp.concatenate([actions[:1], middle])
        hi = jnp.concatenate([middle, actions[-1:]])
        mean, std, count = self.rewards(belief, candidates)
        return Regions(
            lo[index], hi[index], probability, mean[index], std[index], count[index]
        )
