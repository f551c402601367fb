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
from p2p_sac_jax.types import Array, Experience, Prior


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
    )
