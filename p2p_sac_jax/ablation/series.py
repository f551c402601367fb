"""The series that a table compares: arms, and prices that never change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.measures import PopulationMeasures, Values, measure
from p2p_sac_jax.ablation.results import RunResult, Sweep

# Constant prices, measured on the markets of the runs.
HISTORICAL, UNIFORM = PRICES = "historical price", "best uniform price"
_NO_MEASURES = PopulationMeasures({}, {}, {})
# Top-level fields and these sections determine what such a price earns.
_MARKET = ("environment", "population", "attack")


class Series(NamedTuple):
    """One arm at one combination of the swept values."""

    arm: str
    values: dict[str, Any]  # field -> value, which identify the series
    settings: dict[str, Any]  # these, and what the arm itself sets
    seeds: list[Values]  # one per seed, empty where the run is missing
    end: float  # step of the last evaluation, the earliest of all seeds


def read_series(sweep: Sweep) -> list[Series]:
    """The constant prices, then the arms."""
    prices: dict[str, Series] = {}
    arms = []
    for point in sweep.points:
        settings = point.values | sweep.arms[point.arm]
        runs = [run for run in point.runs if run is not None]
        end = min((int(run.curves.steps[-1]) for run in runs), default=math.inf)
        seeds = [measure_run(run) for run in point.runs]
        own = [measured.arm for measured in seeds]
        arms.append(Series(point.arm, point.values, settings, own, end))
        market = {name: v for name, v in settings.items() if _is_market(name)}
        for price, own in (
            (HISTORICAL, [measured.historical for measured in seeds]),
            (UNIFORM, [measured.uniform for measured in seeds]),
        ):
            if not any(own):
                continue
            series = Series(price, market, market, own, end)
            known = prices.setdefault(repr((price, market)), series)
            # All arms see the same market at a seed; runs of some may have failed.
            known.seeds[:] = [a or b for a, b in zip(known.seeds, own, strict=True)]
    return [*prices.values(), *arms]


def measure_run(run: RunResult | None) -> PopulationMeasures:
    """Figures of a run; none where it is missing."""
    if run is None:
        return _NO_MEASURES
    return measure(run.curves, uniform_fraction=run.meta.get("uniform_fraction"))


def _is_market(field: str) -> bool:
    section, dot, _ = field.partition(".")
    return not dot or section in _MARKET


def counterpart(
    series: Series, candidates: Sequence[Series], reference: str
) -> Series | None:
    """The candidate of arm ``reference`` whose values are all settings of ``series``.

    Of several, the one with the most values is the closest.
    """
    if series.arm == reference:
        return None
    matching = [
        other
        for other in candidates
        if other.arm == reference
        and all(series.settings.get(name) == v for name, v in other.values.items())
    ]
    return max(matching, key=lambda other: len(other.values), default=None)
