"""Whether a user's environment returns what the protocol says, by shape alone."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.environments.base import TimeStep
from p2p_sac_jax.environments.registry import World, user_line
from p2p_sac_jax.types import Score


def check_protocol(world: World) -> None:
    """Traces one reset and one step of the first peer.

    Raises:
      ConfigError: a function fails, or returns another type, shape or dtype.
    """
    environment = world.environment
    action = jax.ShapeDtypeStruct((environment.action_dim,), np.float32)

    def once(action: Any) -> tuple[Any, Any, Any, Any]:
        params = jax.tree.map(lambda leaf: np.asarray(leaf)[0], world.params)
        state, obs = environment.reset(jax.random.key(0), params)
        after = environment.step(jax.random.key(1), state, action, params)
        if not isinstance(after, TimeStep):
            raise TypeError(f"step returns no TimeStep but {type(after).__name__}")
        score = environment.score(after.info)
        if not isinstance(score, Score):
            raise TypeError(f"score returns no Score but {type(score).__name__}")
        return (state, obs), after, environment.cell(obs), score

    try:
        (state, obs), after, cell, score = jax.eval_shape(once, action)
    except Exception as error:  # the user's own program
        reason = " ".join(str(error).split()) + user_line(error)
        raise ConfigError(
            f"environment does not run: {type(error).__name__}: {reason}"
        ) from error
    sizes = (environment.observation_dim,)
    expected = {
        "obs of reset": (obs, sizes, "float32"),
        "obs of step": (after.obs, sizes, "float32"),
        "final_obs": (after.final_obs, sizes, "float32"),
        "reward": (after.reward, (), "float32"),
        "terminated": (after.terminated, (), "bool"),
        "truncated": (after.truncated, (), "bool"),
        "cell": (cell, (), "int32"),
        "score.achieved": (score.achieved, (), "float32"),
    }
    for name, (leaf, shape, dtype) in expected.items():
        if (leaf.shape, str(leaf.dtype)) != (shape, dtype):
            raise ConfigError(
                f"environment: {name} is {leaf.dtype}{[*leaf.shape]}, it must be"
                f" {dtype}{[*shape]}"
            )
    if jax.tree.map(_kind, state) != jax.tree.map(_kind, after.state):
        raise ConfigError("environment: step returns another state than reset, by type")


def _kind(leaf: Any) -> tuple[Any, Any]:
    return leaf.shape, leaf.dtype
