"""The memory that remembers nothing: for environments without a demand model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from p2p_sac_jax.coefficients import make_base_prior
from p2p_sac_jax.demand.base import NUM_REGIONS, PriceMemory, Regions
from p2p_sac_jax.types import Array, Candidates


class Nothing(NamedTuple):
    """The state, and the posterior, of a memory without content."""


class _NoMemory(PriceMemory):
    """A price memory whose every answer is that nothing is known."""

    def optimal_exploration_std(self, *_: Any) -> Array:
        return jnp.zeros(())

    def promising_regions(self, *_: Any) -> Regions:
        return Regions(*(jnp.zeros(NUM_REGIONS) for _ in Regions._fields))


def make_no_memory() -> PriceMemory:
    """A memory whose best action is the first candidate."""

    def no_values(_: Any, candidates: Candidates, *draws: Any) -> Array:
        return jnp.zeros((*draws[1:], len(candidates.actions)))

    return _NoMemory(
        init=Nothing,
        base_prior=make_base_prior(()),
        update=lambda state, *_: state,
        posterior=lambda state, _: state,
        exploration_bonus=lambda *_: jnp.zeros(()),
        draw_values=no_values,
        mean_values=no_values,
        rewards=lambda *_: (jnp.zeros(0), jnp.zeros(0), jnp.zeros(0)),
    )
