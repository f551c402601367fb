"""What the noise of a network mode guarantees: (epsilon, delta) for each peer.

Neighbouring data differ in one real step of one peer. Every Gaussian mechanism is
given by its multiplier, std over the worst change of the release, so T of them
compose to one of multiplier z / sqrt(T); randomised responses compose beside it.
The composition itself is left to ``dp_accounting`` and its privacy loss
distributions (Koskela, Jälkö and Honkela 2020), whose bounds are upper ones.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.fields import refuse

UNLIMITED = 2**31 - 1  # releases of a peer without a budget
ADJACENCY = "replace one real step (a week) of one peer by another"

PUBLIC_TIME = "epsilon: 0, rounds fall on the public clock"
_GRID = 5e-5  # step of the grid of privacy losses, a share of their range
_LOG_TAIL = -50.0  # log probability of losses that count as infinite
_MOST = 700.0  # of an epsilon whose exponential has an inverse in floats


@dataclasses.dataclass(frozen=True)
class Releases:
    """What one message of a mode releases, as the mode itself declares it."""

    channels: Mapping[str, str]  # what leaves: "epsilon: how" | "no epsilon: why"
    each: float = 0.0  # 1/multiplier² of the Gaussian mechanisms of a release
    once: float = 0.0  # the same of those that cover any number of releases
    responses: int = 0  # randomised responses of a release
    response_epsilon: float = 1.0  # of each response
    noises: tuple[str, ...] = ()  # fields of ``privacy`` that a guarantee rests on
    requires_noise: bool = False  # whether the mode may not run without that noise
    no_guarantee: str = ""  # why no bound can hold; "" where one can


@dataclasses.dataclass(frozen=True)
class PrivacyAccountant(Releases):
    """What each release of a peer costs; the same for every peer.

    ``epsilon`` covers the channels marked "epsilon" and no other.
    """

    delta: float = 1e-5
    budget: float = 0.0  # epsilon a peer may spend; 0 sets none
    adjacency: str = ADJACENCY
    counted: bool = True  # False without ``dp_accounting``: epsilon is unknown

    @property
    def bounded(self) -> bool:
        """Whether any noised channel leaves, so that epsilon covers something."""
        return self.each + self.once + self.responses > 0

    def epsilon(self, releases: int) -> float:
        """Epsilon after so many releases, at ``delta``; inf where no bound holds.

        Raises:
          ConfigError: ``dp_accounting`` is not installed.
        """
        if releases <= 0:
            return 0.0
        if not (self.bounded and self.counted):
            return math.inf
        spent = self.once + releases * self.each
        responses = releases * self.responses
        return _epsilon(spent, responses, self.response_epsilon, self.delta)

    @functools.cached_property
    def allowed(self) -> int:
        """Most releases within the budget; ``UNLIMITED`` if it never runs out.

        Raises:
          ConfigError: there is a budget and ``dp_accounting`` is not installed.
        """
        if self.budget <= 0:
            return UNLIMITED
        if self.each + self.responses == 0:
            return UNLIMITED if self.epsilon(1) <= self.budget else 0
        within, beyond = 0, 1
        while self.epsilon(beyond) <= self.budget:
            within, beyond = beyond, 2 * beyond
            if beyond > UNLIMITED:
                return UNLIMITED
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if self.epsilon(middle) <= self.budget:
                within = middle
            else:
                beyond = middle
        return within


def make_accountant(config: TrainConfig, releases: Releases) -> PrivacyAccountant:
    """The accountant of a peer whose messages release what ``releases`` declares.

    A declaration is not checked: noise of the multiplier over the sensitivity
    that the channel names, where counts are exact, each real step in one cell once
    (an estimate out of sampled replay rows moves by more than one).

    Args:
      config: exchange, privacy, memory and synchronisation are read.
      releases: of the mode.

    Returns:
      The accountant of each peer.

    Raises:
      ConfigError: a budget that no bound backs, a mode without the noise it requires,
        or a budget where ``dp_accounting`` is not installed.
    """
    privacy, mode = config.privacy, config.exchange.mode
    budget, timed = privacy.epsilon, config.synchronisation.threshold
    if releases.no_guarantee:
        if budget > 0:
            reason = f"must be 0 with exchange.mode={mode!r}: {releases.no_guarantee}"
            refuse("privacy.epsilon", budget, reason)
        return PrivacyAccountant(releases.channels, delta=privacy.delta)
    if budget > 0:
        _library()
        if timed > 0:
            reason = "must be 0 with a privacy.epsilon: the data decide when a peer"
            refuse("synchronisation.threshold", timed, f"{reason} sends")
    if releases.requires_noise or budget > 0:
        where = (
            f"in mode {mode}" if releases.requires_noise else "with a privacy.epsilon"
        )
        for name in releases.noises:
            if getattr(privacy, name) == 0:
                refuse(f"privacy.{name}", 0.0, f"must be above 0 {where}")
    if budget > 0 and "demand_noise" in releases.noises and _decaying_stream(config):
        reason = "must be 1 with a privacy.epsilon and privacy.release='matrix'"
        refuse("memory.decay", config.memory.decay, reason)
    accountant = PrivacyAccountant(**vars(releases), delta=privacy.delta, budget=budget)
    if budget > 0 and not accountant.bounded:
        reason = "must be 0 where no noised channel leaves: no values and no demand"
        refuse("privacy.epsilon", budget, reason)
    if timed > 0:
        # What is released depends, noiselessly, on the data: no channel has a bound.
        why = "no epsilon: by synchronisation.threshold the data decide when"
        return PrivacyAccountant(
            dict.fromkeys(releases.channels, why), delta=privacy.delta
        )
    if budget == 0 and not _installed():
        return dataclasses.replace(accountant, counted=False)
    return accountant


def gaussian_epsilon(
    noise_multiplier: float, releases: int, delta: float, method: str = "pld"
) -> float:
    """Epsilon of Gaussian mechanisms in a row, each choosing after the last.

    Args:
      noise_multiplier: std over L2 sensitivity, non-negative.
      releases: number of mechanisms.
      delta: in (0, 1).
      method: "pld", tight, or "rdp" (Mironov 2017), looser and well known.

    Returns:
      The smallest epsilon the method proves; inf without noise.

    Raises:
      ConfigError: unknown method, or ``dp_accounting`` is not installed.
    """
    if method not in ("pld", "rdp"):
        refuse("method", method, "must be one of pld, rdp")
    if releases <= 0:
        return 0.0
    if noise_multiplier <= 0:
        return math.inf
    if method == "pld":
        return _epsilon(releases / noise_multiplier**2, 0, 1.0, delta)
    library = _library()
    event = library.GaussianDpEvent(noise_multiplier)
    accountant = library.rdp.RdpAccountant()
    accountant.compose(library.SelfComposedDpEvent(event, releases))
    return float(accountant.get_epsilon(delta))


def demand_release(config: TrainConfig) -> tuple[str, float, float]:
    """Channel of noised demand sums, and 1/multiplier² of a release and of the stream.

    Args:
      config: memory and privacy are read.
    """
    privacy = config.privacy
    cost = inverse_square(privacy.demand_noise)
    if privacy.release == "independent":
        worst = "worst change of the sums by one step"
        return gaussian_channel(config, "demand_noise", worst), cost, 0.0
    if _decaying_stream(config):
        decay = f"memory.decay={config.memory.decay:g}"
        return f"no epsilon: {decay}, matrix noise is for plain sums", 0.0, 0.0
    worst = "square-root factorisation of running sums"
    how = gaussian_channel(config, "demand_noise", worst)
    return how.replace("a release", "for all releases together"), 0.0, cost


def gaussian_channel(config: TrainConfig, noise: str, worst: str) -> str:
    """Text of a channel with Gaussian noise.

    Args:
      config: ``privacy`` is read.
      noise: field of ``privacy`` that holds the multiplier.
      worst: the change that the multiplier is relative to.
    """
    multiplier = getattr(config.privacy, noise)
    if multiplier <= 0:
        return f"no epsilon: privacy.{noise}=0"
    how = f"a Gaussian mechanism a release, privacy.{noise}={multiplier:g}"
    return f"epsilon: {how}, {worst}"


def _decaying_stream(config: TrainConfig) -> bool:
    return config.privacy.release == "matrix" and config.memory.decay != 1.0


def inverse_square(multiplier: float) -> float:
    """1/multiplier², and 0 for a channel without noise, which is not counted."""
    return multiplier**-2 if multiplier > 0 else 0.0


def _installed() -> bool:
    return importlib.util.find_spec("dp_accounting") is not None


def _library() -> Any:
    try:
        import dp_accounting  # an optional dependency
    except ImportError:
        raise ConfigError(
            "privacy.epsilon needs the package dp-accounting:"
            " pip install 'p2p-sac-jax[privacy]'"
        ) from None
    return dp_accounting


@functools.lru_cache(maxsize=4096)
def _epsilon(spent: float, responses: int, each: float, delta: float) -> float:
    """Epsilon of a Gaussian mechanism of multiplier spent^-1/2 and n responses.

    Where it may be beyond 700 the bound of zero-concentrated privacy is returned,
    which is above it and needs no e^-epsilon.
    """
    bound = _closed_bound(spent, responses, each, delta)
    if bound > _MOST:
        return bound
    losses = _library().pld.privacy_loss_distribution
    grid = _GRID * (0.5 * spent + 5.0 * math.sqrt(spent) + responses * each)
    total = None
    if responses:
        # The number of true answers is sufficient for n answers, so their joint
        # loss is rounded to the grid once, not n times. (The library's own
        # accountant, as of 0.6, counts a repeated randomised response once.)
        truth = _log_binomial(responses, each)
        total = losses.from_two_probability_mass_functions(
            log_probability_mass_function_lower=dict(enumerate(truth[::-1])),
            log_probability_mass_function_upper=dict(enumerate(truth)),
            value_discretization_interval=grid,
            log_mass_truncation_bound=_LOG_TAIL,
        )
    if spent > 0:
        noise = losses.from_gaussian_mechanism(
            spent**-0.5,
            value_discretization_interval=grid,
            log_mass_truncation_bound=_LOG_TAIL,
        )
        total = noise if total is None else total.compose(noise)
    return math.inf if total is None else float(total.get_epsilon_for_delta(delta))


def _closed_bound(spent: float, responses: int, each: float, delta: float) -> float:
    """Upper bound of epsilon: ρ + 2 sqrt(ρ ln 1/δ) (Bun and Steinke 2016).

    A Gaussian mechanism has ρ = 1/(2 multiplier²), a response ε²/2, or ε added up
    outright if that is less.
    """

    def convert(rho: float) -> float:
        return rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta))

    pure = responses * each
    return min(convert(0.5 * (spent + pure * each)), pure + convert(0.5 * spent))


def _log_binomial(trials: int, logit: float) -> np.ndarray:
    """[trials + 1] log chance of so many successes, each of chance expit(logit)."""
    k = np.arange(trials + 1.0)
    from scipy import special  # slow to import, and most runs have no budget

    ways = special.gammaln(trials + 1.0) - special.gammaln(k + 1.0)
    ways -= special.gammaln(trials - k + 1.0)
    return ways + k * logit + trials * special.log_expit(-logit)
