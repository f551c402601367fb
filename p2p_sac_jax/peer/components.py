"""What the stages of one peer share.

``PeerComponents`` holds the pure functions and static sizes, furnished once from the
configuration: what acts, what stores, what remembers, what learns. ``RoundContext``
holds the data that a round brings from outside. ``stream`` is all randomness.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.demand.base import MemoryModel, PriceMemory
from p2p_sac_jax.demand.registry import PRICE_MEMORIES
from p2p_sac_jax.environments.base import DemandModel, Environment
from p2p_sac_jax.exchange.messages import Mode, make_mode
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
    """What surrounds one peer in one round, and stays as it is within it."""

    guidance: Guidance  # what the network said
    params: Any  # of the environment
    hyper: Hyper
    active: Array  # [] 1 if the peer takes part, else 0


class PeerComponents(NamedTuple):
    """Pure functions and static sizes of one peer."""

    config: TrainConfig
    environment: Environment
    sac: Sac
    replay: ReplayBuffer
    round_replay: RoundReplay  # between the replay and one round
    memory: PriceMemory
    mode: Mode  # what may leave the peer
    num_cells: int  # K, cells of an insight

    @property
    def world_model(self) -> DemandModel | None:
        """The demand model, if the memory can say what other prices would sell."""
        return None if self.memory.model is None else self.environment.demand

    @property
    def model(self) -> MemoryModel:
        """Predictions of the memory, where there is a world model."""
        if self.memory.model is None:
            raise TypeError("this price memory predicts no demand")
        return self.memory.model

    def believed_market(self, belief: Any, params: Any) -> BelievedMarket | None:
        """The market under ``belief``; None where no demand can be predicted."""
        demand, model = self.environment.demand, self.memory.model
        if demand is None or model is None:
            return None
        return BelievedMarket(demand, model, belief, params)

    @property
    def learns(self) -> bool:
        """Whether a policy names the price and studies; else the demand memory does."""
        return self.config.learner == "sac"

    def cell(self, obs: Array) -> Array:
        """Context cell [] int32 of one observation [D] in the exchange."""
        if self.num_cells == 1:
            return jnp.zeros((), jnp.int32)
        return self.environment.cell(obs)


def make_peer_components(
    config: TrainConfig, environment: Environment
) -> PeerComponents:
    """Furnishes the rooms of one peer from a validated configuration."""
    # The seed's scalar insight is the case of a single cell; so is one that says
    # nothing of any, for want of values.
    scalar = config.exchange.value_sharing == "scalar" or config.learner != "sac"
    sizes = environment.observation_dim, environment.action_dim
    num_cells = 1 if scalar else environment.num_cells
    demand = environment.demand
    memory = PRICE_MEMORIES[config.memory.kind](
        () if demand is None else demand.coefficients, environment.num_cells
    )
    replay = make_replay(config.sac.replay_capacity or config.steps, *sizes)
    return PeerComponents(
        config=config,
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
    )


def stream(key: Array, stage: Array | int, clock: Array | int) -> Array:
    """Key of one stage of one peer at one step of the clock."""
    return jax.random.fold_in(jax.random.fold_in(key, stage), clock)


def step_keys(key: Array, clock: Array) -> StepKeys:
    """The keys of a step's streams, made at once: each call compiles to a loop."""
    keys = jax.vmap(stream, (None, 0, None))(key, np.asarray(_STEP), clock)
    return StepKeys(*keys)
