"""Rounds through a window against the replay itself, and a program that moves none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.peer import context
from p2p_sac_jax.sac.replay import make_replay
from p2p_sac_jax.sac.round_replay import make_round_replay
from p2p_sac_jax.types import Transition
from tests.helpers.populations import placement, small_config

STEPS, ROWS = 3, 16


def _transition(i):
    """A transition whose numbers identify it; i may be traced."""
    i = jnp.asarray(i, jnp.float32)
    return Transition(
        obs=jnp.stack([i, -i]),
        action=i[None] + 0.25,
        reward=10 * i,
        next_obs=jnp.stack([i + 1, i - 1]),
        discount=i % 2,
    )


@functools.cache
def _made(capacity):
    buffer = make_replay(capacity, obs_dim=2, action_dim=1)
    return buffer, make_round_replay(buffer, STEPS)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _round(replay, first, keys, active, windowed, capacity):
    """STEPS times: write one row, then study some. The rows studied come back."""
    buffer, round_replay = _made(capacity)
    if not windowed:

        def in_turn(replay, data):
            key, number = data
            replay = buffer.insert(replay, _transition(number), active)
            return replay, buffer.sample(replay, key, ROWS)

        return jax.lax.scan(in_turn, replay, (keys, first + jnp.arange(STEPS)))

    def ahead(round_rows, data):
        presampled, number = data
        round_rows = round_replay.insert(round_rows, _transition(number), active)
        return round_rows, round_replay.read(round_rows, presampled)

    presampled = round_replay.presample(replay, keys, ROWS, active)
    numbers = first + jnp.arange(STEPS)
    round_rows, rows = jax.lax.scan(ahead, round_replay.init(), (presampled, numbers))
    return round_replay.commit(replay, round_rows), rows


@settings(deadline=None, max_examples=30)
@given(
    capacity=st.sampled_from([STEPS, 7]),
    active=st.lists(st.booleans(), min_size=1, max_size=7),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_window_is_inserting_and_sampling_in_turn(capacity, active, seed):
    plain = through = _made(capacity)[0].init()
    for index, on in enumerate(active):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), index), STEPS)
        first, on = 1 + index * STEPS, np.float32(on)
        plain, expected = _round(
            plain, first, jax.random.clone(keys), on, False, capacity
        )
        through, rows = _round(through, first, keys, on, True, capacity)
        jax.tree.map(np.testing.assert_array_equal, rows, expected)
        jax.tree.map(np.testing.assert_array_equal, through, plain)


def test_the_keys_of_a_step_are_those_of_its_streams():
    key, clock = jax.random.key(5), jnp.asarray(7, jnp.int32)
    made = jax.random.key_data(jnp.stack(context.step_keys(key, clock)))
    names = context.StepKeys._fields
    stages = [getattr(context, name.upper()) for name in names]
    assert len(set(stages)) == len(names)
    for stage, data in zip(stages, made, strict=True):
        own = context.stream(jax.random.clone(key), stage, clock)
        np.testing.assert_array_equal(jax.random.key_data(own), data)


@pytest.mark.thorough
@pytest.mark.slow
def test_the_program_copies_no_replay_from_peer_to_peer():
    """Beside the donated state, the program needs less than one peer's replay."""
    rows = 50_000
    config = small_config(
        root={"arms": "network"},
        environment={"name": "pendulum"},
        memory={"kind": "none"},
        model_rollouts={"fraction": 0.0},
        exploration={"source": "policy"},
        sac={"replay_capacity": rows},
    )
    setup = build_experiment(config, placement(config, "map"))
    inputs = setup.peer_inputs, setup.run_inputs
    state = jax.eval_shape(setup.population.init, *inputs)
    program = jax.jit(setup.population.run_chunk, donate_argnums=0)
    lowered = program.lower(state, *inputs, jnp.zeros((), jnp.int32))
    memory = lowered.compile().memory_analysis()
    one = state.replay.rows.size // config.population.peers * 4
    assert one == rows * state.replay.rows.shape[-1] * 4
    assert memory.temp_size_in_bytes < one
