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

    name: str = "chain"  # chain | brands: stores of one chain, or different brands
    peers: int = 16  # number of learners
    pad_to: int = 0  # pad with masked peers up to this count; 0 is none
    held_out: bool = False  # take the stores that training never sees
    heterogeneity: float = 1.0  # how far stores differ: 0 not at all, 1 as calibrated
    newcomers: int = 0  # the last n peers join late
    join_step: int = 0  # step at which newcomers join


@dataclasses.dataclass(frozen=True)
class SacConfig:
    """Soft Actor-Critic (Haarnoja et al. 2018, v2 with learned temperature)."""

    hidden: int = 64  # width of both hidden layers
    batch_size: int = 64  # replay rows per update
    learning_rate: float = 1e-3  # (traced) Adam, shared by all three losses
    learning_rate_half_life: float = (
        0.0  # (traced) own steps that halve that rate; 0 is never
    )
    discount: float = 0.0  # (traced) gamma
    tau: float = 0.01  # (traced) Polyak step of the target critics
    target_entropy: float = -1.0  # (traced) nats, of the squashed policy
    initial_alpha: float = 0.1  # temperature before learning
    updates_per_step: int = 16  # gradient updates per environment step
    replay_capacity: int = 0  # transitions kept; 0 keeps every step of the run
    replay: str = "own"  # own | pooled: study own weeks alone, or those of all peers
    learning_starts: int = 4  # (traced) steps before the first update
    warmup: int = 0  # (traced) steps of uniformly random actions
    max_grad_norm: float = 0.0  # clip each loss's gradient; 0 is off


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """Price memory: what each peer remembers of its own demand."""

    kind: str = "demand"  # demand | bins | none
    pooling: str = "prior"  # prior | pooled | none: how neighbours' data enter
    decay: float = 1.0  # (traced) weight kept by a step's statistics per step
    pretrain_updates: int = 200  # imagined updates of a peer that joins late
    model_blend_half_life: float = (
        0.0  # (traced) own steps that halve its say; 0 is none
    )


@dataclasses.dataclass(frozen=True)
class ModelRolloutsConfig:
    """Imagined prices mixed into the learner's batches."""

    fraction: float = 0.9  # (traced) share of imagined rows
    half_life: float = 0.0  # (traced) own steps that halve the share; 0 is never


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

    mode: str = "private"  # private | consortium | public: what may leave a peer
    topology: str = "complete"  # who receives from whom
    matrix: str = ""  # .npy or .csv file of the adjacency, for topology=matrix
    degree: int = 4  # neighbours of a peer in k_regular and small_world
    edge_chance: float = 0.3  # of an edge in erdos_renyi, of rewiring in small_world
    mixing: str = "uniform"  # uniform | metropolis: how loud each neighbour is
    interval: int = 4  # steps between exchanges
    value_sharing: str = "precision"  # how the network's values enter the learner
    aggregator: str = "mean"  # how several claims become one
    byzantine_fraction: float = 0.34  # share of neighbours a robust aggregator may lose
    local_weight: float = 0.7  # (traced) weight of own knowledge
    network_weight: float = 0.3  # (traced) weight of the network's; 0 is isolation
    recency_tau_s: float = 86_400.0  # (traced) decay time of an insight, seconds
    age_max_s: float = 31_449_600.0  # (traced) older insights weigh exactly nothing
    n0: float = 8.0  # (traced) steps in a cell at which confidence reaches 1/2
    td_penalty: float = 1.0  # (traced) how fast TD error erodes confidence
    value_half_life: float = 100.0  # (traced) own steps that halve the value weight


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
    """What makes one neighbour's word weigh more than another's."""

    recency: bool = True  # (traced) old insights fade by exchange.recency_tau_s
    confidence: bool = True  # (traced) a sender's confidence counts
    trust_rate: float = 0.0  # (traced) how fast trust follows evidence; 0 is off
    trust_temperature: float = 0.5  # (traced) excess error that costs a factor e
    similarity_width: float = 0.0  # distance of contexts that costs e^-1/2; 0 is off
    performance_filter: bool = False  # (traced) hear only peers who do as well
    performance_margin: float = 0.1  # (traced) reward they may stay behind
    max_share: float = 1.0  # (traced) most that one neighbour may weigh


@dataclasses.dataclass(frozen=True)
class SynchronisationConfig:
    """When a peer speaks at a round; the defaults speak at every one."""

    threshold: float = 0.0  # (traced) relative change of own values worth telling
    max_interval: int = 0  # (traced) steps after which a peer speaks anyway
    tokens: float = 0.0  # (traced) messages a peer may send; 0 is unlimited
    refill: float = 0.0  # (traced) tokens regained per round


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Noise and budget of the modes consortium and public."""

    epsilon: float = 0.0  # budget per peer, who then falls silent; 0 sets none
    delta: float = 1e-5  # of the (epsilon, delta) guarantee
    value_noise: float = 1.0  # noise over sensitivity, a release; 0 claims no epsilon
    demand_noise: float = 1.0  # the same for demand statistics
    release: str = "matrix"  # matrix | independent: noise of the running demand sums
    clip: float = 2.0  # bound of the normalised values that leave
    min_count: int = 4  # steps in a coarse cell before its value leaves
    min_weeks: int = 8  # steps before demand coefficients leave
    min_peers: int = 3  # peers behind every mean of mode public
    trend_epsilon: float = 1.0  # randomised response, a cell and release
    trend_window: int = 1  # rounds a trend looks back


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """What goes wrong between peers, to test what they make of it."""

    loss: float = 0.0  # chance that a message is lost on its way to a receiver
    delay: int = 0  # rounds that delayed messages take
    stragglers: float = 1.0  # share of peers whose messages are delayed
    churn: float = 0.0  # share of peers that leave the network for a while
    leave_step: int = 0  # step at which they leave
    rejoin_step: int = 0  # step at which they come back
    partition_step: int = 0  # step at which the network falls into two halves
    heal_step: int = 0  # step at which it heals; 0 is no partition


@dataclasses.dataclass(frozen=True)
class AttackConfig:
    """Peers that lie, to test what the honest ones make of it."""

    kind: str = "none"  # the lie
    byzantine: int = 0  # number of peers that tell it, the last before newcomers
    strength: float = 1.0  # of the lie, in its own units


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Root of the configuration: one training run."""

    seed: int = 0  # first seed
    seeds: int = 1  # number of seeds, run side by side
    steps: int = 208  # environment steps per peer
    evaluate_every: int = 4  # steps between evaluations; one compiled chunk
    checkpoint_every: int = 52  # steps between checkpoints
    evaluation_weeks: int = 104  # steps of one evaluation episode
    layout: str = "auto"  # auto | vmap | map: how one device runs its peers
    devices: int = 0  # that hold peers, of all processes; 0 is as many as are useful
    device: str = "auto"  # auto | cpu | gpu | tpu
    learner: str = "sac"  # sac | thompson: a policy sets prices, or the memory
    arms: str = "plain,memory,network"  # runs side by side, comma-separated
    environment: EnvironmentConfig = EnvironmentConfig()
    population: PopulationConfig = PopulationConfig()
    sac: SacConfig = SacConfig()
    memory: MemoryConfig = MemoryConfig()
    model_rollouts: ModelRolloutsConfig = ModelRolloutsConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    weights: WeightsConfig = WeightsConfig()
    synchronisation: SynchronisationConfig = SynchronisationConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    faults: FaultsConfig = FaultsConfig()
    attack: AttackConfig = AttackConfig()
