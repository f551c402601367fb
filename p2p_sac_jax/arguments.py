"""Checks of a user's arguments; errors are one line."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.config import ConfigError

LAST_CLOCK = 2**24 - 1  # float32 times of later steps would be too coarse


def whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    """Returns a whole number in a range.

    Raises:
      ConfigError: the value is not one.
    """
    if type(value) is not int or not least <= value <= most:
        limit = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
        raise ConfigError(f"{name}={value!r} must be a whole number {limit}")
    return value


def missing(value: Any) -> bool:
    """Whether there is no such figure: None, NaN, infinite; scalars of any library."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return np.ndim(value) == 0 and not math.isfinite(value)
    return False


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    unit: str = "",
) -> float:
    """Returns a finite number in [low, high].

    Args:
      name: of the argument, for the message.
      value: any scalar that is a number; text and booleans are none.
      low: least allowed value.
      high: largest allowed value.
      unit: for the message, such as "relative to the usual price".

    Raises:
      ConfigError: the value is not one.
    """
    read = math.nan
    if not isinstance(value, str | bytes | bool | np.bool_) and np.ndim(value) == 0:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            read = float(value)
    if not (math.isfinite(read) and low <= read <= high):
        limit = ""
        if math.isfinite(low) and math.isfinite(high):
            limit = f" in [{low:g}, {high:g}]"
        elif math.isfinite(low):
            limit = f" of {low:g} or more"
        shown = " ".join(repr(value).split())[:60]
        raise ConfigError(
            f"{name}={shown} must be a finite number{limit}{unit and ', ' + unit}"
        )
    return read


def numbers(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    bound: float = math.inf,
    gaps: bool = False,
) -> NDArray[np.float32]:
    """Returns an array of this shape of finite numbers within ±``bound``.

    Args:
      name: of the argument, for the message.
      value: array-like; None in it is NaN.
      shape: expected.
      bound: largest absolute value.
      gaps: allow NaN, and let infinite entries be NaN.

    Raises:
      ConfigError: the value is not one.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, np.float32)  # a copy: the user's may change
    except (TypeError, ValueError):
        array = np.zeros(0, np.float32)
    if gaps:
        array = np.where(np.isfinite(array), array, np.float32(np.nan))
        within = not (np.abs(array) > bound).any()
    else:
        within = np.isfinite(array).all() and (np.abs(array) <= bound).all()
    if array.shape != shape or not within:
        size = " x ".join(map(str, shape))
        limit = f" within {bound:g}" if bound < math.inf else ""
        raise ConfigError(
            f"{name} of shape {array.shape} must be {size} finite numbers{limit}"
        )
    return array
