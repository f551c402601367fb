"""One chunk of a run: what Python does between two calls of a compiled program."""

from __future__ import annotations

import jax.numpy as jnp

from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.experiment.metrics import Row, chunk_rows
from p2p_sac_jax.experiment.programs import Programs
from p2p_sac_jax.peer import PeerState


def advance(
    setup: Experiment, programs: Programs, state: PeerState, step: int
) -> tuple[PeerState, list[Row]]:
    """``evaluate_every`` steps from ``step`` on; who joins there rehearses first.

    Returns:
      The state [P, R, ...] after the chunk, and its rows; ``state`` is used up.
    """
    config, clock = setup.config, jnp.asarray(step, jnp.int32)
    inputs = setup.peer_inputs, setup.run_inputs, clock
    if programs.pretrain_on_model is not None and step == config.population.join_step:
        state = programs.pretrain_on_model(state, *inputs)
    state, metrics = programs.run_chunk(state, *inputs)
    evaluation = programs.evaluate(state, *inputs)
    end = step + config.evaluate_every
    return state, chunk_rows(setup, end, metrics, evaluation, state.trust)
