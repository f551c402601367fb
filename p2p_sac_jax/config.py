"""The configuration: frozen dataclasses, one line or two for each field.

Traced fields reach the compiled program as arrays and may differ by run; every other
field is static and a change compiles a new program. ``validation`` checks values.
"""

from __future__ import annotations

import dataclasses

from p2p_sac_jax.fields import ConfigError as ConfigError
from p2p_sac_jax.fields import choice, static, switch, text, traced

WEEK_S = 604_800.0
EXPLORATION_SOURCES = ("memory", "policy", "fixed")


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    """The problem that each peer faces."""

    name: str = choice(
        "pricing",
        "environments.registry:ENVIRONMENTS",
        "a market, a control task, or a factory of one's own",
        form="module:factory",
    )
    world: str = choice(
        "logit", "environments.worlds:WORLDS", "how demand answers prices in the market"
    )
    reference_effect: float = static(
        0.0, "[0, 10]", "utility lost per unit of price above the reference price"
    )
    regime_hazard: float = static(0.0, "[0, 1]", "chance of a regime shift per step")
    seconds_per_step: float = static(
        WEEK_S, "(0, inf)", "seconds of the shared clock that a step takes"
    )


@dataclasses.dataclass(frozen=True)
class PopulationConfig:
    """The peers."""

    name: str = choice(
        "chain",
        "environments.calibration:POPULATIONS",
        "stores of one chain, or of different brands",
    )
    draw: str = choice(
        "quantiles",
        ("quantiles", "random"),
        "the same stores at every seed, spread over elasticity; or drawn by the seed",
    )
    peers: int = static(16, "[1, inf)", "number of learners")
    pad_to: int = static(0, "[0, inf)", "pad with masked peers up to this; 0: none")
    held_out: bool = switch(False, "draw the stores that are kept out of training")
    heterogeneity: float = static(
        1.0, "[0, 2]", "how far stores differ: 0 not at all, 1 as calibrated"
    )
    newcomers: int = static(0, "[0, inf)", "number of peers, the last, that join late")
    join_step: int = static(0, "[0, inf)", "step at which newcomers join")

    @property
    def drawn_by_seed(self) -> bool:
        """Whether each seed has stores of its own."""
        return self.draw == "random"


@dataclasses.dataclass(frozen=True)
class SacConfig:
    """Soft Actor-Critic (Haarnoja et al. 2018, v2 with learned temperature)."""

    hidden: int = static(64, "[1, inf)", "width of both hidden layers")
    batch_size: int = static(64, "[1, inf)", "replay rows per update")
    learning_rate: float = traced(4e-3, "(0, 1]", "of Adam, shared by all three losses")
    # Tuned, see docs/lab_notes.md: large steps at first, then averaging.
    learning_rate_half_life: float = traced(
        30.0, "[0, inf)", "own steps that halve the learning rate; 0: constant"
    )
    discount: float = traced(0.0, "[0, 1)", "discount factor gamma of a step")
    tau: float = traced(0.01, "(0, 1]", "Polyak step of the target critics")
    target_entropy: float = traced(-1.0, "(-inf, inf)", "nats, of the squashed policy")
    initial_alpha: float = static(0.05, "(0, inf)", "temperature before learning")
    updates_per_step: int = static(16, "[1, inf)", "gradient updates per step")
    replay_capacity: int = static(0, "[0, 2147483647]", "transitions kept; 0: all")
    replay: str = choice("own", ("own", "pooled"), "transitions of this peer, or all")
    learning_starts: int = traced(4, "[0, inf)", "own steps before the first update")
    warmup: int = traced(0, "[0, inf)", "own steps with uniformly random actions")
    max_grad_norm: float = static(
        0.0, "[0, inf)", "clip the gradient of each loss to this norm; 0: no clipping"
    )


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """Price memory: what each peer remembers of its own demand."""

    kind: str = choice(
        "demand",
        "demand.registry:PRICE_MEMORIES",
        "a model of demand, a table of prices, or nothing",
    )
    pooling: str = choice(
        "prior",
        "exchange.exchange:POOLINGS",
        "use of the neighbours' demand data: as a prior, as own data, or not at all",
    )
    decay: float = traced(1.0, "(0, 1]", "share of the data's weight kept per step")
    pretrain_updates: int = static(
        200, "[0, inf)", "updates on model rollouts of a peer that joins late"
    )
    # The policy takes a year to learn what the memory's model says at once.
    model_blend_half_life: float = traced(
        200.0,
        "[0, inf)",
        "own steps that halve the share of the memory's best price in the price set;"
        " 0: no share",
    )


@dataclasses.dataclass(frozen=True)
class ModelRolloutsConfig:
    """Prices that were not set, with the demand that the memory expects of them."""

    fraction: float = traced(0.97, "[0, 1]", "share of model rollouts in a batch")
    half_life: float = traced(0.0, "[0, inf)", "own steps that halve it; 0: constant")


@dataclasses.dataclass(frozen=True)
class ExplorationConfig:
    """Standard deviation of the behaviour policy, in units of the action."""

    source: str = choice(
        "memory", EXPLORATION_SOURCES, "what sets the standard deviation", traced=True
    )
    # Fifteen others explore too, and their data make a narrow prior.
    std_max: float = traced(0.07, "(0, 1]", "upper bound; the value if source=fixed")
    std_min: float = traced(0.02, "(0, 1]", "lower bound")
    bonus: float = traced(1.0, "[0, inf)", "weight of the network's exploration bonus")


@dataclasses.dataclass(frozen=True)
class ExchangeConfig:
    """What peers send, to whom, how often, and what receivers make of it."""

    mode: str = choice("private", "exchange.messages:MODES", "what may leave a peer")
    topology: str = choice(
        "complete",
        ("exchange.topology:TOPOLOGIES", "matrix"),
        "who receives from whom",
    )
    matrix: str = text("", ".npy or .csv file of the adjacency, for topology=matrix")
    degree: int = static(4, "[1, inf)", "neighbours in k_regular and small_world")
    edge_chance: float = static(
        0.3, "[0, 1]", "chance of an edge in erdos_renyi, of rewiring in small_world"
    )
    mixing: str = choice(
        "uniform", "exchange.mixing:MIXINGS", "weights of the edges before any message"
    )
    interval: int = static(4, "[1, inf)", "steps between exchanges")
    value_sharing: str = choice(
        "precision",
        "exchange.value_sharing:VALUE_SHARING",
        "how the neighbours' values enter the learner",
    )
    entropy_sharing: bool = switch(
        False, "mix the spread of the neighbours' policies into one's own exploration"
    )
    aggregator: str = choice(
        "mean",
        "exchange.aggregators:AGGREGATORS",
        "how several messages become one",
    )
    byzantine_fraction: float = static(
        0.34, "[0, 0.5)", "share of byzantine neighbours that a robust aggregator bears"
    )
    local_weight: float = traced(0.7, "[0, inf)", "weight of own knowledge")
    network_weight: float = traced(
        0.05, "[0, inf)", "weight of the network's knowledge; 0: isolated peers"
    )
    # A step is a week: after a day nothing would be left of an insight.
    recency_tau_s: float = traced(
        26 * WEEK_S, "(0, inf)", "seconds in which the weight of an insight falls by e"
    )
    age_max_s: float = traced(
        31_449_600.0, "[0, inf)", "seconds after which an insight weighs nothing"
    )
    n0: float = traced(8.0, "(0, inf)", "steps in a cell that make confidence 1/2")
    td_penalty: float = traced(1.0, "[0, inf)", "how TD errors lower confidence")
    value_half_life: float = traced(
        100.0, "(0, inf)", "own steps that halve the weight of the neighbours' values"
    )


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
    """What makes one neighbour weigh more than another."""

    recency: bool = switch(True, "insights fade with age", traced=True)
    confidence: bool = switch(True, "the sender's confidence counts", traced=True)
    trust_rate: float = traced(0.0, "[0, 1]", "how fast trust follows evidence; 0: off")
    trust_temperature: float = traced(
        0.5, "(0, inf)", "excess error that costs a factor e of trust"
    )
    similarity_width: float = static(
        0.0,
        "[0, inf)",
        "distance of contexts that costs a factor e^(1/2); 0: no effect",
    )
    performance_filter: bool = switch(
        False, "receive only from peers that perform as well", traced=True
    )
    performance_margin: float = traced(
        0.1, "[0, inf)", "reward a sender may be short of"
    )
    max_share: float = traced(1.0, "(0, 1]", "largest share of one neighbour's weight")


@dataclasses.dataclass(frozen=True)
class SynchronisationConfig:
    """When a peer sends at a round; by default at every one."""

    threshold: float = traced(0.0, "[0, inf)", "change of own values worth a message")
    max_interval: int = traced(
        0, "[0, inf)", "steps after which a peer sends without a change; 0: every round"
    )
    tokens: float = traced(0.0, "[0, inf)", "messages in a row; 0: unlimited")
    refill: float = traced(0.0, "[0, inf)", "tokens regained per round")


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Noise and budget of the modes consortium and public."""

    epsilon: float = static(
        0.0,
        "[0, inf)",
        "budget of a peer, which sends nothing once it is spent; 0: none",
    )
    delta: float = static(1e-5, "(0, 1)", "of the (epsilon, delta) guarantee")
    value_noise: float = static(
        1.0, "[0, inf)", "noise of values, in sensitivities per release"
    )
    demand_noise: float = static(
        1.0, "[0, inf)", "noise of demand statistics, in sensitivities per release"
    )
    release: str = choice("matrix", ("matrix", "independent"), "noise of demand sums")
    clip: float = static(2.0, "(0, inf)", "bound of the normalised values that leave")
    min_count: int = static(4, "[1, inf)", "steps in a cell before its value leaves")
    min_weeks: int = static(8, "[1, inf)", "steps before demand coefficients leave")
    min_peers: int = static(3, "[2, inf)", "peers behind every mean of mode public")
    trend_epsilon: float = static(1.0, "(0, inf)", "of the signs, per cell and release")
    trend_window: int = static(1, "[1, inf)", "rounds that a trend looks back")


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """Simulated faults between peers."""

    loss: float = static(0.0, "[0, 1]", "chance that a message to a receiver is lost")
    delay: int = static(0, "[0, inf)", "rounds that delayed messages take")
    stragglers: float = static(1.0, "[0, 1]", "share of peers with delayed messages")
    churn: float = static(0.0, "[0, 1]", "share of peers that leave the network")
    leave_step: int = static(0, "[0, inf)", "step at which they leave")
    rejoin_step: int = static(0, "[0, inf)", "step at which they come back; 0: never")
    partition_step: int = static(0, "[0, inf)", "step that splits the peers in two")
    heal_step: int = static(0, "[0, inf)", "step at which it heals; 0: no partition")


@dataclasses.dataclass(frozen=True)
class AttackConfig:
    """Simulated byzantine peers."""

    kind: str = choice(
        "none", ("none", "simulation.attacks:ATTACKS"), "what byzantine peers send"
    )
    byzantine: int = static(0, "[0, inf)", "number of them, last before newcomers")
    strength: float = static(1.0, "[0, inf)", "of the attack, in its own units")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    seed: int = static(0, "[0, 2147483647]", "first seed")
    seeds: int = static(1, "[1, inf)", "number of seeds, run side by side")
    steps: int = static(208, "[1, inf)", "environment steps per peer")
    evaluate_every: int = static(4, "[1, inf)", "steps between evaluations")
    checkpoint_every: int = static(52, "[1, inf)", "steps between checkpoints")
    evaluation_weeks: int = static(104, "[1, inf)", "steps of one evaluation episode")
    on_divergence: str = choice(
        "stop",
        ("stop", "warn"),
        "at the first loss or parameter of a peer that is not finite or beyond 1e12",
    )
    layout: str = choice("auto", ("auto", "vmap", "map"), "how a device runs its peers")
    devices: int = static(
        0,
        "[0, inf)",
        "devices that hold peers, of all processes; 0: as many as are useful",
    )
    device: str = choice("auto", ("auto", "cpu", "gpu", "tpu"), "kind of device")
    learner: str = choice(
        "sac", ("sac", "thompson"), "prices by a policy, or by draws from the memory"
    )
    arms: str = text("plain,memory,network", "arms run side by side, comma-separated")
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
