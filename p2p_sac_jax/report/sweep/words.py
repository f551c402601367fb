"""How a sweep's fields, values and figures are called and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from p2p_sac_jax.ablation.measures import BYTES
from p2p_sac_jax.ablation.table import Row
from p2p_sac_jax.report import style
from p2p_sac_jax.report.elements import cell, percent, size

RETURN, STEPS_TO = "return_", "steps_to_"
_FIELDS = {
    "population.peers": "number of peers",
    "population.name": "population",
    "attack.byzantine": "hostile peers",
    "attack.kind": "attack",
    "memory.kind": "memory",
}
_RETURNS = {
    "final": "final return",
    "worst": "return of the worst peer",
    "jump_start": "return at the first evaluation",
    "area": "mean return over training",
}
_MEASURES = {
    "final": "final score",
    "worst": "final score of the worst peer",
    "gap_closed": "gap closed",
    "jump_start": "first evaluation",
    "area": "mean score over training",
    "earned": "earned while learning",
    "newcomers_earned": "newcomers, first 25",
    BYTES: "bytes sent per peer",
    "confidence_calibration": "confidence against error",
}


def identifier(*parts: str) -> str:
    """Words as an identifier of HTML."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def arm(name: str) -> str:
    """An arm in plain words."""
    return style.look(name, [name]).label


def field(name: str) -> str:
    """A configuration field in plain words."""
    return _FIELDS.get(name, name.rpartition(".")[2].replace("_", " "))


def value(content: Any) -> str:
    """A value of a field."""
    if isinstance(content, bool):
        return "on" if content else "off"
    if isinstance(content, float):
        return f"{content:g}"
    return str(content) if content != "" else "(empty)"


def setting(name: str, content: Any) -> str:
    """Field and value, such as "16 peers", "ring" or "tau 0.02"."""
    if name == "population.peers":
        return f"{content} peer{'s' if content != 1 else ''}"
    if name == "attack.byzantine":
        return f"{content} hostile"
    if isinstance(content, str):
        return value(content)
    return f"{field(name)} {value(content)}"


def settings(values: Mapping[str, Any]) -> str:
    """Several of them, by comma."""
    return ", ".join(setting(name, content) for name, content in values.items())


def told(values: Mapping[str, Any]) -> str:
    """The same with names of all fields, such as "16 peers, topology ring"."""
    return ", ".join(
        f"{field(name)} {content}"
        if isinstance(content, str)
        else setting(name, content)
        for name, content in values.items()
    )


def sentence(words: str) -> str:
    """Words with a capital letter in front."""
    return words[:1].upper() + words[1:]


def measure(name: str, unit: str) -> str:
    """A figure in plain words.

    Args:
      name: as in the rows of the table.
      unit: what one environment step is called.
    """
    if name.startswith(RETURN):
        kind = name.removeprefix(RETURN)
        return _RETURNS.get(kind, kind.replace("_", " "))
    if name.startswith(STEPS_TO):
        share = float(name.removeprefix(STEPS_TO))
        return f"{unit}s to a lasting {100 * share:.3g}\u00a0%"
    stem, _, period = name.rpartition("_")
    if period.isdigit():
        if stem == "worst":
            return f"worst peer after {period} {unit}s"
        return f"{stem} in the first {period} {unit}s"
    return _MEASURES.get(name, name.replace("_", " "))


def column(name: str, unit: str) -> str:
    """A figure as the head of a column."""
    stem, _, period = name.rpartition("_")
    if stem == "earned" and period.isdigit():
        return f"earned, first {period}"
    short = {"final": "final", "worst": "worst peer", "earned": "earned"}
    return short.get(name) or measure(name, unit)


def number(name: str, content: float | None) -> str:
    """A figure in its own unit; "never" is beyond the end of training."""
    if content is None:
        return "–"
    if math.isinf(content):
        return "never"
    if name == BYTES:
        return size(content)
    if name.startswith((STEPS_TO, RETURN)) or name == "confidence_calibration":
        return cell(content)
    return percent(content)


def estimate(row: Row | None) -> str:
    """Figure and interval, such as "96.8 % [96.7, 96.9]"."""
    if row is None or not row["seeds"]:
        return "–"
    name = row["measure"]
    centre = row["median"] if name.startswith(STEPS_TO) else row["iqm"]
    ends = [row["low"], row["high"]]
    middle = number(name, centre)
    if None in ends:
        return middle
    shown = [number(name, end).removesuffix("\u00a0%") for end in ends]
    return f"{middle} [{shown[0]}, {shown[1]}]"


def difference(row: Row | None, unit: bool = True) -> str:
    """Difference to the control, such as "+0.42 points [+0.10, +0.80]".

    Steps to a threshold are compared by how many times more the control takes.

    Args:
      row: of the table.
      unit: whether to name it; a column that holds nothing else need not.
    """
    if row is None or not row["pairs"]:
        return "–"
    name = row["measure"]
    if name.startswith(STEPS_TO):
        ends = [_times(row[key]) for key in ("ratio", "ratio_low", "ratio_high")]
        return _bracketed(ends, " times" * unit)
    keys = ("difference", "difference_low", "difference_high")
    ends = [_signed(row[key], is_share(name)) for key in keys]
    return _bracketed(ends, " points" * (unit and is_share(name)))


def signed_difference(row: Row) -> str:
    """Difference to the control without its interval, such as "+0.42"."""
    return _signed(row["difference"], is_share(row["measure"])) or "–"


def gain_per_megabyte(gain: float, sent: float, share: bool) -> str:
    """A difference to the control over the bytes that it took."""
    rate = gain / (sent / 1e6)
    return f"{100 * rate:+.3g} points".replace("-", "−") if share else cell(rate)


def improvement(row: Row | None) -> str:
    """Probability of doing better than the control."""
    if row is None or row["improvement"] is None:
        return "–"
    keys = ("improvement", "improvement_low", "improvement_high")
    return _bracketed([None if row[k] is None else f"{row[k]:.2f}" for k in keys])


def is_share(name: str) -> bool:
    """Whether a figure is a share of the oracle's, written as per cent."""
    others = (RETURN, STEPS_TO, BYTES, "confidence_calibration")
    return not name.startswith(others)


def _signed(content: float | None, share: bool) -> str | None:
    """A difference, in points where it is one of shares."""
    if content is None:
        return None
    shown = f"{100 * content:+.2f}" if share else f"{content:+.4g}"
    return shown.replace("-", "−")


def _times(content: float | None) -> str | None:
    if content is None:
        return None
    return "unbounded" if math.isinf(content) else f"{content:.1f}"


def _bracketed(ends: Sequence[str | None], unit: str = "") -> str:
    """Figure, unit and interval if there is one."""
    middle, low, high = ends
    if middle is None:
        return "–"
    interval = "" if low is None or high is None else f" [{low}, {high}]"
    return f"{middle}{unit}{interval}"
