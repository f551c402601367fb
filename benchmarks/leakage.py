"""What messages of trained peers reveal about one week, attacked and bounded."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from benchmarks.leakage_game import EVERYTHING, Target, make_game
from benchmarks.membership import Leak, gaussian_auc_bound, membership_auc
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.pricing import make_pricing


def measure_leakage(
    config: TrainConfig,
    seeds: int,
    *,
    planted: int | None = None,
    target: Target | None = None,
    only_last: bool = True,
) -> dict[str, Leak]:
    """How well an attacker can tell whether one week is among a peer's records.

    The first peer gets one more week into its records before step ``planted``: the
    target in one kind of world, a week from its own market at its own price in the
    other. Training then goes on to the last round. Every world has a seed of its own,
    which is all that the attacker does not know: market noise, initial networks,
    exploration, batches and the noise of the mode.

    The attack is ``membership_auc``, fitted on half of the worlds. No two worlds share
    a seed: they would fall on both sides of that split, and a fit to chance differences
    would rank its own twins backwards (AUC .2 where nothing leaks).

    Args:
      config: a pricing market and a mode; the network arm alone is run, its
        ``config.seeds`` is ignored.
      seeds: worlds of each kind, at least 8; half of them are scored.
      planted: step before which the week enters, a multiple of ``exchange.interval``;
        the middle of the run by default.
      target: the attacker's week; by default the highest price at 4.5 times the usual
        sales.
      only_last: attack the last message alone, else all since the week entered.

    Returns:
      By channel the attack on that part of the message, and on ``EVERYTHING``. A
      channel that the mode does not have is left out. Lower bounds: another attacker
      may do better.

    Raises:
      ConfigError: a configuration that cannot run or has no demand, or a step that is
        no round.
    """
    game = make_game(config, 2 * seeds, planted=planted, target=target)
    sent = game.play(np.arange(2 * seeds) < seeds)
    if only_last:
        sent = {channel: x[:, -1:] for channel, x in sent.items()}
    return attack(sent, seeds)


def attack(sent: dict[str, np.ndarray], inside: int) -> dict[str, Leak]:
    """Attacks what a game's peer sent, channel by channel.

    Args:
      sent: by channel [R, M, N] the messages that the attacker has.
      inside: the first so many runs have the target, the others do not.
    """

    def one(x: np.ndarray) -> Leak:
        rows = x.reshape(len(x), -1)
        return membership_auc(rows[:inside], rows[inside:])

    return {channel: one(x) for channel, x in sent.items()}


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
        costs["entropy"] = releases * each
        response = -2.0 * special.ndtri(special.expit(-privacy.trend_epsilon))
        cells = make_pricing(config.environment).num_cells
        costs["trend"] = releases * cells * response**2
        costs[EVERYTHING] = sum(costs.values())
    return {
        channel: gaussian_auc_bound(cost**-0.5)
        for channel, cost in costs.items()
        if math.isfinite(cost)
    }
