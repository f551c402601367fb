"""Control tasks with known answers: they show that the learner itself is sound.

``pendulum`` is the swing-up of OpenAI Gym's Pendulum-v1 (Brockman et al. 2016);
``lqr`` is a linear system with quadratic cost, whose optimum a Riccati equation
gives. Both are truncated by the clock, never terminated, and reset themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments.base import (
    Environment,
    EnvironmentFactory,
    PeerDraw,
    TimeStep,
)
from p2p_sac_jax.types import Array, Score

PENDULUM_STEPS = 200
_GRAVITY = 10.0
_TIME_STEP = 0.05  # seconds
_MAX_SPEED = 8.0  # radians per second
_MAX_TORQUE = 2.0
_ANGLE_CELLS = 8
_SPEED_EDGES = (-2.0, 0.0, 2.0)  # radians per second; four classes

LQR_STEPS = 50
# x' = A x + B a + noise: a damped oscillator, pushed on its velocity. A constant push
# holds it only about 2 away, so a poor policy stays within reach of learning.
LQR_A = ((0.9, 0.2), (-0.2, 0.9))
LQR_B = ((0.0,), (0.5,))
LQR_STATE_COST = (1.0, 0.1)  # diagonal of Q
LQR_ACTION_COST = 0.2
LQR_NOISE = 0.2  # half-width of the uniform noise of each coordinate
_LQR_START = 1.0  # half-width of the uniform starting box
_LQR_EDGES = (-0.4, 0.0, 0.4)  # of either coordinate; four classes each


class PendulumParams(NamedTuple):
    """Body of one peer's pendulum."""

    mass: Array  # [] kg
    length: Array  # [] m


class PendulumState(NamedTuple):
    """Angle from the upright and its rate of change."""

    angle: Array  # [] radians
    speed: Array  # [] radians per second
    step: Array  # [] int32 steps of this episode


class LqrParams(NamedTuple):
    """One peer's system and the gain that is optimal for it."""

    drift: Array  # [2, 2] A
    control: Array  # [2, 1] B
    gain: Array  # [1, 2] the optimal action is -gain @ x


class LqrState(NamedTuple):
    """Where three policies are, under one stream of noise."""

    x: Array  # [3, 2] of the peer, of the optimal gain, of no action at all
    step: Array  # [] int32 steps of this episode


def make_pendulum(config: EnvironmentConfig) -> Environment:
    """Swing a pendulum up and hold it there.

    Action 1 is a torque of 2 N m. The reward is -(angle² + .1 speed² + .001 torque²)
    at the state acted in. Observation [3]: cos and sin of the angle, speed. Cells:
    8 angles, the first centred on the upright, x 4 speeds.
    """

    def observe(state: PendulumState) -> Array:
        return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.speed])

    def reset(key: Array, params: PendulumParams) -> tuple[PendulumState, Array]:
        del params
        angle, speed = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        state = PendulumState(math.pi * angle, speed, jnp.zeros((), jnp.int32))
        return state, observe(state)

    def step(
        key: Array, state: PendulumState, action: Array, params: PendulumParams
    ) -> TimeStep:
        torque = _MAX_TORQUE * jnp.clip(action[0], -1.0, 1.0)
        wrapped = jnp.mod(state.angle + math.pi, 2.0 * math.pi) - math.pi
        reward = -(
            jnp.square(wrapped)
            + 0.1 * jnp.square(state.speed)
            + 0.001 * jnp.square(torque)
        )
        acceleration = (
            1.5 * _GRAVITY / params.length * jnp.sin(state.angle)
            + 3.0 / (params.mass * jnp.square(params.length)) * torque
        )
        speed = state.speed + _TIME_STEP * acceleration
        speed = jnp.clip(speed, -_MAX_SPEED, _MAX_SPEED)
        moved = PendulumState(wrapped + _TIME_STEP * speed, speed, state.step + 1)
        zero = jnp.zeros_like(reward)
        score = Score(achieved=reward, oracle=zero, baseline=zero)
        return _finish(moved, observe(moved), reset(key, params), PENDULUM_STEPS, score)

    def cell(obs: Array) -> Array:
        turn = jnp.arctan2(obs[1], obs[0]) / (2.0 * math.pi)
        angle = jnp.round(turn * _ANGLE_CELLS).astype(jnp.int32) % _ANGLE_CELLS
        return angle * (len(_SPEED_EDGES) + 1) + _classify(obs[2], _SPEED_EDGES)

    return Environment(
        reset=reset,
        step=step,
        cell=cell,
        score=lambda info: info,
        observation_dim=3,
        action_dim=1,
        num_cells=_ANGLE_CELLS * (len(_SPEED_EDGES) + 1),
        cells_per_group=len(_SPEED_EDGES) + 1,
    )


def make_lqr(config: EnvironmentConfig) -> Environment:
    """Hold a noisy linear system at the origin, at the least quadratic cost.

    The reward is -(x'Qx + R a²) at the state acted in; observation [2] is x. The
    score compares with the optimal gain and with no action, each along its own
    path from the same start under the same noise. Cells: 4 x 4 over both axes.
    """

    def reset(key: Array, params: LqrParams) -> tuple[LqrState, Array]:
        del params
        x = jax.random.uniform(key, (2,), minval=-_LQR_START, maxval=_LQR_START)
        return LqrState(jnp.tile(x, (3, 1)), jnp.zeros((), jnp.int32)), x

    def step(key: Array, state: LqrState, action: Array, params: LqrParams) -> TimeStep:
        noise_key, reset_key = jax.random.split(key)
        x = state.x
        wanted = jnp.stack([action, -params.gain @ x[1], jnp.zeros_like(action)])
        u = jnp.clip(wanted, -1.0, 1.0)
        state_cost = jnp.square(x) @ np.asarray(LQR_STATE_COST, np.float32)
        rewards = -(state_cost + LQR_ACTION_COST * jnp.square(u[:, 0]))
        noise = jax.random.uniform(
            noise_key, (1, 2), minval=-LQR_NOISE, maxval=LQR_NOISE
        )
        after = x @ params.drift.T + u @ params.control.T + noise
        moved = LqrState(after, state.step + 1)
        fresh = reset(reset_key, params)
        return _finish(moved, after[0], fresh, LQR_STEPS, Score(*rewards))

    def cell(obs: Array) -> Array:
        classes = len(_LQR_EDGES) + 1
        first = _classify(obs[0], _LQR_EDGES)
        return first * classes + _classify(obs[1], _LQR_EDGES)

    return Environment(
        reset=reset,
        step=step,
        cell=cell,
        score=lambda info: info,
        observation_dim=2,
        action_dim=1,
        num_cells=(len(_LQR_EDGES) + 1) ** 2,
        cells_per_group=len(_LQR_EDGES) + 1,
        has_oracle=True,
    )


def lqr_gain() -> np.ndarray:
    """Gain [1, 2] of the least average cost, as long as no action is clipped.

    Value iteration on the Riccati equation.
    """
    a, b = np.asarray(LQR_A), np.asarray(LQR_B)
    state_cost, action_cost = np.diag(LQR_STATE_COST), np.diag([LQR_ACTION_COST])
    cost, before = state_cost, np.zeros_like(state_cost)
    gain = np.zeros_like(b.T)
    while np.abs(cost - before).max() > 1e-12:
        before = cost
        gain = np.linalg.solve(action_cost + b.T @ cost @ b, b.T @ cost @ a)
        closed = a - b @ gain
        cost = state_cost + gain.T @ action_cost @ gain + closed.T @ cost @ closed
    return gain


def _equal_peers(make_one: Callable[[], NamedTuple]) -> Callable:
    """``draw_peers`` of a task that is the same for every peer."""

    def draw(
        config: EnvironmentConfig, population: PopulationConfig, seed: int
    ) -> PeerDraw:
        del seed
        peers, one = population.peers, make_one()
        params = jax.tree.map(
            lambda leaf: np.repeat(np.asarray(leaf, np.float32)[None], peers, axis=0),
            one,
            is_leaf=lambda node: node is not one,
        )
        names = [f"{config.name} {peer}" for peer in range(peers)]
        return PeerDraw(params, names, np.zeros((peers, 1), np.float32))

    return draw


def _finish(
    moved: Any,
    final_obs: Array,
    fresh: tuple[Any, Array],
    episode_steps: int,
    score: Score,
) -> TimeStep:
    """A step that starts over with ``fresh`` once the episode's clock ran out."""
    truncated = moved.step >= episode_steps
    state, obs = jax.tree.map(
        lambda new, old: jnp.where(truncated, new, old),
        fresh,
        (moved, final_obs),
    )
    return TimeStep(
        state=state,
        obs=obs,
        reward=score.achieved,
        terminated=jnp.zeros((), bool),
        truncated=truncated,
        final_obs=final_obs,
        info=score,
    )


def _classify(value: Array, edges: tuple[float, ...]) -> Array:
    """Index [] int32 of the interval between ``edges`` that holds ``value`` []."""
    return jnp.sum(value >= np.asarray(edges, np.float32), dtype=jnp.int32)


PENDULUM = EnvironmentFactory(
    make_pendulum, _equal_peers(lambda: PendulumParams(mass=1.0, length=1.0))
)
LQR = EnvironmentFactory(
    make_lqr,
    _equal_peers(lambda: LqrParams(drift=LQR_A, control=LQR_B, gain=lqr_gain())),
)
