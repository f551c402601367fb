"""One training loop, compiled and ready to be timed."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sizes import repeated_world
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.experiment.build import build_experiment
from p2p_sac_jax.experiment.device_memory import (
    check_fits,
    program_memory,
    raise_insufficient,
    state_memory,
)
from p2p_sac_jax.experiment.devices import choose_placement
from p2p_sac_jax.experiment.programs import compile_program


class TrainingLoop:
    """Whole training steps of all peers: environment, replay, update, exchange.

    Evaluation, metrics files and checkpoints are left out.

    Attributes:
      config: what runs.
      population: its functions, not compiled.
      placement: layout and devices.
      compile_s: seconds spent compiling, initial state included.
      steps: environment steps of each peer in one chunk.
      memory: bytes of the compiled chunk, all devices together: "arguments" (state
        and inputs), "temporaries", "outputs" beyond the donated state, and "total".
    """

    def __init__(self, config: TrainConfig) -> None:
        """Compiles the chunk and makes the initial state.

        Args:
          config: a validated configuration, such as ``sized_config`` makes;
            ``evaluate_every`` is the length of a chunk.

        Raises:
          ConfigError: a device is absent or the population impossible.
          InsufficientMemoryError: the state or the program needs more than is free.
        """
        self.config = config
        self.placement = choose_placement(config)
        self.steps = config.evaluate_every
        setup = build_experiment(config, self.placement, repeated_world(config))
        self.population = population = setup.population
        self._inputs = setup.peer_inputs, setup.run_inputs
        local = self.placement.local_devices
        check_fits(config, "the state", state_memory(setup).state, local)
        began = time.perf_counter()
        try:
            state = compile_program(population.init, self._inputs)(*self._inputs)
            arguments = state, *self._inputs, jnp.zeros((), jnp.int32)
            self._chunk = compile_program(
                population.run_chunk, arguments, donate_argnums=0
            )
        except jax.errors.JaxRuntimeError as error:
            self._explain(error)
        self.compile_s = time.perf_counter() - began
        self.memory = program_memory(self._chunk, self.placement.devices)
        beside = self.memory["total"] - self.memory["arguments"]
        check_fits(config, "the program", beside, local)
        self._state = jax.block_until_ready(state)
        self._clock = 0
        self._updates = self._count()

    @property
    def updates_per_chunk(self) -> int:
        """Gradient updates of all peers in one chunk, once all of them learn."""
        return (
            self.steps * self.config.population.peers * self.config.sac.updates_per_step
        )

    def run(self, chunks: int = 1) -> int:
        """Continues training, and waits until it is done.

        Args:
          chunks: how often the compiled chunk runs.

        Returns:
          Gradient updates that all real peers did, counted from their state.

        Raises:
          InsufficientMemoryError: the device ran out of memory.
        """
        try:
            metrics = None
            for _ in range(chunks):
                self._state, metrics = self._chunk(*self.arguments())
                self._clock += self.steps
            jax.block_until_ready((self._state, metrics))
        except jax.errors.JaxRuntimeError as error:
            self._explain(error)
        before, self._updates = self._updates, self._count()
        return self._updates - before

    def arguments(self) -> tuple[Any, ...]:
        """Of the next chunk: state, inputs and clock."""
        return self._state, *self._inputs, jnp.asarray(self._clock, jnp.int32)

    def _count(self) -> int:
        updates = np.asarray(self._state.learner.updates)  # [P, R]
        return int(updates[: self.config.population.peers].sum(dtype=np.int64))

    def _explain(self, error: Exception) -> None:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        raise_insufficient(self.config, str(error).splitlines()[0])
