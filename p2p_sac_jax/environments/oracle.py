"""Closed-form optimal prices: the yardsticks of the pricing markets.

Every function is pure, works on scalars (or on ``[n]`` firms where it says so)
and holds for one market; ``vmap`` for more. Prices, costs and scales share one
currency unit; sensitivities are its inverse.

Sources:
  Corless et al. (1996), "On the Lambert W function".
  Calvano, Calzolari, Denicolo, Pastorello (2020), "Artificial intelligence,
    algorithmic pricing, and collusion", American Economic Review 110(10).
  Gallego, van Ryzin (1994), "Optimal dynamic pricing of inventories with
    stochastic demand over finite horizons", Management Science 40(8).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp

from p2p_sac_jax.types import Array

_HALLEY_STEPS = 12
_MAX_EXPONENT = 80.0  # exp of it still is a finite float32
_SMALLEST_TIME = 1e-30
_MASKED = -1e30


def lambert_w(z: Array) -> Array:
    """Principal branch of W(z) exp(W(z)) = z for z >= 0; shape kept.

    Twelve Halley steps from log1p(z), in the form divided by exp(w) so that
    large z does not overflow; exact to float32 (Corless et al. 1996, eq. 5.9).
    """

    def halley(_: int, w: Array) -> Array:
        gap = w - z * jnp.exp(-w)
        return w - gap / (w + 1.0 - (w + 2.0) * gap / (2.0 * w + 2.0))

    return jax.lax.fori_loop(0, _HALLEY_STEPS, halley, jnp.log1p(z))


def constant_elasticity_price(cost: Array, elasticity: Array) -> Array:
    """Optimal price under demand A p^elasticity, for elasticity < -1.

    The Lerner rule p = c e / (e - 1) with e = abs(elasticity); a finite optimum
    exists only for e > 1, which the caller ensures.
    """
    size = jnp.abs(elasticity)
    return cost * size / (size - 1.0)


def exponential_price(cost: Array, sensitivity: Array) -> Array:
    """Optimal price under demand A exp(-sensitivity p): cost + 1/sensitivity."""
    return cost + 1.0 / sensitivity


def logit_price(
    sensitivity: Array, cost: Array, appeal: Array, rival_odds: Array
) -> Array:
    """Optimal price of a logit seller beside an outside option and a fixed rival.

    Share is e^u / (1 + e^u + rival_odds) with u = appeal - sensitivity p. The
    first-order condition p = c + 1/(sensitivity (1 - share)) solves to
    c + (1 + W) / sensitivity; the share at the optimum is W / (1 + W).

    Args:
      sensitivity: [] utility lost per unit of price, > 0.
      cost: [] unit cost.
      appeal: [] all utility terms without the price.
      rival_odds: [] exp of the rival's utility, 0 without a rival.
    """
    exponent = appeal - sensitivity * cost - 1.0 - jnp.log1p(rival_odds)
    return cost + _markup(exponent) / sensitivity


def bertrand_best_response(
    quality: Array, cost: Array, price: Array, scale: Array, outside: Array
) -> Array:
    """Each firm's best price against the others' prices, logit demand.

    Args:
      quality: [n] utility before price (Calvano et al.: a_i).
      cost: [n] unit cost c_i.
      price: [n] current prices; a firm's own does not matter.
      scale: [] substitution scale mu > 0.
      outside: [] utility a_0 of the outside option.

    Returns:
      [n] best responses c_i + mu (1 + W(.)).
    """
    others = jnp.broadcast_to(((quality - price) / scale)[None, :], (cost.size,) * 2)
    others = jnp.where(jnp.eye(cost.size, dtype=bool), _MASKED, others)
    denominator = jnp.logaddexp(logsumexp(others, axis=1), outside / scale)
    return cost + scale * _markup((quality - cost) / scale - 1.0 - denominator)


def bertrand_nash(
    quality: Array, cost: Array, scale: Array, outside: Array, iterations: int = 100
) -> Array:
    """[n] Nash prices of logit Bertrand competition, by best responses.

    The best response of logit firms is a contraction, so the iteration converges
    from any start. Arguments as in ``bertrand_best_response``.
    """

    def respond(_: int, price: Array) -> Array:
        return bertrand_best_response(quality, cost, price, scale, outside)

    return jax.lax.fori_loop(0, iterations, respond, cost + scale)


def joint_monopoly_prices(
    quality: Array, cost: Array, scale: Array, outside: Array
) -> Array:
    """[n] prices that maximise the firms' joint profit: one common markup.

    Arguments as in ``bertrand_best_response``.
    """
    total = logsumexp((quality - cost) / scale) - 1.0 - outside / scale
    return cost + scale * _markup(total)


def logit_profits(
    quality: Array, cost: Array, price: Array, scale: Array, outside: Array
) -> Array:
    """[n] profit of each logit firm at the prices charged, market size 1.

    Arguments as in ``bertrand_best_response``.
    """
    utility = (quality - price) / scale
    total = jnp.logaddexp(logsumexp(utility), outside / scale)
    return (price - cost) * jnp.exp(utility - total)


def perishable_value(
    stock: Array,
    time_left: Array,
    market_size: Array,
    sensitivity: Array,
    cost: Array,
    max_stock: int = 50,
) -> Array:
    """Expected optimal profit of perishable stock, Poisson exponential demand.

    J(n, t) = (1/a) ln sum_{i<=n} (A e^{-1-a c} t)^i / i!  for arrivals at rate
    A e^{-a p} (Gallego and van Ryzin 1994, section 2.3), summed in logarithms.

    Args:
      stock: [] units left, an integer in [0, max_stock].
      time_left: [] >= 0.
      market_size: [] A, arrivals per unit of time at price 0.
      sensitivity: [] a > 0.
      cost: [] cost saved by not selling a unit.
      max_stock: static bound of ``stock``.
    """
    terms = _perishable_terms(time_left, market_size, sensitivity, cost, max_stock)
    held = jnp.arange(max_stock + 1) <= stock
    return logsumexp(jnp.where(held, terms, _MASKED)) / sensitivity


def perishable_price(
    stock: Array,
    time_left: Array,
    market_size: Array,
    sensitivity: Array,
    cost: Array,
    max_stock: int = 50,
) -> Array:
    """Optimal price of perishable stock: c + 1/a + J(n, t) - J(n-1, t).

    Needs ``stock`` >= 1. The marginal value of a unit is formed as the softplus of
    the last term over the others, so nothing cancels. Arguments as in
    ``perishable_value``.
    """
    terms = _perishable_terms(time_left, market_size, sensitivity, cost, max_stock)
    index = jnp.arange(max_stock + 1)
    fewer = logsumexp(jnp.where(index < stock, terms, _MASKED))
    last = jnp.sum(jnp.where(index == stock, terms, 0.0))
    return cost + (1.0 + jax.nn.softplus(last - fewer)) / sensitivity


def _markup(exponent: Array) -> Array:
    """1 + W(exp(exponent)), in units of 1/sensitivity."""
    return 1.0 + lambert_w(jnp.exp(jnp.minimum(exponent, _MAX_EXPONENT)))


def _perishable_terms(
    time_left: Array,
    market_size: Array,
    sensitivity: Array,
    cost: Array,
    max_stock: int,
) -> Array:
    """[max_stock + 1] logarithms of (A e^{-1-a c} t)^i / i!."""
    index = jnp.arange(max_stock + 1, dtype=jnp.float32)
    # At t = 0 the floor leaves the term i = 0 alone, and no 0 * inf.
    log_time = jnp.log(jnp.maximum(time_left, _SMALLEST_TIME))
    log_rate = jnp.log(market_size) - 1.0 - sensitivity * cost + log_time
    return index * log_rate - gammaln(index + 1.0)
