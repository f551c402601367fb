"""What has to fit together in a simulated population, its faults and its attacks."""

from __future__ import annotations

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.topology import DYNAMIC
from p2p_sac_jax.fields import refuse


def check(config: TrainConfig) -> None:
    """Refuses what the simulation cannot do as asked.

    Raises:
      ConfigError: the first setting that does not fit.
    """
    _check_population(config)
    exchange, faults = config.exchange, config.faults
    if exchange.topology in DYNAMIC:
        where = f"with exchange.topology={exchange.topology!r}: of one message a round"
        if exchange.aggregator != "mean":
            reason = f"must be 'mean' {where} there is no robust mean"
            refuse("exchange.aggregator", exchange.aggregator, reason)
        if config.weights.trust_rate:
            reason = f"must be 0 {where} none is compared with another"
            refuse("weights.trust_rate", config.weights.trust_rate, reason)
    if 0 < faults.rejoin_step <= faults.leave_step:
        reason = f"must be 0 (never), or above faults.leave_step={faults.leave_step}"
        refuse("faults.rejoin_step", faults.rejoin_step, reason)
    if 0 < faults.heal_step <= faults.partition_step:
        start = faults.partition_step
        reason = f"must be 0 (no partition), or above faults.partition_step={start}"
        refuse("faults.heal_step", faults.heal_step, reason)


def _check_population(config: TrainConfig) -> None:
    population, chunk = config.population, config.evaluate_every
    peers, pad_to = population.peers, population.pad_to
    newcomers, joined = population.newcomers, population.join_step
    byzantine = config.attack.byzantine
    if 0 < pad_to < peers:
        reason = f"must be 0 or at least population.peers={peers}"
        refuse("population.pad_to", pad_to, reason)
    if newcomers >= peers:
        refuse(
            "population.newcomers", newcomers, f"must be below population.peers={peers}"
        )
    if byzantine >= peers - newcomers:
        reason = f"must be below the {peers - newcomers} peers that are there from"
        refuse("attack.byzantine", byzantine, f"{reason} the start")
    if newcomers and not 0 < joined < config.steps:
        reason = f"must be above 0 and below steps={config.steps}"
        refuse("population.join_step", joined, reason)
    if newcomers and joined % chunk:
        reason = f"must be a multiple of evaluate_every={chunk}"
        refuse("population.join_step", joined, reason)
