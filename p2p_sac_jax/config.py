"""Configuration: frozen dataclasses, validated once, and the traced part.

Fields marked (traced) reach the compiled program as arrays and may differ by
run; every other field is static and a change compiles a new program.
"""

from __future__ import annotations

import dataclasses

WEEK_S = 604_800.0


class ConfigError(ValueError):
    """A configuration that cannot run; the message is one line for the user."""


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    """Which problem each peer faces."""

    name: str = "pricing"  # pricing | pendulum | lqr
    reference_effect: float = 0.0  # eta / alpha, utility per unit of (p - r)
    regime_hazard: float = 0.0  # chance of a regime shift per step
    inventory: int = 0  # perishable stock; 0 is unlimited
    seconds_per_step: float = WEEK_S  # turns steps into seconds of the shared clock


@dataclasses.dataclass(frozen=True)
class PopulationConfig:
    """Who the peers are."""

    name: str = "private"  # private | consortium | public
    peers: int = 16  # number of learners
    pad_to: int = 0  # pad with masked peers up to this count; 0 is none
    held_out: bool = False  # take the stores that training never sees
    newcomers: int = 0  # the last n peers join late
    join_step: int = 0  # step at which newcomers join


@dataclasses.dataclass(frozen=True)
class SacConfig:
    """Soft Actor-Critic (Haarnoja et al. 2018, v2 with learned temperature)."""

    hidden: int = 64  # width of both hidden layers
    batch_size: int = 64  # replay rows per update
    learning_rate: float = 1e-3  # (traced) Adam, shared by all three losses
    discount: float = 0.0  # (traced) gamma
    tau: float = 0.01  # (traced) Polyak step of the target critics
    target_entropy: float = -1.0  # (traced) nats, of the squashed policy
    initial_alpha: float = 0.1  # temperature before learning
    updates_per_step: int = 16  # gradient updates per environment step
    replay_capacity: int = 0  # transitions kept; 0 keeps every step of the run
    learning_starts: int = 4  # (traced) steps before the first update
    warmup: int = 0  # (traced) steps of uniformly random actions
    max_grad_norm: float = 0.0  # clip each loss's gradient; 0 is off


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """Price memory: what each peer remembers of its own demand."""

    kind: str = "demand"  # demand | bins | none
    pooling: str = "prior"  # prior | pooled | none: how neighbours' data enter
    decay: float = 1.0  # (traced) weight kept by a step's statistics per step
    rehearsal_updates: int = 200  # imagined updates of a peer that joins late


@dataclasses.dataclass(frozen=True)
class ImaginationConfig:
    """Imagined prices mixed into the learner's batches."""

    fraction: float = 0.9  # (traced) share of imagined rows
    anneal_steps: float = 0.0  # (traced) own steps that halve the share; 0 is never


@dataclasses.dataclass(frozen=True)
class ExplorationConfig:
    """Spread of the behaviour policy, in action units."""

    source: str = "memory"  # (traced) memory | policy | fixed
    std_max: float = 0.15  # (traced) widest, and the value of source=fixed
    std_min: float = 0.05  # (traced) narrowest
    bonus: float = 1.0  # (traced) weight of the network's exploration bonus


@dataclasses.dataclass(frozen=True)
class ExchangeConfig:
    """What peers tell each other, to whom, how often, and what they make of it."""

    mode: str = "private"  # private (consortium and public are not built yet)
    topology: str = "complete"  # complete | ring | star | empty | matrix
    matrix: str = ""  # .npy or .csv file of the adjacency, for topology=matrix
    interval: int = 4  # steps between exchanges
    estimation: str = "precision"  # none | seed_scalar | keyed | precision
    local_weight: float = 0.7  # (traced) weight of own knowledge
    network_weight: float = 0.3  # (traced) weight of the network's; 0 is isolation
    recency_tau_s: float = 86_400.0  # (traced) decay time of an insight, seconds
    age_max_s: float = 31_449_600.0  # (traced) older insights weigh exactly nothing
    n0: float = 8.0  # (traced) steps in a cell at which confidence reaches 1/2
    td_penalty: float = 1.0  # (traced) how fast TD error erodes confidence
    anneal_steps: float = 100.0  # (traced) own steps that halve the value weight


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Root of the configuration: one training run."""

    seed: int = 0  # first seed
    seeds: int = 1  # number of seeds, run side by side
    steps: int = 208  # environment steps per peer
    evaluate_every: int = 4  # steps between evaluations; one compiled chunk
    checkpoint_every: int = 52  # steps between checkpoints
    evaluation_weeks: int = 104  # steps of one evaluation episode
    layout: str = "auto"  # auto | vmap | map | shard
    device: str = "auto"  # auto | cpu | gpu | tpu
    arms: str = "plain,memory,network"  # runs side by side, comma-separated
    environment: EnvironmentConfig = EnvironmentConfig()
    population: PopulationConfig = PopulationConfig()
    sac: SacConfig = SacConfig()
    memory: MemoryConfig = MemoryConfig()
    imagination: ImaginationConfig = ImaginationConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    exchange: ExchangeConfig = ExchangeConfig()
