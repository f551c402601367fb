"""Small functions of arrays and pytrees that every package may use."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from p2p_sac_jax.types import Array


def half_life_decay(half_life: Array, steps: Array, never: float = 1.0) -> Array:
    """``h / (h + steps)``, the share that is left after ``steps`` own steps.

    Args:
      half_life: [] h, steps that halve the share; below 1 it counts as 1.
      steps: [] own steps so far.
      never: the share where ``half_life`` is 0.

    Returns:
      [] in [0, 1].
    """
    h = jnp.maximum(half_life, 1.0)
    return jnp.where(half_life > 0, h / (h + steps), never)


def tree_where(condition: Array, new: Any, old: Any) -> Any:
    """``new`` where ``condition`` [] holds, else ``old``, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
