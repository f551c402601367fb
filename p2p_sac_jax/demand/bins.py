"""Binned memory: a Gaussian process of reward over binned actions, model-free.

Actions in [-1, 1] fall on ``K`` bins through a narrow kernel, and the smoothness of
reward in price is left to the prior covariance. It knows nothing of demand, so it
has no demand coefficients to share: its summary is empty and its base prior trivial.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import make_base_prior
from p2p_sac_jax.demand.base import Posterior, PriceMemory
from p2p_sac_jax.tree import tree_where
from p2p_sac_jax.types import Array, Candidates, Experience, Prior

NUM_BINS = 21
MAX_CONTEXTS = 4
KERNEL_WIDTH = 0.08  # action units, of one observation's footprint
PRIOR_STD = 0.3  # of mean reward, whose unit is the reward of the status quo
PRIOR_LENGTH = 0.35  # action units over which mean rewards resemble each other
PRIOR_REWARD = 1.0  # mean reward before any data: the status quo's
NOISE_STD = 0.45  # prior guess of the sd of one reward
NOISE_COUNT = 5.0  # real steps that guess is worth
_CENTRES = np.linspace(-1.0, 1.0, NUM_BINS, dtype=np.float32)


class BinState(NamedTuple):
    """Discounted statistics of reward by bin and context."""

    n: Array  # [K, C] kernel-weighted steps
    s1: Array  # [K, C] sum of rewards
    s2: Array  # [K, C] sum of squared rewards
    age: Array  # [K, C] own steps since the bin was the nearest one


def make_binned_memory(num_cells: int) -> PriceMemory:
    """Builds the memory for a codebook of ``num_cells`` public context cells.

    Consecutive cells are merged into at most four contexts, ``cell C // num_cells``:
    a codebook lists its most telling factor first.
    """
    num_contexts = min(MAX_CONTEXTS, num_cells)

    def context(cell: Array) -> Array:
        return jnp.clip(cell * num_contexts // num_cells, 0, num_contexts - 1)

    def init() -> BinState:
        zeros = jnp.zeros((NUM_BINS, num_contexts), jnp.float32)
        return BinState(zeros, zeros, zeros, zeros)

    def update(
        state: BinState, experience: Experience, decay: Array, active: Array
    ) -> BinState:
        here = jax.nn.one_hot(context(experience.cell), num_contexts)  # [C]
        weights = jnp.outer(kernel_weights(experience.action), here)  # [K, C]
        nearest = jnp.argmin(jnp.abs(_CENTRES - experience.action[0]))
        visited = jnp.outer(jax.nn.one_hot(nearest, NUM_BINS), here)
        new = BinState(
            n=decay * state.n + weights,
            s1=decay * state.s1 + weights * experience.reward,
            s2=decay * state.s2 + weights * experience.reward**2,
            age=(state.age + 1.0) * (1.0 - visited),
        )
        return tree_where(active > 0, new, state)

    def at(belief: Posterior, cell: Array) -> Posterior:
        c = context(cell)
        return belief._replace(
            mean=belief.mean[c],
            covariance=belief.covariance[c],
            factor=belief.factor[c],
        )

    def exploration_bonus(
        belief: Posterior, candidates: Candidates, action: Array
    ) -> Array:
        w = kernel_weights(action)
        variance = jnp.sum((w @ at(belief, candidates.cell).factor) ** 2)
        prior_variance = jnp.sum((w @ prior_factor()) ** 2)
        return jnp.clip(jnp.sqrt(variance / prior_variance), 0.0, 1.0)

    def draw_values(
        belief: Posterior, candidates: Candidates, key: Array, draws: int
    ) -> Array:
        local = at(belief, candidates.cell)
        noise = jax.random.normal(key, (draws, local.factor.shape[-1]))
        bins = jnp.expand_dims(local.mean, 0) + noise @ local.factor.T  # [S, K]
        return bins @ _candidate_weights(candidates).T

    def rewards(
        belief: Posterior, candidates: Candidates
    ) -> tuple[Array, Array, Array]:
        local, w = at(belief, candidates.cell), _candidate_weights(candidates)
        variance = jnp.sum((w @ local.factor) ** 2, axis=-1)
        count = local.noise_variance / jnp.maximum(variance, 1e-9)
        return w @ local.mean, jnp.sqrt(variance), count

    return PriceMemory(
        init=init,
        base_prior=make_base_prior(()),
        update=update,
        posterior=posterior,
        exploration_bonus=exploration_bonus,
        draw_values=draw_values,
        mean_values=lambda belief, candidates: rewards(belief, candidates)[0],
        rewards=rewards,
    )


def kernel_weights(action: Array) -> Array:
    """Footprint of an action ``[A]`` (its first entry) on the bins, ``[K]``, sum 1."""
    return jax.nn.softmax(-0.5 * ((action[0] - _CENTRES) / KERNEL_WIDTH) ** 2)


def prior_factor() -> np.ndarray:
    """``U`` with ``U Uᵀ = K0``, the prior covariance: ``[K, r]``, NumPy.

    A smooth covariance is of low rank to float32, so its Cholesky factor does not
    exist there; the leading eigenvectors, taken in float64, do.
    """
    gap = _CENTRES[:, None].astype(np.float64) - _CENTRES[None, :]
    covariance = PRIOR_STD**2 * np.exp(-0.5 * (gap / PRIOR_LENGTH) ** 2)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-7 * values[-1]
    return (vectors[:, kept] * np.sqrt(values[kept])).astype(np.float32)


def posterior(state: BinState, prior: Prior) -> Posterior:
    """Gaussian-process posterior of mean reward in each context.

    With ``K0 = U Uᵀ`` and ``D = diag(n / σ²)`` the textbook form
    ``K0 - K0 D^½ (I + D^½ K0 D^½)⁻¹ D^½ K0`` (Rasmussen & Williams 2006, eq. 2.24) is
    ``U (I + Uᵀ D U)⁻¹ Uᵀ``: no difference of near-equal matrices, never indefinite.
    The noise is the reward's spread within bins, one value for all contexts.

    Args:
      state: statistics ``[K, C]``.
      prior: unused; it is part of the protocol.
    """
    del prior
    seen = state.n > 1e-6
    n = jnp.where(seen, state.n, 1.0)
    within = jnp.where(seen, jnp.maximum(state.s2 - state.s1**2 / n, 0.0), 0.0)
    noise = (NOISE_COUNT * NOISE_STD**2 + jnp.sum(within)) / (
        NOISE_COUNT + jnp.sum(state.n)
    )
    U = prior_factor()

    def one_context(count: Array, total: Array) -> tuple[Array, Array, Array]:
        weight = count / noise  # [K]
        system = np.eye(U.shape[1], dtype=np.float32) + (U.T * weight[None, :]) @ U
        lower = jnp.linalg.cholesky(system)
        factor = jax.scipy.linalg.solve_triangular(lower, U.T, lower=True).T  # [K, r]
        surplus = (total - count * PRIOR_REWARD) / noise
        mean = PRIOR_REWARD + factor @ (factor.T @ surplus)
        return mean, factor @ factor.T, factor

    mean, covariance, factor = jax.vmap(one_context)(state.n.T, state.s1.T)
    return Posterior(mean, covariance, noise, factor)


def _candidate_weights(candidates: Candidates) -> Array:
    """Interpolation weights ``[N, K]`` of the candidates."""
    return jax.vmap(kernel_weights)(candidates.actions)
