"""What the figures of one week may be, and how far one week can count.

The four doors of real data share these rules: ``observation``, ``PriceHistory``,
``P2PPriceMemory.update`` and ``P2PSACAgent.observe``.

- **Nothing sold**, or more returned than sold, is an ordinary week. Its log sales are
  those of a twentieth of a usual week: the least that an observation can show.
- **Promotions** may leave the range of prices that an action can name.
- **Missing** figures (None, NaN) make a gap: nothing is learned from it.
- **Absurd** figures are bounded to twenty usual weeks. A replay keeps every week, and
  Adam remembers the square of a gradient for thousands of updates: unbounded, one
  typing error outweighs years of data, and from 1e19 on its square is infinite.
- **Money or pieces** in place of relative figures are refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.arguments import missing, number

MAX_LOG_SALES = 3.0  # log sales and what an observation shows of them are within +-
USUAL_WEEKS = math.exp(MAX_LOG_SALES)  # what one week can count, in usual weeks
PRICES = (0.1, 3.0)  # charged, of rivals, remembered; over the usual price
COSTS = (0.01, 1.5)  # beyond, no price that an action can name earns anything
WEEKS = 100.0  # units or profit of a week beyond this many usual ones are no shares

_OF_PRICE = "relative to the usual price"
_OF_WEEK = "relative to a usual week"


def relative_price(name: str, value: Any, least: float = PRICES[0]) -> float:
    """A price over the usual one.

    Raises:
      ConfigError: it is below ``least`` or above ``PRICES``.
    """
    return number(name, value, least, PRICES[1], _OF_PRICE)


def relative_cost(name: str, value: Any) -> float:
    """A unit cost over the usual price.

    Raises:
      ConfigError: it is outside ``COSTS``.
    """
    return number(name, value, *COSTS, _OF_PRICE)


def usual_weeks(name: str, value: Any) -> float:
    """Units or profit over those of a usual week, not yet bounded.

    Raises:
      ConfigError: it is outside ±``WEEKS``.
    """
    return number(name, value, -WEEKS, WEEKS, _OF_WEEK)


def log_units(units: Any) -> NDArray[np.float64]:
    """ln(units / usual units), bounded; what is not sold counts as the least."""
    sold = np.clip(np.asarray(units, np.float64), 1.0 / USUAL_WEEKS, USUAL_WEEKS)
    return np.log(sold)


def bound(
    name: str, value: float, most: float = USUAL_WEEKS, least: float | None = None
) -> tuple[float, str]:
    """A number in [least, most], and what was changed; "" if nothing.

    Args:
      name: for the message.
      value: finite.
      most: upper bound.
      least: lower bound, by default ``-most``.
    """
    bounded = min(max(value, -most if least is None else least), most)
    if bounded == value:
        return value, ""
    return bounded, f"{name}={value:g} counts as {bounded:.4g}, the bound of a week"


def complete(
    name: str, obs: NDArray[np.float32], last: NDArray[np.float32], most: float
) -> tuple[NDArray[np.float32], str]:
    """An observation [D] without gaps, within ±``most``, and what was changed.

    Args:
      name: for the message.
      obs: [D], NaN where an entry is missing.
      last: [D] the observation before, whose entries stand in for missing ones.
      most: bound of every entry.
    """
    gaps = np.isnan(obs)
    filled = np.where(gaps, last, obs)
    bounded = np.clip(filled, -most, most)
    notes = []
    if gaps.any():
        notes.append(f"{gaps.sum()} of {gaps.size} entries are missing, the last stand")
    if (bounded != filled).any():
        entry = int(np.argmax(np.abs(filled)))
        notes.append(f"entry {entry} is {filled[entry]:g}, bounded to {most:.4g}")
    return bounded, name + ": " + "; ".join(notes) if notes else ""


def or_usual(name: str, value: Any, notes: list[str]) -> Any:
    """``value``, or 1 where it is missing; the usual figure is the best guess."""
    if missing(value):
        notes.append(f"{name}={value!r} is missing and counts as usual")
        return 1.0
    return value
