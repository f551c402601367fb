"""What messages of trained peers reveal about one week, attacked and bounded."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from benchmarks.leakage_game import EVERYTHING
from benchmarks.membership import Leak, gaussian_auc_bound, membership_auc
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.pricing import make_pricing


def attack(sent: dict[str, np.ndarray], inside: int) -> dict[str, Leak]:
    """Attacks what a game's peer sent, channel by channel, with ``membership_auc``.

    Half of the worlds fit the attack and half are scored. Results are lower bounds:
    another attacker may do better.

    Args:
      sent: by channel [R, M, N] the messages that the attacker has.
      inside: the first so many runs have the target, the others do not.
    """
    rows = {channel: x.reshape(len(x), -1) for channel, x in sent.items()}
    return {
        channel: membership_auc(x[:inside], x[inside:]) for channel, x in rows.items()
    }


def leakage_bounds(config: TrainConfig, releases: int) -> dict[str, float]:
    """The best that any attacker can do against the mechanisms of a mode.

    Gaussian mechanisms of multiplier z are μ-GDP with μ = 1/z, a randomised response
    of ε with μ = -2 Φ⁻¹(1/(1 + e^ε)): its trade-off curve lies above that of two
    Gaussians a distance μ apart, which it meets in its corner (Dong, Roth and Su
    2022). All of them together have the root of the sum of squares.

    Demand sums are bounded against the replacement of one record and of nothing else.
    A learner that goes on learning from the record charges other prices, so later
    records differ too; the bound then holds for the round of the record alone.

    Args:
      config: exchange.mode and privacy are read.
      releases: messages that the attacker has.

    Returns:
      By channel the largest area under the ROC curve, for the channels that have one
      below 1.
    """
    privacy, mode = config.privacy, config.exchange.mode
    if mode not in ("consortium", "public"):
        return {}

    def squared(multiplier: float) -> float:
        return multiplier**-2 if multiplier > 0 else math.inf

    plain_sums = privacy.release == "independent" or config.memory.decay == 1.0
    each = squared(privacy.value_noise)
    whole = squared(privacy.demand_noise) if plain_sums else math.inf
    costs = {"demand": whole * (releases if privacy.release == "independent" else 1)}
    if mode == "consortium":
        costs["counts"] = releases * each
        costs["values"] = 2 * releases * each  # noised counts decide what is shown
    else:
        if config.exchange.entropy_sharing:
            costs["entropy"] = releases * each
        response = -2.0 * special.ndtri(special.expit(-privacy.trend_epsilon))
        cells = make_pricing(config.environment).num_cells
        costs["trend"] = releases * cells * response**2
    if mode == "public" or not config.exchange.entropy_sharing:
        costs[EVERYTHING] = sum(costs.values())
    return {
        channel: gaussian_auc_bound(cost**-0.5)
        for channel, cost in costs.items()
        if math.isfinite(cost)
    }
