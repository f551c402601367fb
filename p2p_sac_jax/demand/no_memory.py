"""The memory that remembers nothing: for environments without a demand model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.demand.base import PriceMemory, Regions
from p2p_sac_jax.types import (
    Array,
    Candidates,
    DemandStatistics,
    DemandSummary,
    Experience,
    Prior,
)


class Nothing(NamedTuple):
    """The state, and the posterior, of a memory without content."""


def make_no_memory() -> PriceMemory:
    """A price memory whose every answer is that nothing is known."""
    empty = np.zeros(0, np.float32)
    base_prior = Prior(mean=empty, covariance=np.zeros((0, 0), np.float32))

    def init() -> Nothing:
        return Nothing()

    def update(
        state: Nothing, experience: Experience, decay: Array, active: Array
    ) -> Nothing:
        del experience, decay, active
        return state

    def posterior(state: Nothing, prior: Prior) -> Any:
        del prior
        return state

    def summary(state: Nothing) -> DemandSummary:
        del state
        return DemandSummary(jnp.zeros((0, 0)), jnp.zeros(0), jnp.zeros(()))

    def statistics(state: Nothing) -> DemandStatistics:
        del state
        zero = jnp.zeros(())
        return DemandStatistics(jnp.zeros((0, 0)), jnp.zeros(0), zero, zero)

    def exploration_bonus(
        posterior: Any, candidates: Candidates, action: Array
    ) -> Array:
        del posterior, candidates, action
        return jnp.zeros(())

    def optimal_exploration_std(
        posterior: Any, candidates: Candidates, action: Array, key: Array
    ) -> Array:
        del posterior, candidates, action, key
        return jnp.zeros(())

    def promising_regions(
        posterior: Any, candidates: Candidates, key: Array
    ) -> Regions:
        del posterior, candidates, key
        return Regions(*(jnp.zeros(3) for _ in Regions._fields))

    return PriceMemory(
        init=init,
        base_prior=base_prior,
        update=update,
        posterior=posterior,
        summary=summary,
        statistics=statistics,
        exploration_bonus=exploration_bonus,
        optimal_exploration_std=optimal_exploration_std,
        promising_regions=promising_regions,
    )
