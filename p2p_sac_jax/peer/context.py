"""What the functions of one peer share: functions, static sizes, streams of keys.

``PeerComponents`` holds the pure functions and static sizes of one peer.
``RoundContext`` holds the data that a round brings from outside, ``StepInputs`` what
one step reads beside the peer's state. ``stream`` derives every random key.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.demand.base import PriceMemory
from p2p_sac_jax.demand.registry import PRICE_MEMORIES
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.exchange.messages import Mode, make_mode
from p2p_sac_jax.exchange.value_sharing import VALUE_SHARING
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer.model_rollouts import BelievedMarket
from p2p_sac_jax.sac.replay import ReplayBuffer, make_replay
from p2p_sac_jax.sac.round_replay import RoundReplay, make_round_replay
from p2p_sac_jax.sac.sac import Sac, make_sac
from p2p_sac_jax.types import Array, Guidance

# Streams of randomness; the numbers are part of the determinism contract.
(
    INIT,
    RESET,
    MARKET,
    SELECT_ACTION,
    THOMPSON,
    UPDATE,
    MODEL_ROLLOUT,
    INSIGHT,
    EVALUATE,
    PRETRAIN,
    PRIVACY,
    CONFIDENCE_ERROR,
    WARMUP,
    ROWS,
    SAMPLE_OBSERVATIONS,
    BANDIT,
    REPEATED_TRAINING,
) = range(17)


class StepKeys(NamedTuple):
    """Keys of the streams that one step of a peer draws from."""

    market: Array
    select_action: Array
    thompson: Array
    update: Array
    model_rollout: Array
    warmup: Array
    bandit: Array


_STEP = StepKeys(MARKET, SELECT_ACTION, THOMPSON, UPDATE, MODEL_ROLLOUT, WARMUP, BANDIT)


class RoundContext(NamedTuple):
    """What surrounds one peer in one round, and is constant within it."""

    guidance: Guidance  # of the network
    params: Any  # of the environment
    hyper: Hyper
    active: Array  # [] 1 if the peer takes part, else 0


class StepInputs(NamedTuple):
    """What one step reads beside the state of the peer."""

    belief: Any  # posterior of the price memory under the round's prior
    context: RoundContext
    keys: StepKeys
    clock: Array  # [] int32 step of the shared clock


class PeerComponents(NamedTuple):
    """Pure functions and static sizes of one peer."""

    environment: Environment
    sac: Sac
    replay: ReplayBuffer
    round_replay: RoundReplay  # between the replay and one round
    memory: PriceMemory
    mode: Mode  # what may leave the peer
    num_cells: int  # K, cells of an insight
    learns: bool  # whether a policy acts and learns; else the price memory acts
    value_use: str  # what becomes of the network's values
    pooled_replay: bool  # whether rows come from the replays of all peers
    interval: int  # S, steps of a round
    batch_size: int
    updates_per_step: int
    pretrain_updates: int
    evaluation_steps: int
    seconds_per_step: float
    trend_window: int  # rounds over which a trend is measured

    @property
    def rows_per_step(self) -> int:
        """M, replay rows that the updates of one step read."""
        return self.updates_per_step * self.batch_size if self.learns else 0

    def cell(self, obs: Array) -> Array:
        """Context cell [] int32 of one observation [D] in the exchange."""
        if self.num_cells == 1:
            return jnp.zeros((), jnp.int32)
        return self.environment.cell(obs)

    def believed_market(self, belief: Any, params: Any) -> BelievedMarket | None:
        """The market under ``belief``; None where no demand can be predicted."""
        demand, model = self.environment.demand, self.memory.model
        if demand is None or model is None:
            return None
        return BelievedMarket(demand, model, belief, params)


def make_memory(kind: str, environment: Environment) -> PriceMemory:
    """The price memory of one peer in an environment."""
    demand = environment.demand
    coefficients = () if demand is None else demand.coefficients
    return PRICE_MEMORIES[kind](coefficients, environment.num_cells)


def make_peer_components(
    config: TrainConfig, environment: Environment
) -> PeerComponents:
    """Builds the functions of one peer from a validated configuration."""
    # A scalar insight is the case of a single cell; so is the insight of a peer that
    # has no values.
    scalar = config.exchange.value_sharing == "scalar" or config.learner != "sac"
    sizes = environment.observation_dim, environment.action_dim
    num_cells = 1 if scalar else environment.num_cells
    memory = make_memory(config.memory.kind, environment)
    replay = make_replay(config.sac.replay_capacity or config.steps, *sizes)
    return PeerComponents(
        environment=environment,
        sac=make_sac(config.sac, *sizes),
        replay=replay,
        round_replay=make_round_replay(replay, config.exchange.interval),
        memory=memory,
        mode=make_mode(
            config,
            num_cells=num_cells,
            cells_per_group=1 if scalar else environment.cells_per_group,
            action_dim=environment.action_dim,
            base_prior=memory.base_prior,
        ),
        num_cells=num_cells,
        learns=config.learner == "sac",
        value_use=VALUE_SHARING[config.exchange.value_sharing].use,
        pooled_replay=config.sac.replay == "pooled",
        interval=config.exchange.interval,
        batch_size=config.sac.batch_size,
        updates_per_step=config.sac.updates_per_step,
        pretrain_updates=config.memory.pretrain_updates,
        evaluation_steps=config.evaluation_weeks,
        seconds_per_step=config.environment.seconds_per_step,
        trend_window=config.privacy.trend_window,
    )


def stream(key: Array, stage: Array | int, clock: Array | int) -> Array:
    """Key of one stage of one peer at one step of the clock."""
    return jax.random.fold_in(jax.random.fold_in(key, stage), clock)


def step_keys(key: Array, clock: Array) -> StepKeys:
    """The keys of a step's streams, made at once: each call compiles to a loop."""
    keys = jax.vmap(stream, (None, 0, None))(key, np.asarray(_STEP), clock)
    return StepKeys(*keys)
