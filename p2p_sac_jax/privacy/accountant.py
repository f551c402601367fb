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

UNLIMITED = 2**31 - 1  # releases of a peer without a budget
ADJACENCY = "replace one real step (a week) of one peer by another"

_ON_TIME = "epsilon: 0, rounds fall on the public clock"
_GRID = 5e-5  # step of the grid of privacy losses, a share of their range
_LOG_TAIL = -50.0  # log probability of losses that count as infinite
_MOST = 700.0  # of an epsilon whose exponential has an inverse in floats


@dataclasses.dataclass(frozen=True)
class PrivacyAccountant:
    """What each release of a peer costs; the same for every peer.

    ``epsilon`` speaks of the channels marked "epsilon" and of no other.
    """

    channels: Mapping[str, str]  # what leaves: "epsilon: how" | "no epsilon: why"
    each: float = 0.0  # 1/multiplier² of the Gaussian mechanisms of a release
    once: float = 0.0  # the same of those that cover any number of releases
    responses: int = 0  # randomised responses of a release
    response_epsilon: float = 1.0  # of each response
    delta: float = 1e-5
    budget: float = 0.0  # epsilon a peer may spend; 0 sets none
    adjacency: str = ADJACENCY
    counted: bool = True  # False without ``dp_accounting``: nobody can tell epsilon

    @property
    def bounded(self) -> bool:
        """Whether any noised channel leaves, so that epsilon speaks of something."""
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


def make_accountant(
    config: TrainConfig, *, num_cells: int, num_groups: int, has_demand: bool
) -> PrivacyAccountant:
    """Reckons what leaves a peer in ``exchange.mode``, release by release.

    It takes the modes at their word: noise of the multiplier over the sensitivity
    that the channel names, where counts are exact, each real step in one cell once
    (an estimate out of sampled replay rows moves by more than one).

    Args:
      config: exchange, privacy, memory and synchronisation are read.
      num_cells: K, public context cells.
      num_groups: G, coarse cells of mode consortium.
      has_demand: whether demand coefficients leave at all.

    Returns:
      The ledger of each peer.

    Raises:
      ConfigError: a budget that no bound backs, mode public without noise, or a
        budget where ``dp_accounting`` is not installed.
    """
    privacy, mode = config.privacy, config.exchange.mode
    budget = privacy.epsilon
    if mode == "private":
        if budget > 0:
            reason = "must be 0 with exchange.mode='private': it shares everything"
            _refuse("privacy.epsilon", budget, f"{reason} in full, no bound holds")
        return _private(config, has_demand)
    timed = config.synchronisation.threshold
    if budget > 0:
        _library()
        if timed > 0:
            reason = "must be 0 with a privacy.epsilon: when a peer speaks tells of its"
            _refuse("synchronisation.threshold", timed, f"{reason} data")
    must = "in mode public" if mode == "public" else "with a privacy.epsilon"
    if mode == "public" or budget > 0:
        if privacy.value_noise == 0 and (mode == "public" or _values_leave(config)):
            _refuse("privacy.value_noise", 0.0, f"must be above 0 {must}")
        if privacy.demand_noise == 0 and has_demand:
            _refuse("privacy.demand_noise", 0.0, f"must be above 0 {must}")
    if budget > 0 and has_demand and _decaying_stream(config):
        reason = "must be 1 with a privacy.epsilon and privacy.release='matrix'"
        _refuse("memory.decay", config.memory.decay, reason)
    if mode == "public":
        accountant = _public(config, num_cells, has_demand)
    elif mode == "consortium":
        accountant = _consortium(config, num_groups, has_demand)
    else:
        raise NotImplementedError(f"exchange.mode={mode!r} has no accounting")
    if budget > 0 and not accountant.bounded:
        reason = "must be 0 where no noised channel leaves: no values and no demand"
        _refuse("privacy.epsilon", budget, reason)
    if timed > 0:
        # What is released depends, noiselessly, on the data: no channel has a bound.
        why = "no epsilon: synchronisation.threshold lets the data say when"
        return PrivacyAccountant(
            dict.fromkeys(accountant.channels, why), delta=privacy.delta
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
        _refuse("method", method, "must be one of pld, rdp")
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


def _private(config: TrainConfig, has_demand: bool) -> PrivacyAccountant:
    names = ["values and counts", "actions", "entropy", "time"]
    names += ["demand statistics"] if has_demand else []
    channels = dict.fromkeys(names, "no epsilon: shared in full")
    return PrivacyAccountant(channels, delta=config.privacy.delta)


def _consortium(
    config: TrainConfig, num_groups: int, has_demand: bool
) -> PrivacyAccountant:
    privacy = config.privacy
    # Networks depend on every step they were trained on, whatever the cell.
    trained = "no epsilon: the policy depends on every step and leaves without noise"
    seen = f"{trained}, and so does which cells were seen"
    channels = {"action ranges": trained, "entropy": seen}
    each = once = 0.0
    if _values_leave(config):
        bound = 2.0 * privacy.clip * math.sqrt(num_groups)
        how = _gaussian("privacy.value_noise", privacy.value_noise)
        worst = f"worst change {bound:.3g} = 2 clip sqrt({num_groups})"
        channels["values"] = _counted(how, worst)
        channels["counts"] = _counted(how, "worst change sqrt(2), a step moves cell")
        each += 2.0 * _inverse_square(privacy.value_noise)
    if has_demand:
        channels["demand coefficients"], often, ever = _demand(config)
        each, once = each + often, once + ever
    channels["time"] = _ON_TIME
    return PrivacyAccountant(
        channels, each, once, delta=privacy.delta, budget=privacy.epsilon
    )


def _public(config: TrainConfig, num_cells: int, has_demand: bool) -> PrivacyAccountant:
    privacy = config.privacy
    response = f"privacy.trend_epsilon={privacy.trend_epsilon:g}"
    channels = {
        "trend": f"epsilon: {num_cells} randomised responses a release, {response}",
        "entropy": _counted(
            _gaussian("privacy.value_noise", privacy.value_noise),
            "worst change of one bounded number",
        ),
    }
    each, once = _inverse_square(privacy.value_noise), 0.0
    if has_demand:
        channels["demand coefficients"], often, once = _demand(config)
        each += often
    channels["time"] = _ON_TIME
    return PrivacyAccountant(
        channels,
        each,
        once,
        responses=num_cells,
        response_epsilon=privacy.trend_epsilon,
        delta=privacy.delta,
        budget=privacy.epsilon,
    )


def _demand(config: TrainConfig) -> tuple[str, float, float]:
    """Channel, and 1/multiplier² of each release and of the whole stream."""
    privacy = config.privacy
    cost = _inverse_square(privacy.demand_noise)
    how = _gaussian("privacy.demand_noise", privacy.demand_noise)
    if privacy.release == "independent":
        return _counted(how, "worst change of the sums by one step"), cost, 0.0
    if _decaying_stream(config):
        decay = f"memory.decay={config.memory.decay:g}"
        return f"no epsilon: {decay}, matrix noise is for plain sums", 0.0, 0.0
    whole = how.replace("a release", "for all releases together")
    return _counted(whole, "square-root factorisation of running sums"), 0.0, cost


def _gaussian(name: str, multiplier: float) -> str:
    if multiplier <= 0:
        return f"no epsilon: {name}=0"
    return f"epsilon: a Gaussian mechanism a release, {name}={multiplier:g}"


def _counted(how: str, sensitivity: str) -> str:
    return how if how.startswith("no epsilon") else f"{how}, {sensitivity}"


def _values_leave(config: TrainConfig) -> bool:
    return config.exchange.value_sharing != "none"


def _decaying_stream(config: TrainConfig) -> bool:
    return config.privacy.release == "matrix" and config.memory.decay != 1.0


def _inverse_square(multiplier: float) -> float:
    """1/multiplier², and 0 for a channel without noise, which is not counted."""
    return multiplier**-2 if multiplier > 0 else 0.0


def _refuse(name: str, value: Any, reason: str) -> None:
    raise ConfigError(f"{name}={value!r} {reason}")


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

    Where it may lie beyond 700 the bound of zero-concentrated privacy is returned,
    which is above it and needs no e^-epsilon.
    """
    bound = _closed_bound(spent, responses, each, delta)
    if bound > _MOST:
        return bound
    losses = _library().pld.privacy_loss_distribution
    grid = _GRID * (0.5 * spent + 5.0 * math.sqrt(spent) + responses * each)
    total = None
    if responses:
        # The number of true answers says all that n answers do, so their joint
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
