"""A sweep as a table: a row for each point and measure, over its seeds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2p_sac_jax.ablation.measures import ARRIVAL, MEASURES
from p2p_sac_jax.ablation.results import Sweep
from p2p_sac_jax.ablation.series import PRICES, Series, counterpart, read_series
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import statistics
from p2p_sac_jax.experiment.statistics import Estimate, Statistic
from p2p_sac_jax.files import write_atomic

Row = dict[str, Any]
Array = np.ndarray

DIGITS = 5  # significant ones of every number in a row
_STYLES = {"steps": ",.0f", "bytes": ",.0f", "return": ",.1f"}  # by unit


def _interval(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


# Columns after those that identify a row.
_NUMBERS = (
    *("seeds", "missing", "censored", "mean", "iqm", "median", "low", "high", "pairs"),
    *_interval("difference"),
    *_interval("ratio"),
    *_interval("improvement"),
)


def make_table(
    sweep: Sweep,
    reference: str = "",
    *,
    measures: Collection[str] = (),
    statistic: Statistic = statistics.iqm,
    series: Sequence[Series] = (),
) -> list[Row]:
    """Rows of a sweep, one for each point and measure.

    A row has ``arm``, the swept fields, ``measure``, and these numbers, rounded to
    ``DIGITS``:

    * ``seeds`` that have the measure and ``missing``, those that do not: unfinished,
      failed or diverged;
    * ``mean`` and ``iqm``, with the interval of the IQM from ``low`` to ``high``; for
      steps to a threshold instead ``median`` with its interval and ``censored``, the
      number of seeds that never got there;
    * ``difference``, the IQM of differences to the reference seed by seed; for steps
      to a threshold instead ``ratio``, how many times more the reference takes;
    * ``improvement``, the probability of doing better than the reference;
    * ``pairs`` of seeds behind these three, each with an interval ``_low``, ``_high``.

    What does not apply is None; inf is beyond the end of the run. A point without a
    finished run has one row without a measure. Intervals hold 95 %; of fewer than five
    seeds there is none.

    Args:
      sweep: its finished part.
      reference: arm, or one of ``PRICES``, to compare with at the same swept values;
        "" compares nothing.
      measures: only these; empty is all.
      statistic: of values and differences; with another one than the IQM there is no
        ``iqm``, and intervals are those of ``mean``.
      series: of the sweep, where they have been read already.

    Raises:
      ConfigError: the reference is unknown.
    """
    known = ["", *sweep.arms, *PRICES]
    if reference not in known:
        allowed = ", ".join(map(repr, known))
        raise ConfigError(f"reference={reference!r} must be one of: {allowed}")
    series = series or read_series(sweep)
    fields = [field for one in series for field in one.values]
    fields = dict.fromkeys([*sweep.factors, *fields])
    rows = []
    for one in series:
        other = counterpart(one, series, reference)
        values = {field: one.values.get(field) for field in fields}
        for name in _names(one, measures):
            key = {"arm": one.arm, **values, "measure": name}
            rows.append(key | _compared(name, one, other, statistic))
    return rows


def _names(series: Series, measures: Collection[str]) -> list[str]:
    """Measures that any seed has; one "" if no seed has any."""
    known = dict.fromkeys(name for seed in series.seeds for name in seed)
    return [n for n in known if not measures or n in measures] if known else [""]


def _compared(
    name: str, series: Series, other: Series | None, statistic: Statistic
) -> Row:
    """All counts and estimates of a row."""
    values = _values(series, name)
    known = values[~np.isnan(values)]
    row: Row = dict.fromkeys(_NUMBERS)
    row |= {"seeds": len(known), "missing": len(values) - len(known)}
    if len(known):
        row |= _estimates(name, known, statistic)
    if other is not None:
        reference = _values(other, name)
        both = ~np.isnan(values) & ~np.isnan(reference)
        if both.any():
            end = min(series.end, other.end)
            pair = values[both], reference[both]
            row |= _comparison(name, *pair, end, statistic)
    return {key: _rounded(value) for key, value in row.items()}


def _values(series: Series, name: str) -> Array:
    """[seeds], NaN where a seed does not have the measure."""
    return np.array([seed.get(name, np.nan) for seed in series.seeds])


def _estimates(name: str, values: Array, statistic: Statistic) -> Row:
    if name == ARRIVAL:
        median, low, high = statistics.estimate(values, statistics.median)
        censored = int(np.isinf(values).sum())
        return {"censored": censored, "median": median, "low": low, "high": high}
    middle, low, high = statistics.estimate(values, statistic)
    iqm = middle if statistic is statistics.iqm else None
    return {"mean": values.mean(), "iqm": iqm, "low": low, "high": high}


def _comparison(
    name: str, values: Array, reference: Array, end: float, statistic: Statistic
) -> Row:
    if name == ARRIVAL:
        ratio = statistics.ratio_of_medians(values, reference, end)
        row = _spread("ratio", ratio)
    else:
        apart = statistics.difference(values, reference, statistic)
        row = _spread("difference", apart)
    sign = -1.0 if MEASURES[name].better == "lower" else 1.0
    better = statistics.probability_of_improvement(sign * values, sign * reference)
    return {"pairs": len(values), **row, **_spread("improvement", better)}


def _spread(name: str, estimate: Estimate) -> Row:
    return dict(zip(_interval(name), estimate, strict=True))


def _rounded(number: float | None) -> float | None:
    """To ``DIGITS`` significant digits, None for NaN."""
    if number is None or math.isnan(number):
        return None
    return number if isinstance(number, int) else float(f"{number:.{DIGITS}g}")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows under a header; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def format_table(rows: Sequence[Row], measures: Sequence[str]) -> dict[str, Any]:
    """Rows for a console: one per point, with a column per measure.

    Args:
      rows: of ``make_table``.
      measures: the columns, in order.

    Returns:
      ``columns`` and ``rows``; all cells are text.
    """
    columns = rows[0] if rows else ()
    fields = [n for n in columns if n not in ("arm", "measure", *_NUMBERS)]
    points: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        values = [row[name] for name in ("arm", *fields)]
        point = tuple("" if value is None else str(value) for value in values)
        points.setdefault(point, {})[row["measure"]] = row
    lines = []
    for point, found in points.items():
        shown = [found.get(name) for name in measures]
        counted = [row for row in shown if row is not None] or list(found.values())
        lines.append([*point, count_seeds(counted), *map(format_estimate, shown)])
    titles = [name.replace("_", " ") for name in measures]
    return {"columns": ["", *fields, "seeds", *titles], "rows": lines}


def count_seeds(rows: Iterable[Row]) -> str:
    """The fewest seeds of any of the rows, and how many there should be."""
    row = min(rows, key=lambda row: row["seeds"])
    count = row["seeds"] + row["missing"]
    return f"{row['seeds']} of {count}" if row["missing"] else str(count)


def format_estimate(row: Row | None) -> str:
    """Such as "0.968 [0.967, 0.969]"; "never" is beyond the end of the run."""
    if row is None or not row["seeds"]:
        return ""
    style = _STYLES.get(MEASURES[row["measure"]].unit, ".3f")

    def text(number: float | None) -> str:
        if number is None:
            return "?"
        return "never" if math.isinf(number) else format(number, style)

    low, high = row["low"], row["high"]
    value = row["iqm"] if row["median"] is None else row["median"]
    known = low is not None and high is not None and math.isfinite(low)
    return f"{text(value)} [{text(low)}, {text(high)}]" if known else text(value)
