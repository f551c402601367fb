"""What a configuration may say: choices and ranges, field by field.

The two tables name every field that is not a switch or free text, so the error
a user reads and the reference in ``docs/configuration.md`` come from one place.
"""

from __future__ import annotations

import math

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import flatten, from_dict, to_dict
from p2p_sac_jax.consistency import check_consistency, refuse
from p2p_sac_jax.hyper import arm_names

CHOICES: dict[str, tuple[str, ...]] = {
    "layout": ("auto", "vmap", "map"),
    "device": ("auto", "cpu", "gpu", "tpu"),
    "learner": ("sac", "thompson"),
    "environment.name": ("pricing", "pendulum", "lqr"),
    "population.name": ("chain", "brands"),
    "sac.replay": ("own", "pooled"),
    "memory.kind": ("demand", "bins", "none"),
    "memory.pooling": ("prior", "pooled", "none"),
    "exploration.source": ("memory", "policy", "fixed"),
    "exchange.mode": ("private", "consortium", "public"),
    "exchange.topology": (
        "complete",
        "ring",
        "torus",
        "star",
        "line",
        "exponential",
        "k_regular",
        "small_world",
        "erdos_renyi",
        "empty",
        "matrix",
        "one_peer_exponential",
        "random_matching",
    ),
    "exchange.mixing": ("uniform", "metropolis"),
    "exchange.value_sharing": (
        "none",
        "scalar",
        "per_cell",
        "precision",
        "shaping",
        "max",
    ),
    "exchange.aggregator": (
        "mean",
        "median",
        "trimmed_mean",
        "geometric_median",
        "krum",
        "multi_krum",
        "centred_clipping",
        "nearest_neighbour",
    ),
    "privacy.release": ("matrix", "independent"),
    "attack.kind": (
        "none",
        "sign_flip",
        "gaussian",
        "alie",
        "ipm",
        "mimic",
        "dissensus",
        "confidence",
        "timestamp",
        "replay",
        "nonfinite",
    ),
}

# Choices of earlier versions, and what took their place.
REPLACED: dict[tuple[str, str], str] = {
    ("layout", "shard"): "layout='map' took its place, with devices=N to share peers",
}

# Interval notation: a round bracket leaves its end out. All values are finite.
RANGES: dict[str, str] = {
    "seed": "[0, 2147483647]",
    "seeds": "[1, inf)",
    "steps": "[1, inf)",
    "evaluate_every": "[1, inf)",
    "checkpoint_every": "[1, inf)",
    "evaluation_weeks": "[1, inf)",
    "devices": "[0, inf)",
    "environment.reference_effect": "[0, inf)",
    "environment.regime_hazard": "[0, 1]",
    "environment.inventory": "[0, inf)",
    "environment.seconds_per_step": "(0, inf)",
    "population.peers": "[1, inf)",
    "population.pad_to": "[0, inf)",
    "population.heterogeneity": "[0, 2]",
    "population.newcomers": "[0, inf)",
    "population.join_step": "[0, inf)",
    "sac.hidden": "[1, inf)",
    "sac.batch_size": "[1, inf)",
    "sac.learning_rate": "(0, 1]",
    "sac.learning_rate_half_life": "[0, inf)",
    "sac.discount": "[0, 1)",
    "sac.tau": "(0, 1]",
    "sac.target_entropy": "(-inf, inf)",
    "sac.initial_alpha": "(0, inf)",
    "sac.updates_per_step": "[1, inf)",
    "sac.replay_capacity": "[0, inf)",
    "sac.learning_starts": "[0, inf)",
    "sac.warmup": "[0, inf)",
    "sac.max_grad_norm": "[0, inf)",
    "memory.decay": "(0, 1]",
    "memory.pretrain_updates": "[0, inf)",
    "memory.model_blend_half_life": "[0, inf)",
    "model_rollouts.fraction": "[0, 1]",
    "model_rollouts.half_life": "[0, inf)",
    "exploration.std_max": "(0, 1]",
    "exploration.std_min": "(0, 1]",
    "exploration.bonus": "[0, inf)",
    "exchange.degree": "[1, inf)",
    "exchange.edge_chance": "[0, 1]",
    "exchange.interval": "[1, inf)",
    "exchange.byzantine_fraction": "[0, 0.5)",
    "exchange.local_weight": "[0, inf)",
    "exchange.network_weight": "[0, inf)",
    "exchange.recency_tau_s": "(0, inf)",
    "exchange.age_max_s": "[0, inf)",
    "exchange.n0": "(0, inf)",
    "exchange.td_penalty": "[0, inf)",
    "exchange.value_half_life": "(0, inf)",
    "weights.trust_rate": "[0, 1]",
    "weights.trust_temperature": "(0, inf)",
    "weights.similarity_width": "[0, inf)",
    "weights.performance_margin": "[0, inf)",
    "weights.max_share": "(0, 1]",
    "synchronisation.threshold": "[0, inf)",
    "synchronisation.max_interval": "[0, inf)",
    "synchronisation.tokens": "[0, inf)",
    "synchronisation.refill": "[0, inf)",
    "privacy.epsilon": "[0, inf)",
    "privacy.delta": "(0, 1)",
    "privacy.value_noise": "[0, inf)",
    "privacy.demand_noise": "[0, inf)",
    "privacy.clip": "(0, inf)",
    "privacy.min_count": "[1, inf)",
    "privacy.min_weeks": "[1, inf)",
    "privacy.min_peers": "[2, inf)",
    "privacy.trend_epsilon": "(0, inf)",
    "privacy.trend_window": "[1, inf)",
    "faults.loss": "[0, 1]",
    "faults.delay": "[0, inf)",
    "faults.stragglers": "[0, 1]",
    "faults.churn": "[0, 1]",
    "faults.leave_step": "[0, inf)",
    "faults.rejoin_step": "[0, inf)",
    "faults.partition_step": "[0, inf)",
    "faults.heal_step": "[0, inf)",
    "attack.byzantine": "[0, inf)",
    "attack.strength": "[0, inf)",
}


def validate(config: TrainConfig) -> None:
    """Accepts a configuration that can run.

    Args:
      config: the configuration, however it was made.

    Raises:
      ConfigError: the first thing wrong, on one line: field, value, what is
        allowed.
    """
    fields = dict(flatten(to_dict(from_dict(to_dict(config)))))  # checks the types
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            instead = REPLACED.get((name, fields[name]))
            hint = f"; {instead}" if instead else ""
            refuse(name, fields[name], f"must be one of {', '.join(choices)}{hint}")
    for name, interval in RANGES.items():
        if not _inside(fields[name], interval):
            refuse(name, fields[name], f"must be in {interval}")
    check_consistency(config, fields)
    arm_names(config)


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)
