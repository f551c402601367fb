"""The memory that remembers nothing: for environments without a demand model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from p2p_sac_jax.coefficients import make_base_prior
from p2p_sac_jax.demand.base import (
    NUM_REGIONS,
    PriceMemory,
    Regions,
    empty_statistics,
    empty_summary,
)
from p2p_sac_jax.types import Array, Candidates, Experience, Prior


class Nothing(NamedTuple):
    """The state, and the posterior, of a memory without content."""


def make_no_memory() -> PriceMemory:
    """A price memory whose every answer is that nothing is known."""

    def update(
        state: Nothing, experience: Experience, decay: Array, active: Array
    ) -> Nothing:
        del experience, decay, active
        return state

    def posterior(state: Nothing, prior: Prior) -> Any:
        del prior
        return state

    def zero(*_: Any) -> Array:
        return jnp.zeros(())

    def no_regions(*_: Any) -> Regions:
        return Regions(*(jnp.zeros(NUM_REGIONS) for _ in Regions._fields))

    def first_action(belief: Any, candidates: Candidates) -> Array:
        del belief
        return candidates.actions[0]

    def first_actions(
        belief: Any, candidates: Candidates, key: Array, draws: int
    ) -> Array:
        del belief, key
        return jnp.repeat(candidates.actions[:1], draws, axis=0)

    return PriceMemory(
        init=Nothing,
        base_prior=make_base_prior(()),
        update=update,
        posterior=posterior,
        summary=empty_summary,
        statistics=empty_statistics,
        exploration_bonus=zero,
        optimal_exploration_std=zero,
        promising_regions=no_regions,
        best_action=first_action,
        draw_actions=first_actions,
    )
