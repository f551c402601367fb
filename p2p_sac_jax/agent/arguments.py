"""Checks of a user's arguments; errors are one line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.config import ConfigError


def whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    """Returns a whole number in a range.

    Raises:
      ConfigError: the value is not one.
    """
    if type(value) is not int or not least <= value <= most:
        limit = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
        raise ConfigError(f"{name}={value!r} must be a whole number {limit}")
    return value


def number(name: str, value: Any, least: float = -math.inf) -> np.float32:
    """Returns a finite number of at least ``least``.

    Raises:
      ConfigError: the value is not one.
    """
    try:
        fits = math.isfinite(value) and value >= least
    except TypeError:
        fits = False
    if not fits:
        limit = f" of {least:g} or more" if least > -math.inf else ""
        raise ConfigError(f"{name}={value!r} must be a finite number{limit}")
    return np.float32(value)


def numbers(
    name: str, value: Any, shape: tuple[int, ...], bound: float = math.inf
) -> NDArray[np.float32]:
    """Returns an array of this shape of finite numbers within ±``bound``.

    Raises:
      ConfigError: the value is not one.
    """
    try:
        array = np.array(value, np.float32)  # a copy: the user's may change
    except (TypeError, ValueError):
        array = np.zeros(0, np.float32)
    within = np.isfinite(array).all() and (np.abs(array) <= bound).all()
    if array.shape != shape or not within:
        size = " x ".join(map(str, shape))
        limit = f" within {bound:g}" if bound < math.inf else ""
        raise ConfigError(
            f"{name} of shape {array.shape} must be {size} finite numbers{limit}"
        )
    return array
