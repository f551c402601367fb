"""A sweep as a table: a row for each point and figure, over its seeds."""

from __future__ import annotations

import csv
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
from p2p_sac_jax.experiment.statistics import Estimate

Row = dict[str, Any]
Array = np.ndarray

DIGITS = 5  # significant ones of every number in a row


def _interval(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


# Columns after those that say what a row is about.
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
    over: Collection[str] = (),
) -> list[Row]:
    """Rows of a sweep, by point and figure.

    A row has ``arm``, the swept fields, ``measure``, and of numbers, rounded to
    ``DIGITS``:

    * ``seeds`` that have the figure and ``missing``, those that do not: not finished,
      failed or diverged;
    * ``mean`` and ``iqm``, with the interval of the IQM from ``low`` to ``high``; for
      steps to a threshold instead ``median`` with its interval and ``censored``, how
      many seeds never got there;
    * ``difference``, the IQM of differences to the reference seed by seed; for steps
      to a threshold instead ``ratio``, how many times more the reference takes;
    * ``improvement``, the probability of doing better than the reference;
    * ``pairs`` of seeds behind these three, each with an interval ``_low``, ``_high``.

    What does not apply is None, and what lies beyond all bounds inf. A point without
    a finished run has one row without a figure. Intervals hold 95 %.

    Args:
      sweep: as far as it has come.
      reference: arm, or one of ``PRICES``, to compare with where it has the same
        swept values; "" compares nothing.
      measures: only these figures; all if there are none.
      over: swept fields whose values are the tasks of one row: seeds of all tasks
        are pooled, and resampled within theirs.

    Raises:
      ConfigError: the reference or a field is unknown.
    """
    all_series = read_series(sweep)
    _check("reference", reference, ["", *sweep.arms, *PRICES])
    for field in over:
        _check("over", field, sweep.factors)
    fields = [field for series in all_series for field in series.values]
    fields = dict.fromkeys([*sweep.factors, *fields])
    fields = [field for field in fields if field not in over]
    groups: dict[str, list[Series]] = {}
    for series in all_series:
        group = [series.arm, *(series.values.get(field) for field in fields)]
        groups.setdefault(repr(group), []).append(series)
    rows = []
    for tasks in groups.values():
        values = {field: tasks[0].values.get(field) for field in fields}
        pairs = [(task, counterpart(task, all_series, reference)) for task in tasks]
        for name in _names(tasks, measures):
            key = {"arm": tasks[0].arm, **values, "measure": name}
            rows.append(key | _compared(name, pairs))
    return rows


def _check(name: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        known = ", ".join(map(repr, allowed))
        raise ConfigError(f"{name}={value!r} must be one of: {known}")


def _names(tasks: list[Series], measures: Collection[str]) -> list[str]:
    """Figures that any seed of any task has; one "" if no seed has any."""
    known = dict.fromkeys(n for task in tasks for seed in task.seeds for n in seed)
    return [n for n in known if not measures or n in measures] if known else [""]


def _compared(name: str, pairs: Sequence[tuple[Series, Series | None]]) -> Row:
    """Everything of a row that is counted or estimated."""
    tasks = [_seeds(series, name) for series, _ in pairs]
    present = [~np.isnan(task) for task in tasks]
    known = [task[there] for task, there in zip(tasks, present, strict=True)]
    row: Row = dict.fromkeys(_NUMBERS)
    row["seeds"] = sum(map(len, known))
    row["missing"] = sum(map(len, tasks)) - row["seeds"]
    if all(map(len, known)):
        row |= _estimates(name, known)
    others = [other for _, other in pairs if other is not None]
    if len(others) == len(pairs):
        theirs = [_seeds(other, name) for other in others]
        both = [p & ~np.isnan(y) for p, y in zip(present, theirs, strict=True)]
        tasks = [x[b] for x, b in zip(tasks, both, strict=True)]
        theirs = [y[b] for y, b in zip(theirs, both, strict=True)]
        if all(map(len, tasks)):
            end = min(min(a.end, b.end) for a, b in pairs if b)
            row |= _comparison(name, tasks, theirs, end)
    return {key: _rounded(value) for key, value in row.items()}


def _seeds(series: Series, name: str) -> Array:
    """[seeds], NaN where a seed does not have the figure."""
    return np.array([figures.get(name, np.nan) for figures in series.seeds])


def _estimates(name: str, tasks: list[Array]) -> Row:
    everyone = np.concatenate(tasks)
    if name == ARRIVAL:
        median, low, high = statistics.median_steps(tasks)
        censored = int(np.isinf(everyone).sum())
        return {"censored": censored, "median": median, "low": low, "high": high}
    iqm, low, high = statistics.estimate(tasks)
    return {"mean": everyone.mean(), "iqm": iqm, "low": low, "high": high}


def _comparison(name: str, tasks: list[Array], others: list[Array], end: float) -> Row:
    if name == ARRIVAL:
        row = _spread("ratio", statistics.ratio_of_medians(tasks, others, end))
    else:
        row = _spread("difference", statistics.difference(tasks, others))
    sign = -1.0 if MEASURES[name].better == "lower" else 1.0
    better = statistics.probability_of_improvement(
        [sign * task for task in tasks], [sign * other for other in others]
    )
    return {"pairs": sum(map(len, tasks)), **row, **_spread("improvement", better)}


def _spread(name: str, estimate: Estimate) -> Row:
    return dict(zip(_interval(name), estimate, strict=True))


def _rounded(number: float | None) -> float | None:
    """To ``DIGITS`` significant digits, None for what is not known."""
    if number is None or math.isnan(number):
        return None
    return number if isinstance(number, int) else float(f"{number:.{DIGITS}g}")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows under a line of names; None is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(rows[0]) if rows else []


def format_table(
    rows: Sequence[Row], measures: Sequence[str], differences: bool = False
) -> dict[str, Any]:
    """Rows for a console: a line for each point, a column for each figure.

    Args:
      rows: of ``make_table``.
      measures: the columns, in order.
      differences: to the reference, in place of the figures themselves.

    Returns:
      ``columns`` and ``rows``; all cells are text.
    """
    fields = [n for n in _columns(rows) if n not in ("arm", "measure", *_NUMBERS)]
    points: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        values = [row[name] for name in ("arm", *fields)]
        place = tuple("" if value is None else str(value) for value in values)
        points.setdefault(place, {})[row["measure"]] = row
    form = format_difference if differences else format_figure
    lines = []
    for place, found in points.items():
        shown = [found.get(name) for name in measures]
        behind = [row for row in shown if row is not None] or list(found.values())
        lines.append([*place, _counted(behind), *map(form, shown)])
    titles = [name.replace("_", " ") for name in measures]
    return {"columns": ["", *fields, "seeds", *titles], "rows": lines}


def _counted(rows: Sequence[Row]) -> str:
    """The fewest seeds behind any of the rows, and of how many."""
    row = min(rows, key=lambda row: row["seeds"])
    asked = row["seeds"] + row["missing"]
    return f"{row['seeds']} of {asked}" if row["missing"] else str(asked)


def format_figure(row: Row | None) -> str:
    """Such as "0.968 [0.967, 0.969]"; "never" is beyond the end of the run."""
    if row is None or not row["seeds"]:
        return ""
    centre = "median" if row["measure"] == ARRIVAL else "iqm"
    ends = [row[name] for name in (centre, "low", "high")]
    return _bracketed(ends, _style(row["measure"]), "never")


def format_difference(row: Row | None) -> str:
    """Such as "+0.004 [+0.002, +0.006]", of steps "3.2 [2.1, unbounded] times"."""
    if row is None or not row["pairs"]:
        return ""
    if row["measure"] == ARRIVAL:
        ratio = [row[name] for name in _interval("ratio")]
        return f"{_bracketed(ratio, '.1f', 'unbounded')} times"
    ends = [row[name] for name in _interval("difference")]
    return _bracketed(ends, f"+{_style(row['measure'])}", "unbounded")


def _style(measure: str) -> str:
    styles = {"steps": ",.0f", "bytes": ",.0f", "return": ",.1f"}
    return styles.get(MEASURES[measure].unit, ".3f")


def _bracketed(ends: Sequence[float | None], style: str, beyond: str) -> str:
    """The figure, and its interval if there is one that is not all beyond."""

    def text(number: float | None) -> str:
        if number is None:
            return "?"
        return beyond if math.isinf(number) else format(number, style)

    value, low, high = ends
    known = low is not None and high is not None and math.isfinite(low)
    return f"{text(value)} [{text(low)}, {text(high)}]" if known else text(value)
