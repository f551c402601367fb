"""Optimal prices when customers remember: value iteration with a reference price.

With a reference price r today's price moves tomorrow's demand, so the myopic
price is too low or too high and no closed form exists. The cost and the rival's
price become short Markov chains (Rouwenhorst), r and p grids, the year a cycle of
weeks; on that chain market the solution is exact up to the two grids.

Sources:
  Rouwenhorst (1995); Kopecky and Suen (2010), "Finite state Markov-chain
    approximations to highly persistent processes".
  Popescu and Wu (2007), "Dynamic pricing strategies with reference effects".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array

# (week, log cost, log rival price, reference price, price), scalars -> [] profit
Profit = Callable[[Array, Array, Array, Array, Array], Array]


class Chain(NamedTuple):
    """A Markov chain on evenly spaced states."""

    states: Array  # [S]
    transition: Array  # [S, S] from row to column


class ReferenceMarket(NamedTuple):
    """What value iteration needs to know, apart from the profit function."""

    cost: Chain  # log cost
    rival: Chain  # log rival price
    references: Array  # [M] evenly spaced reference prices
    prices: Array  # [N] prices to choose from, within the reference range
    decay: Array  # [] weight of the old reference price


class Solution(NamedTuple):
    """Optimal policy of every week, and its value at week 0."""

    prices: Array  # [W, S, S, M] by week, log cost, log rival, reference
    value: Array  # [S, S, M] discounted profit from week 0


def rouwenhorst(deviation: Array, persistence: Array, states: int = 5) -> Chain:
    """Markov chain of a stationary Gaussian AR(1) with mean 0.

    It matches the variance, the autocorrelation and their conditional forms
    exactly (Kopecky and Suen 2010). Five states are one ``deviation`` apart.

    Args:
      deviation: [] stationary standard deviation.
      persistence: [] autocorrelation in [0, 1).
      states: number of states, at least 2.
    """
    stay = (1.0 + persistence) / 2.0
    transition = jnp.ones((1, 1))
    for size in range(2, states + 1):
        corners = (
            stay * jnp.pad(transition, ((0, 1), (0, 1)))
            + (1.0 - stay) * jnp.pad(transition, ((0, 1), (1, 0)))
            + (1.0 - stay) * jnp.pad(transition, ((1, 0), (0, 1)))
            + stay * jnp.pad(transition, ((1, 0), (1, 0)))
        )
        # Inner rows are counted twice in the sum.
        inner = jnp.full((size, 1), 0.5).at[jnp.array([0, size - 1])].set(1.0)
        transition = corners * inner
    width = deviation * jnp.sqrt(states - 1.0)
    return Chain(width * jnp.linspace(-1.0, 1.0, states), transition)


def interpolate(table: Array, positions: tuple[Array, ...]) -> Array:
    """Multilinear interpolation at one point given in index units.

    Args:
      table: [S_1, ..., S_k], at least two entries along each axis.
      positions: k scalars; beyond the ends the outermost slope is continued.
    """
    for position in positions:
        low = jnp.clip(jnp.floor(position), 0, table.shape[0] - 2)
        index = low.astype(jnp.int32)
        table = table[index] + (position - low) * (table[index + 1] - table[index])
    return table


def reference_position(references: Array, price: Array) -> Array:
    """Place of ``price`` on the even grid ``references`` [M], in index units."""
    spacing = (references[-1] - references[0]) / (references.size - 1)
    return (price - references[0]) / spacing


def solve(
    profit: Profit,
    market: ReferenceMarket,
    discount: float | Array = 0.98,
    years: int = 3,
    weeks: int = 52,
) -> Solution:
    """Periodic value iteration; ``discount`` 0 gives the myopic policy.

    A policy needs value *differences* alone, and these forget the start at the rate
    of the most persistent state, so few years suffice; the value itself converges
    as discount^(weeks years).

    Args:
      profit: expected profit of one week, a function of scalars.
      market: chains, grids and decay of the reference price.
      discount: weight of next week's profit.
      years: sweeps through the cycle, at least 1.
      weeks: length W of the cycle.
    """
    rewards = profit
    for axis in (4, 3, 2, 1):  # the last mapped is the outermost axis
        batched: list[int | None] = [None] * 5
        batched[axis] = 0
        rewards = jax.vmap(rewards, in_axes=tuple(batched))
    following = (
        market.decay * market.references[:, None]
        + (1.0 - market.decay) * market.prices[None, :]
    )  # [M, N]
    position = reference_position(market.references, following)
    low = jnp.clip(jnp.floor(position), 0, market.references.size - 2)
    index, fraction = low.astype(jnp.int32), (position - low)[None, None]

    def backup(value: Array, week: Array) -> tuple[Array, Array]:
        expected = jnp.einsum(
            "ix,jy,xym->ijm", market.cost.transition, market.rival.transition, value
        )
        below, above = expected[..., index], expected[..., index + 1]
        future = below + fraction * (above - below)
        total = discount * future + rewards(
            week,
            market.cost.states,
            market.rival.states,
            market.references,
            market.prices,
        )  # [S, S, M, N]
        return total.max(axis=-1), market.prices[total.argmax(axis=-1)]

    cycle = jnp.arange(weeks)
    shape = (market.cost.states.size, market.rival.states.size, market.references.size)

    def sweep(_: int, carry: Solution) -> Solution:
        value, prices = jax.lax.scan(backup, carry.value, cycle, reverse=True)
        return Solution(prices, value)

    start = Solution(jnp.zeros((weeks, *shape)), jnp.zeros(shape))
    return jax.lax.fori_loop(0, years, sweep, start)
