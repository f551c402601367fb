"""Small populations for tests: built, run for some chunks, and compared."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.build import Experiment, build_experiment
from p2p_sac_jax.experiment.devices import Placement, choose_placement
from p2p_sac_jax.peer import PeerMetrics, PeerState
from tests.helpers.configs import in_sections


def small_config(**sections: dict[str, Any]) -> TrainConfig:
    """Four stores, tiny networks, two rounds of two weeks a chunk."""
    config = TrainConfig(
        steps=12, evaluate_every=4, checkpoint_every=4, evaluation_weeks=8
    )
    defaults = {
        "population": {"peers": 4},
        "sac": {"hidden": 8, "batch_size": 8, "updates_per_step": 4, "discount": 0.9},
        "exchange": {"interval": 2, "recency_tau_s": 1e7},
        "memory": {"pretrain_updates": 4},
    }
    return in_sections(config, defaults, sections)


class Programs(NamedTuple):
    """Compiled once, run with any inputs of the same shape."""

    init: Any
    run_chunk: Any
    traces: list[str]  # grows by one whenever ``run_chunk`` is traced


class Outcome(NamedTuple):
    """A population after its run."""

    setup: Experiment
    state: PeerState
    metrics: list[PeerMetrics]  # one a chunk
    programs: Programs


def run(
    config: TrainConfig,
    layout: str = "vmap",
    setup: Experiment | None = None,
    programs: Programs | None = None,
    chunks: int | None = None,
    devices: int = 1,
) -> Outcome:
    """Runs a configuration for all its steps, or for some chunks.

    ``programs`` of an earlier outcome may serve a configuration that differs in its
    inputs alone: peers, edges, and hyper-parameters that are traced.
    """
    if setup is None:
        setup = build_experiment(config, placement(config, layout, devices))
    if programs is None:
        programs = _programs(setup)
    inputs = setup.peer_inputs, setup.run_inputs
    state = programs.init(*inputs)
    metrics = []
    count = config.steps // config.evaluate_every if chunks is None else chunks
    for index in range(count):
        clock = jnp.asarray(index * config.evaluate_every, jnp.int32)
        state, reported = programs.run_chunk(state, *inputs, clock)
        metrics.append(reported)
    return Outcome(setup, state, metrics, programs)


def small_run() -> Outcome:
    """All arms of ``small_config`` in one batch, run once in a process."""
    outcome = _small_run()
    fresh = jax.random.clone(outcome.state.key)  # whoever asks may use it once
    return outcome._replace(state=outcome.state._replace(key=fresh))


@functools.cache
def _small_run() -> Outcome:
    return run(small_config())


def _programs(setup: Experiment) -> Programs:
    traces = []

    def run_chunk(*arguments: Any) -> tuple[PeerState, PeerMetrics]:
        traces.append("run_chunk")
        return setup.population.run_chunk(*arguments)

    return Programs(jax.jit(setup.population.init), jax.jit(run_chunk), traces)


def placement(config: TrainConfig, layout: str, devices: int = 1) -> Placement:
    """Placement of a layout on some of the test's devices."""
    config = dataclasses.replace(config, layout=layout, devices=devices)
    return choose_placement(config)


def plain(tree: Any) -> Any:
    """Leaves as NumPy arrays, keys as their data."""

    def convert(leaf: Any) -> np.ndarray:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return jax.tree.map(convert, tree)


def assert_identical(a: Any, b: Any) -> None:
    """Every leaf equal, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, plain(a), plain(b))


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    """Every leaf equal up to ``tolerance``, absolute and relative."""

    def check(x: np.ndarray, y: np.ndarray) -> None:
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)

    jax.tree.map(check, plain(a), plain(b))


def peer_of(tree: Any, index: Any) -> Any:
    """Every leaf [P, ...] of a state or of members at ``index``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
