"""rejax: P agents as one compiled program, ``vmap`` over their states.

A chunk is one call of rejax's own ``train_iteration``: one environment step and one
update. Evaluations are left out. Programs are compiled with JAX's default options
and the state is donated, as in this project.
"""

from __future__ import annotations

# pyright: reportMissingImports=false
import time
from typing import Any

from benchmarks.baselines import TrainingProgram, Workload
from benchmarks.timing import check_updates


def make_rejax(workload: Workload) -> TrainingProgram:
    """The library as it comes: batches are drawn without replacement.

    Such a draw ranks every row, so its cost grows with the replay.
    """
    return _make("rejax", workload)


def make_rejax_uniform(workload: Workload) -> TrainingProgram:
    """The same with rows drawn independently, which shows what its draw costs."""
    import jax
    from rejax.buffers import Minibatch, ReplayBuffer

    class UniformReplay(ReplayBuffer):
        """Rows drawn uniformly, with replacement."""

        def sample(self, num: int, rng: jax.Array) -> Minibatch:
            """``num`` rows of those written so far."""
            rows = jax.random.randint(rng, (num,), 0, self.num_entries)
            return jax.tree.map(lambda leaf: leaf[rows], self.data)

    return _make("rejax_uniform", workload, UniformReplay)


def _make(name: str, workload: Workload, replay_class: Any = None) -> TrainingProgram:
    import jax
    import jax.numpy as jnp
    from rejax import SAC

    algorithm = SAC.create(
        env="Pendulum-v1",
        agent_kwargs={"activation": "relu"},
        hidden_layer_sizes=(workload.hidden, workload.hidden),
        num_critics=2,
        num_envs=1,
        num_epochs=1,
        batch_size=workload.batch,
        buffer_size=workload.replay,
        fill_buffer=0,  # the replay is filled below, so every iteration updates
        polyak=0.995,
    )

    def init(key: jax.Array) -> Any:
        state = algorithm.init_state(key)
        if replay_class is None:
            return state
        replay = state.replay_buffer
        return state.replace(
            replay_buffer=replay_class(
                size=replay.size, data=replay.data, index=replay.index, full=replay.full
            )
        )

    def step(_: Any, state: Any) -> Any:
        state, rows = algorithm.collect_transitions(state)
        return state.replace(replay_buffer=state.replay_buffer.extend(rows))

    def fill(state: Any) -> Any:
        return jax.lax.fori_loop(0, workload.batch, step, state)

    def chunk(state: Any, iterations: jax.Array) -> Any:
        return jax.lax.fori_loop(
            0, iterations, lambda _, now: algorithm.train_iteration(now), state
        )

    compile_s = 0.0

    def compiled(function: Any, *arguments: Any, donate: tuple[int, ...] = (0,)) -> Any:
        nonlocal compile_s
        began = time.perf_counter()
        program = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
        compile_s += time.perf_counter() - began
        return program

    keys = jax.random.split(jax.random.key(0), workload.peers)
    state = compiled(jax.vmap(init), keys, donate=())(keys)
    state = compiled(jax.vmap(fill), state)(state)
    once = jnp.asarray(1, jnp.int32)
    program = compiled(jax.vmap(chunk, in_axes=(0, None)), state, once)

    def updates(state: Any) -> int:
        """Gradient updates so far: every optimiser of an agent must agree."""
        trained = (state.actor_ts, state.critic_ts, state.alpha_ts)
        steps = [jax.device_get(network.step) for network in trained]
        for other in steps[1:]:
            check_updates(name, int(other.sum()), int(steps[0].sum()))
        return int(steps[0].sum())

    def run(iterations: int) -> int:
        nonlocal state
        before = updates(state)
        state = program(state, jnp.asarray(iterations, jnp.int32))
        jax.block_until_ready(state)
        return check_updates(name, updates(state) - before, iterations * workload.peers)

    return TrainingProgram(run, compile_s)
