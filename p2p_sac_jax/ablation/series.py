"""What the rows of a table are about: arms, and prices that learn nothing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.measures import PopulationMeasures, Values, measure
from p2p_sac_jax.ablation.results import Cell, Sweep

# Prices that never move stand beside the arms, though no cell was run for them.
HISTORICAL, UNIFORM = PRICES = "historical price", "best uniform price"
_NO_MEASURES = PopulationMeasures({}, {}, {})
# Fields of these sections, and those of none, decide what such a price earns.
_MARKET = ("environment", "population", "attack")


class Series(NamedTuple):
    """One arm at one combination of the swept values."""

    arm: str
    values: dict[str, Any]  # field -> value, which tell the line from others
    settings: dict[str, Any]  # these, and what the arm itself sets
    seeds: list[Values]  # one for each seed, empty where there is no cell
    end: float  # step of the last evaluation, the earliest of all seeds


def read_lines(sweep: Sweep) -> list[Series]:
    """The prices that never move, then the arms."""
    prices: dict[str, Series] = {}
    arms = []
    for point in sweep.points:
        settings = point.values | sweep.arms[point.arm]
        cells = [cell for cell in point.cells if cell is not None]
        end = min((int(cell.curves.steps[-1]) for cell in cells), default=math.inf)
        seeds = [_measures(cell) for cell in point.cells]
        own = [measured.arm for measured in seeds]
        arms.append(Series(point.arm, point.values, settings, own, end))
        market = {name: v for name, v in settings.items() if _is_market(name)}
        for price, own in (
            (HISTORICAL, [measured.historical for measured in seeds]),
            (UNIFORM, [measured.uniform for measured in seeds]),
        ):
            if not any(own):
                continue
            line = Series(price, market, market, own, end)
            known = prices.setdefault(repr((price, market)), line)
            # Every arm meets the same market at a seed; some may have failed.
            known.seeds[:] = [a or b for a, b in zip(known.seeds, own, strict=True)]
    return [*prices.values(), *arms]


def _measures(cell: Cell | None) -> PopulationMeasures:
    if cell is None:
        return _NO_MEASURES
    return measure(
        cell.curves,
        evaluation_weeks=cell.meta["config"]["evaluation_weeks"],
        uniform_fraction=cell.meta.get("uniform_fraction"),
    )


def _is_market(field: str) -> bool:
    section, dot, _ = field.partition(".")
    return not dot or section in _MARKET


def counterpart(line: Series, lines: list[Series], reference: str) -> Series | None:
    """The line of ``reference`` whose every value is a setting of ``line`` too."""
    if line.arm == reference:
        return None
    same = [
        other
        for other in lines
        if other.arm == reference
        and all(line.settings.get(name) == v for name, v in other.values.items())
    ]
    # An arm may set what tells its market from the others': the closest one is its.
    return max(same, key=lambda other: len(other.values), default=None)
