"""How numbers, measures, arms and configuration fields are written for a reader."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.ablation.table import Row

MISSING = "–"
_NBSP = "\u00a0"
_ARMS = {"plain": "plain SAC", "memory": "own memory", "network": "network"}
_FIELDS = {
    "population.peers": "number of peers",
    "population.name": "population",
    "attack.byzantine": "byzantine peers",
    "attack.kind": "attack",
    "memory.kind": "memory",
}


def finite(value: Any) -> float | None:
    """``value`` as a float, None where it is missing, text or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def plain(value: Any, decimals: int | None = None) -> str:
    """Any content of a table: numbers to four figures, text as it is.

    Args:
      value: what is shown.
      decimals: decimals of a number below 100, which make a column line up.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if not isinstance(value, float):
        return str(value)
    line_up = decimals is not None and abs(value) < 100
    return _minus(f"{value:.{decimals}f}" if line_up else f"{value:.4g}")


def quantity(unit: str, value: float | None) -> str:
    """A value in its own unit; "never" lies beyond the end of training.

    Args:
      unit: as in ``Measure``, or "points" for a difference of shares.
      value: what is shown.
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "never"
    if unit == "share":
        return _minus(f"{100 * value:.1f}{_NBSP}%")
    if unit == "points":
        return f"{_signed(unit, value)} points"
    return _size(value) if unit == "bytes" else plain(float(value))


def tick(unit: str, value: float) -> str:
    """A value as short as the tick of an axis has to be."""
    if unit == "share":
        return _minus(f"{100 * value:.4g}{_NBSP}%")
    if unit == "points":
        shown = round(100 * value, 6)
        return _minus(f"{shown:+.3g}") if shown else "0"
    for suffix, scale in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return _minus(f"{value / scale:.3g}{suffix}")
    return _minus(f"{value:.4g}")


def band(unit: str, middle: float, low: float, high: float) -> str:
    """A value and its interval, where it has one."""
    if not low < high:
        return quantity(unit, middle)
    shown = [quantity(unit, end).removesuffix(f"{_NBSP}%") for end in (low, high)]
    return f"{quantity(unit, middle)} [{shown[0]}, {shown[1]}]"


def arm(name: str) -> str:
    """An arm in plain words."""
    return _ARMS.get(name, name)


def field(name: str) -> str:
    """A configuration field in plain words."""
    return _FIELDS.get(name, name.rpartition(".")[2].replace("_", " "))


def value(content: Any) -> str:
    """A value of a configuration field."""
    if isinstance(content, bool):
        return "on" if content else "off"
    if isinstance(content, float):
        return f"{content:g}"
    return str(content) if content != "" else "(empty)"


def setting(name: str, content: Any, named: bool = False) -> str:
    """Field and value, such as "16 peers", "ring" or "tau 0.02".

    Args:
      name: dotted field.
      content: its value.
      named: whether text is preceded by the name of its field, "topology ring".
    """
    if name == "population.peers":
        return f"{content} peer{'s' if content != 1 else ''}"
    if name == "attack.byzantine":
        return f"{content} byzantine"
    if isinstance(content, str) and not named:
        return value(content)
    return f"{field(name)} {value(content)}"


def settings(values: Mapping[str, Any], named: bool = False) -> str:
    """Several of them, separated by commas."""
    return ", ".join(setting(name, content, named) for name, content in values.items())


def point(arm_name: str, values: Mapping[str, Any]) -> str:
    """An arm and its swept values."""
    return ", ".join(filter(None, (arm(arm_name), settings(values))))


def difference_unit(name: str) -> str:
    """Unit of a difference in a measure."""
    unit = MEASURES[name].unit
    return "points" if unit == "share" else unit


def centre(row: Row) -> tuple[float, float, float]:
    """Value, low and high of a row of the table, all alike for one seed."""
    known = (row.get(name) for name in ("median", "iqm", "mean"))
    middle = next(value for value in known if value is not None)
    low, high = row["low"], row["high"]
    return middle, middle if low is None else low, middle if low is None else high


def estimate(row: Row | None) -> str:
    """Value and interval, such as "96.8 % [96.7, 96.9]"."""
    if row is None or not row["seeds"]:
        return MISSING
    return band(MEASURES[row["measure"]].unit, *centre(row))


def difference(row: Row | None, with_unit: bool = True) -> str:
    """Difference to the control, such as "+0.42 points [+0.10, +0.80]".

    Steps to a threshold are compared by how many times more the control takes.

    Args:
      row: of the table.
      with_unit: whether the unit is named; one column has one unit.
    """
    if row is None or not row["pairs"]:
        return MISSING
    if row["measure"] == ARRIVAL:
        return _bracketed(row, "ratio", _times, " times" * with_unit)
    unit = difference_unit(row["measure"])
    named = " points" if unit == "points" and with_unit else ""
    return _bracketed(row, "difference", lambda v: _signed(unit, v), named)


def improvement(row: Row | None) -> str:
    """Probability of doing better than the control."""
    return MISSING if row is None else _bracketed(row, "improvement", "{:.2f}".format)


def _size(count: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def _signed(unit: str, content: float) -> str:
    return _minus(f"{100 * content:+.2f}" if unit == "points" else f"{content:+.4g}")


def _times(content: float) -> str:
    return "unbounded" if math.isinf(content) else f"{content:.1f}"


def _bracketed(
    row: Row, name: str, form: Callable[[float], str], unit: str = ""
) -> str:
    """Value, unit, and interval if there is one."""
    middle, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if middle is None:
        return MISSING
    interval = "" if None in (low, high) else f" [{form(low)}, {form(high)}]"
    return f"{form(middle)}{unit}{interval}"


def _minus(shown: str) -> str:
    return shown.replace("-", "−")
