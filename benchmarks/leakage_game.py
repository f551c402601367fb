"""The membership game: populations in which one peer has one more week on record.

An attacker knows one unusual week, receives what a peer sends, and must decide whether
that week is among the peer's records or an ordinary one (Yeom et al. 2018;
replace-one). Everything but the attacker is what runs in training: markets, learners,
the exchange, the mode's messages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.environments.base import DemandModel
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.peer.context import (
    MARKET,
    SELECT_ACTION,
    PeerComponents,
    make_peer_components,
    stream,
)
from p2p_sac_jax.peer.message import PERFORMANCE_DECAY
from p2p_sac_jax.peer.step import make_experience
from p2p_sac_jax.simulation.population import PeerInputs, RunInputs
from p2p_sac_jax.types import Array, Experience, Transition
from p2p_sac_jax.validation import validate

EVERYTHING = "everything"
# Fields of every mode's messages by channel; all others, such as the time of sending,
# count among everything alone.
CHANNELS: dict[str, tuple[str, ...]] = {
    "values": (
        *("insight.state_value", "insight.action_value"),
        *("insight.confidence", "value"),
    ),
    "counts": ("insight.count", "insight.valid", "insight.timestamp", "count"),
    "actions": ("insight.action_mean", "insight.action_std"),
    "entropy": ("insight.entropy", "entropy"),
    "demand": (
        *("demand.precision", "demand.shift", "demand.count"),
        *("demand_mean", "demand_variance", "demand_known"),
    ),
    "trend": ("trend",),
    "earnings": ("performance",),
}
_TARGET_SEED = 0  # of the market in which the attacker's week took place
_SPARE = 2**30  # a step that no run reaches: its random stream is unused


# The attacker's week is rare but legal.
_ACTION = 1.0  # the highest price there is
_LOG_SALES = 1.5  # at which it sold 4.5 times the usual units


def make_game(
    config: TrainConfig, runs: int, planted: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Compiles a population of worlds whose first peer is observed.

    That peer gets one more week into its records before step ``planted``: the
    attacker's week in one kind of world, a week from its own market at its own price
    in the other. Training then goes on to the last round. Every world has a seed of
    its own, which is all that the attacker does not know: market noise, initial
    networks, exploration, batches and the noise of the mode. No two worlds share a
    seed: they would fall on both sides of the attack's split, and a fit to chance
    differences would rank its own twins backwards (AUC .2 where nothing leaks).

    Args:
      config: a pricing market and a mode; the network arm alone is run, its
        ``config.seeds`` is ignored.
      runs: R, worlds of both kinds.
      planted: step before which the week enters, a multiple of ``exchange.interval``.

    Returns:
      (inside [R] 0/1) -> by channel [R, M, N] the M messages since the week entered,
      and ``EVERYTHING``. A channel that the mode does not have is left out.

    Raises:
      ConfigError: a configuration that cannot run or has no demand, or a step that is
        no round.
    """
    interval = config.exchange.interval
    config = _with_rounds(config, runs)
    if not 0 < planted < config.steps or planted % interval:
        raise ConfigError(
            f"planted={planted} must be above 0 and below steps={config.steps}, a"
            f" multiple of exchange.interval={interval}"
        )
    setup = build_experiment(config, choose_placement(config))
    components = make_peer_components(config, setup.environment)
    if setup.environment.demand is None:
        raise ConfigError(
            f"environment.name={config.environment.name!r} must be pricing: the"
            " attacker's week has a price and sales"
        )
    inputs = setup.peer_inputs, setup.run_inputs

    def one_round(state: PeerState, *arguments: Any) -> tuple[PeerState, Any]:
        state, _ = setup.population.run_chunk(state, *arguments)
        return state, jax.tree.map(lambda leaf: leaf[0], state.send_state.message)

    init, run_round = jax.jit(setup.population.init), jax.jit(one_round)
    plant = jax.jit(functools.partial(_plant, components, clock=planted))

    def play(inside: np.ndarray) -> dict[str, np.ndarray]:
        state, sent = init(*inputs), []
        for clock in range(0, config.steps, interval):
            if clock == planted:
                state = plant(state, *inputs, jnp.asarray(inside, jnp.float32))
            now = jnp.asarray(clock, jnp.int32)
            state, message = run_round(state, *inputs, now)
            if clock >= planted:
                sent.append(_by_channel(jax.device_get(message)))
        return {name: np.stack([one[name] for one in sent], 1) for name in sent[0]}

    return play


def _with_rounds(config: TrainConfig, runs: int) -> TrainConfig:
    """One round a chunk, space for one more week, and a single device.

    Hundreds of runs batch well on one. On several, jaxlib 0.10 deadlocks where
    large batches of eigenvalues, as the noised modes need them, fill all threads.
    """
    interval = config.exchange.interval
    one_more = 1 + (config.sac.replay_capacity or config.steps)
    changes = {"arms": "network", "layout": "vmap", "devices": 1, "seeds": runs}
    changes |= {"evaluate_every": interval, "checkpoint_every": interval}
    config = replace_fields(config, changes | {"sac.replay_capacity": one_more})
    validate(config)
    return config


def _demand(components: PeerComponents) -> DemandModel:
    demand = components.environment.demand
    assert demand is not None  # ``make_game`` refuses the others
    return demand


def _plant(
    components: PeerComponents,
    state: PeerState,
    peer_inputs: PeerInputs,
    runs: RunInputs,
    inside: Array,
    clock: int,
) -> PeerState:
    """One more week in the first peer's records, the attacker's if inside [R]."""
    params = jax.tree.map(lambda leaf: leaf[0], peer_inputs.params)
    wanted = _target_week(components, params)

    def record(peer: PeerState, hyper: Hyper, inside: Array) -> tuple[Any, ...]:
        spread = hyper.exploration.std_max
        ordinary = _ordinary_week(components, peer, params, spread, clock)
        week, experience = jax.tree.map(
            lambda a, b: jnp.where(inside > 0, a, b), wanted, ordinary
        )
        cell, active = components.cell(week.obs), jnp.ones(())
        return (
            components.replay.insert(peer.replay, week, active),
            components.memory.update(
                peer.memory, experience, hyper.memory.decay, active
            ),
            PERFORMANCE_DECAY * peer.performance
            + (1.0 - PERFORMANCE_DECAY) * week.reward,
            peer.visits.at[cell].add(1),
            peer.last_seen.at[cell].set(clock - 1),
        )

    first = jax.tree.map(lambda leaf: leaf[0], state)
    after = jax.vmap(record)(first, runs.hyper, inside)
    names = ("replay", "memory", "performance", "visits", "last_seen")
    before = tuple(getattr(state, name) for name in names)
    changed = jax.tree.map(lambda all_, one: all_.at[0].set(one), before, after)
    return state._replace(**dict(zip(names, changed, strict=True)))


def _target_week(
    components: PeerComponents, params: Any
) -> tuple[Transition, Experience]:
    """The attacker's week, the same in every world: a real one, with other sales."""
    environment = components.environment
    start_key, market_key = jax.random.split(jax.random.key(_TARGET_SEED))
    world, obs = environment.reset(start_key, params)
    action = jnp.full((environment.action_dim,), _ACTION, jnp.float32)
    week, sold = _step(components, market_key, world, obs, action, params)
    log_sales = jnp.asarray(_LOG_SALES, jnp.float32)
    # The outcome is the expectation: the week has no shock of its own.
    week = _demand(components).counterfactual(week, action, log_sales, sold, params)
    return week, make_experience(components, week, log_sales)


def _ordinary_week(
    components: PeerComponents, peer: PeerState, params: Any, spread: Array, clock: int
) -> tuple[Transition, Experience]:
    """A week that the peer could have now, at a price of its own."""
    market_key, act_key = (
        stream(peer.key, s, _SPARE + clock) for s in (MARKET, SELECT_ACTION)
    )
    mean, _ = components.sac.policy(peer.learner, peer.obs)
    action = jnp.tanh(mean + spread * jax.random.normal(act_key, mean.shape))
    week, sold = _step(
        components, market_key, peer.environment, peer.obs, action, params
    )
    return week, make_experience(components, week, sold)


def _step(
    components: PeerComponents,
    key: Array,
    world: Any,
    obs: Array,
    action: Array,
    params: Any,
) -> tuple[Transition, Array]:
    """One week in the market, and its ln(units / usual units) []."""
    step = components.environment.step(key, world, action, params)
    discount = 1.0 - step.terminated.astype(jnp.float32)
    week = Transition(obs, action, step.reward, step.final_obs, discount)
    return week, _demand(components).outcome(step.info)


def _by_channel(message: Any) -> dict[str, np.ndarray]:
    """A message's numbers [R, N] by channel, and all of them as ``EVERYTHING``."""
    leaves = jax.tree_util.tree_leaves_with_path(message)
    fields = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.reshape(
            len(leaf), -1
        )
        for path, leaf in leaves
    }
    by_channel = {
        channel: np.concatenate([fields[name] for name in names if name in fields], 1)
        for channel, names in CHANNELS.items()
        if any(name in fields for name in names)
    }
    return by_channel | {EVERYTHING: np.concatenate(list(fields.values()), 1)}
