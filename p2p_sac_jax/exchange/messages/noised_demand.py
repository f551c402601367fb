"""Demand coefficients out of noised sums, with the noise counted in.

What leaves is a function of ``M = Σ u uᵀ + E``, ``u = (D x, c z)`` the bounded records
of a peer's own weeks and ``E`` symmetric Gaussian noise, isotropic in the Frobenius
inner product. Everything after ``M`` is post-processing and costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.exchange.messages.base import Setting
from p2p_sac_jax.linalg import spd_inverse
from p2p_sac_jax.privacy.clipping import LOG_SALES_SCALE, SUM_SENSITIVITY
from p2p_sac_jax.privacy.noise import (
    gaussian,
    stream_factor,
    stream_noise,
    stream_std,
)
from p2p_sac_jax.types import (
    Array,
    DemandStatistics,
    DemandSummary,
    Prior,
    Received,
)

LEAST_VARIANCE = 1e-4
# The public guess of a week's x xᵀ is ``usual_square`` on its diagonal and 0 off it.
# This is its sd, relative to the root of the product of both diagonal entries.
_SQUARE_SD = 0.5
# Public guess of the noise variance of log sales, its sd, and its range.
_NOISE_VARIANCE, _NOISE_VARIANCE_SD = 0.2, 0.15
_NOISE_VARIANCE_RANGE = (0.02, 1.0)
_STEPS = 6  # fixed-point steps of what the noise depends on
_JITTER = 1e-4  # of a matrix, relative to its mean diagonal


class Coefficients(NamedTuple):
    """What a peer may send of its demand."""

    mean: Array  # [F] posterior mean under the base prior, within a public box
    variance: Array  # [F] posterior variance, at most the base prior's
    known: Array  # [] 1 from ``privacy.min_weeks`` steps on, else 0


class NoisedSums(NamedTuple):
    """What is known of a peer's weeks outside it; the rest is post-processing."""

    sums: Array  # [F + 1, F + 1] noised sums of u uᵀ
    std: Array  # [] of the noise on the diagonal, 1/√2 of it elsewhere
    n: Array  # [] steps, public


def make_noised_sums(
    setting: Setting,
) -> Callable[[DemandStatistics, Array, Array], NoisedSums]:
    """Builds ``noised_sums(statistics, key, round_index)`` of one peer.

    Replace-one: with one week replaced by another the sums move by at most
    ``SUM_SENSITIVITY`` Δ, from the round of that week on. The number of steps is
    public.

    * ``privacy.release="matrix"``: the sums of all rounds are noised as one stream,
      by ``B g`` with ``A = B C`` of prefix sums. One Gaussian mechanism of sensitivity
      Δ · ``stream_factor``, however many rounds are released: each draw of ``g`` has
      sd ``demand_noise`` · Δ · ``stream_factor``. Beyond ``steps`` the stream goes on
      at the same cost with more noise.
    * ``"independent"``: each release is a Gaussian mechanism of its own, of sd
      ``demand_noise`` · Δ, and releases compose.
    """
    privacy, horizon = setting.config.privacy, setting.rounds
    scale = np.append(setting.base_prior.record_scale, np.float32(LOG_SALES_SCALE))
    shape = (scale.size, scale.size)
    std = privacy.demand_noise * SUM_SENSITIVITY
    if privacy.release == "matrix":
        std *= stream_factor(horizon)

    def noised_sums(
        statistics: DemandStatistics, key: Array, round_index: Array
    ) -> NoisedSums:
        if privacy.release == "matrix":
            drawn = stream_noise(key, round_index, horizon, shape, std)
            total = stream_std(horizon, round_index, std)
        else:
            drawn = gaussian(jax.random.fold_in(key, round_index), shape, std)
            total = jnp.asarray(std, jnp.float32)
        G, h, yy, n = statistics
        last = jnp.append(h, yy)
        sums = jnp.concatenate([G, h[None]])
        sums = np.outer(scale, scale) * jnp.concatenate([sums, last[:, None]], axis=1)
        # Half of N + Nᵀ is isotropic: sd 1 on the diagonal, 1/√2 off it.
        return NoisedSums(sums + 0.5 * (drawn + drawn.T), total, n)

    return noised_sums


def make_coefficients(
    setting: Setting,
) -> Callable[[DemandStatistics, Array, Array], Coefficients]:
    """Builds ``coefficients(statistics, key, round_index)`` of one peer.

    ``key`` is used for this alone and is the same in every round.
    """
    privacy, prior = setting.config.privacy, setting.base_prior
    noised_sums = make_noised_sums(setting)
    variance = np.diagonal(prior.covariance)
    low, high = prior.low, prior.high

    def coefficients(
        statistics: DemandStatistics, key: Array, round_index: Array
    ) -> Coefficients:
        with jax.default_matmul_precision("highest"):
            belief = noised_posterior(noised_sums(statistics, key, round_index), prior)
        spread = jnp.diagonal(belief.covariance)
        known = statistics.n >= privacy.min_weeks
        return Coefficients(
            mean=jnp.where(known, jnp.clip(belief.mean, low, high), prior.mean),
            variance=jnp.where(
                known, jnp.clip(spread, LEAST_VARIANCE, variance), variance
            ),
            known=jnp.where(known, 1.0, 0.0),
        )

    return coefficients


def make_box(
    setting: Setting, most: np.ndarray, pull: np.ndarray
) -> Callable[[Received], Received]:
    """Builds ``bound(received)``: coefficients in the public box, on the diagonal.

    Args:
      setting: of the mode.
      most: ``[F]`` largest precision that a message of the mode can hold.
      pull: ``[F]`` precision of the base prior in the coefficients that the mode's
        messages hold, which are in the box; 0 where what is read is what was sent.
    """
    if not setting.shares_demand:
        return lambda received: received
    base = setting.base_prior
    low, high, drawn = base.low, base.high, pull * base.mean

    def bound(received: Received) -> Received:
        demand = received.demand
        evidence = jnp.diagonal(demand.precision, axis1=-2, axis2=-1)  # [J, F]
        informed = evidence > 0.0
        sent = (demand.shift + drawn[None]) / jnp.where(
            informed, evidence + pull[None], 1.0
        )
        sent = jnp.clip(sent, low[None], high[None])
        precision = jnp.where(informed, jnp.minimum(evidence, most[None]), 0.0)
        shift = jnp.where(informed, sent * (precision + pull[None]) - drawn[None], 0.0)
        identity = np.eye(most.size, dtype=np.float32)[None]
        boxed = DemandSummary(identity * precision[:, None], shift, demand.count)
        return received._replace(demand=boxed)

    return bound


def noised_posterior(noised: NoisedSums, prior: BasePrior) -> Prior:
    """Posterior of the coefficients given noised sums.

    In units of the records, ``w = D x`` and ``φ = D⁻¹ θ``, the sums are ``G̃ = G + E``
    and ``h̃ = h + e``. A public guess of G shrinks G̃ to its posterior mean Ĝ with
    variance v by entry. Then ``h̃ = Ĝ φ + η``, where η holds the noise of sales, e,
    and what is unknown of ``G φ``:

        R = cov(η) = σ² Ĝ + (s²/2c²) I + cov((G - Ĝ) φ)

    and the data add the precision ``Ĝ R⁻¹ Ĝ``, ``G/σ²`` if there is no noise. R depends
    on φ and σ², which are iterated to a fixed point. The guess is the same for all
    peers, and so is its error, which no mean over peers removes: each equation
    counts only by the share of its Ĝ that comes from G̃. (Regression on noised
    sufficient statistics, Bernstein and Sheldon 2019; AdaSSP, Wang 2018, keeps G̃
    positive definite by a ridge, here the guess of G does.)

    Args:
      noised: from ``make_noised_sums``.
      prior: base prior, ``[F]`` and ``[F, F]``, NumPy.

    Returns:
      Mean ``[F]`` and covariance ``[F, F]``, finite whatever the noise.
    """
    sums, noise_std, n = noised
    D, c = prior.record_scale, LOG_SALES_SCALE
    prior_mean = prior.mean / D
    prior_precision = np.linalg.inv(prior.covariance) * np.outer(D, D)
    offset = np.eye(len(D), dtype=np.float32)[0] / D[0]  # the intercept's share
    G, v, trust = _shrunk_squares(
        sums[:-1, :-1], prior.usual_square * D**2, n, noise_std
    )
    doubt = jax.lax.rsqrt(jnp.diagonal(trust))
    h, yy = sums[:-1, -1] / c, sums[-1, -1] / c**2
    jitter = _JITTER * (jnp.trace(G) / len(D) + 1.0)

    def step(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        sales_noise, mean, covariance = carry
        centre = mean - 0.5 * sales_noise * offset
        residual = yy - 2.0 * centre @ h + centre @ G @ centre + jnp.sum(G * covariance)
        blur = (noise_std * (jnp.sum(centre**2) + 1.0 / c**2)) ** 2
        sales_noise = _sales_noise(residual, blur, n, sales_noise)

        centre = mean - 0.5 * sales_noise * offset
        squares = jnp.outer(centre, centre) + covariance
        unknown = v @ jnp.diagonal(squares) + 0.5 * (noise_std / c) ** 2 + jitter
        off = jnp.where(np.eye(len(D), dtype=bool), 0.0, v * squares)
        R = (sales_noise * G + off + jnp.diag(unknown)) * jnp.outer(doubt, doubt)
        gain = spd_inverse(R) @ G
        information = G @ gain
        covariance = spd_inverse(prior_precision + 0.5 * (information + information.T))
        evidence = gain.T @ (h + 0.5 * sales_noise * (G @ offset))
        mean = covariance @ (prior_precision @ prior_mean + evidence)
        return sales_noise, mean, covariance

    start = (
        jnp.asarray(_NOISE_VARIANCE, jnp.float32),
        jnp.asarray(prior_mean),
        jnp.asarray(prior.covariance / np.outer(D, D)),
    )
    _, mean, covariance = jax.lax.fori_loop(0, _STEPS, step, start)
    return Prior(D * mean, covariance * np.outer(D, D))


def _shrunk_squares(
    noised: Array, usual: Array, n: Array, noise_std: Array
) -> tuple[Array, Array, Array]:
    """What is known of G out of its noised value.

    Args:
      noised: ``[F, F]``.
      usual: ``[F]`` public guess of the diagonal of one step's share of G.
      n: ``[]`` number of steps.
      noise_std: ``[]`` of the noise on the diagonal.

    Returns:
      Posterior mean, without negative eigenvalues, and by entry its variance and the
      share of ``noised`` in it, all ``[F, F]``.
    """
    identity = np.eye(usual.size, dtype=np.float32)
    guess = n * identity * usual[None]
    spread = (_SQUARE_SD * n) ** 2 * np.outer(usual, usual) + 1e-6
    noise = noise_std**2 * (0.5 + 0.5 * identity)
    trust = jnp.maximum(spread / (spread + noise), 1e-6)
    values, vectors = jnp.linalg.eigh(guess + trust * (noised - guess))
    positive = (vectors * jnp.maximum(values, 0.0)[None]) @ vectors.T
    return 0.5 * (positive + positive.T), trust * noise, trust


def _sales_noise(residual: Array, blur: Array, n: Array, current: Array) -> Array:
    """Noise variance of log sales: the residual's mean, shrunk to the public guess.

    Args:
      residual: ``[]`` sum of squares.
      blur: ``[]`` its variance from the noise of the sums.
      n: ``[]`` number of steps.
      current: ``[]`` value of the last step, for the variance from sales.
    """
    steps = jnp.maximum(n, 1.0)
    variance = blur / steps**2 + 2.0 * current**2 / steps
    trust = _NOISE_VARIANCE_SD**2 / (_NOISE_VARIANCE_SD**2 + variance)
    estimate = _NOISE_VARIANCE + trust * (residual / steps - _NOISE_VARIANCE)
    return jnp.clip(estimate, *_NOISE_VARIANCE_RANGE)
