"""A grid: swept fields x arms x seeds, as a file and a command line say it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.runs import Cell, make_cell
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, suggestion, to_dict
from p2p_sac_jax.hyper import ISOLATED, arm_overrides
from p2p_sac_jax.validation import validate

Overrides = dict[str, Any]


class Grid(NamedTuple):
    """What is asked: every arm at every combination of the swept values, and seed."""

    config: TrainConfig  # the base
    factors: dict[str, list[Any]]  # swept field -> values, in order
    arms: dict[str, Overrides]  # name -> fields that make the arm
    seeds: list[int]


class Point(NamedTuple):
    """One arm at one combination of the swept values, at every seed."""

    arm: str
    values: Overrides  # of the swept fields
    cells: list[Cell | None]  # one for each seed, None where it cannot run
    reason: str  # why it cannot run, in one line; "" if it can


def standard_arms(config: TrainConfig) -> dict[str, Overrides]:
    """The arms that ``config.arms`` names, as overrides of fields."""
    arms = {}
    for name in config.arms.split(","):
        arm = name.strip()
        alone = {"exchange.topology": "empty"} if arm in ISOLATED else {}
        arms[arm] = alone | arm_overrides(arm, config.environment.name)
    return arms


def make_grid(
    config: TrainConfig,
    factors: Mapping[str, Sequence[Any]],
    arms: Mapping[str, Mapping[str, Any]],
    seeds: int,
) -> Grid:
    """Checks what can be checked before any cell is made.

    Args:
      config: the base; ``config.seed`` is the first seed.
      factors: swept field to its values.
      arms: name to overrides.
      seeds: how many.

    Raises:
      ConfigError: a field is unknown, a value comes twice, or nothing is asked.
    """
    if seeds < 1:
        raise ConfigError(f"seeds={seeds} must be at least 1")
    if not arms:
        raise ConfigError("arms={} must name at least one arm")
    known = [name for name, _ in flatten(to_dict(config))]
    for name, values in factors.items():
        if name not in known:
            raise ConfigError(f"--sweep={name}: unknown field{suggestion(name, known)}")
        if not values or len(set(map(repr, values))) < len(values):
            raise ConfigError(
                f"--sweep={name}={','.join(map(str, values))} must name at least one"
                " value, and each once"
            )
    return Grid(
        config,
        {name: list(values) for name, values in factors.items()},
        {name: dict(overrides) for name, overrides in arms.items()},
        list(range(config.seed, config.seed + seeds)),
    )


def parse_sweep(text: str, config: TrainConfig) -> tuple[str, list[Any]]:
    """``FIELD=a,b`` as a field and its values, of the type that the field has.

    Raises:
      ConfigError: it is not of that form, or a value is of another type.
    """
    name, found, listed = text.partition("=")
    fields = dict(flatten(to_dict(config)))
    if not found or not name:
        raise ConfigError(f"--sweep={text} must be FIELD=VALUE,VALUE,...")
    if name not in fields:
        raise ConfigError(f"--sweep={name}: unknown field{suggestion(name, fields)}")
    kind = type(fields[name])
    return name, [_value(name, word.strip(), kind) for word in listed.split(",")]


def _value(name: str, word: str, kind: type) -> Any:
    if kind is bool:
        if word.lower() not in ("true", "false"):
            raise ConfigError(f"--sweep={name}={word} must be true or false")
        return word.lower() == "true"
    try:
        return kind(word)
    except ValueError as error:
        raise ConfigError(
            f"--sweep={name}={word} must be of type {kind.__name__}"
        ) from error


def points(grid: Grid) -> Iterator[Point]:
    """Every point of the grid; what an arm says wins over what is swept.

    An arm that sets a swept field itself has one point for all of its values.
    """
    done = set()
    for combination in itertools.product(*grid.factors.values()):
        swept = dict(zip(grid.factors, combination, strict=True))
        for arm, overrides in grid.arms.items():
            values = {n: v for n, v in swept.items() if n not in overrides}
            mark = repr((arm, values))
            if mark not in done:
                done.add(mark)
                yield _point(grid, arm, values)


def _point(grid: Grid, arm: str, values: Overrides) -> Point:
    settings = values | grid.arms[arm]
    try:
        cells = [make_cell(grid.config, settings, seed) for seed in grid.seeds]
        validate(cells[0].config)
    except ConfigError as error:
        return Point(arm, values, [None] * len(grid.seeds), str(error))
    return Point(arm, values, list(cells), "")
