"""A grid: swept fields x arms x seeds, from a file and a command line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from p2p_sac_jax.ablation.runs import Run, make_run
from p2p_sac_jax.arms import ISOLATED, arm_overrides
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, suggestion, to_dict
from p2p_sac_jax.validation import validate

Overrides = dict[str, Any]


class Grid(NamedTuple):
    """Every arm at every combination of the swept values, at every seed."""

    config: TrainConfig  # the base
    factors: dict[str, list[Any]]  # swept field -> values, in order
    arms: dict[str, Overrides]  # name -> fields that make the arm
    seeds: list[int]


class GridPoint(NamedTuple):
    """One arm at one combination of the swept values, at every seed."""

    arm: str
    values: Overrides  # of the swept fields
    runs: list[Run | None]  # one per seed, None where it cannot run
    reason: str  # why it cannot run, in one line; "" if it can


def standard_arms(config: TrainConfig) -> dict[str, Overrides]:
    """The arms that ``config.arms`` names, as overrides of fields."""
    arms = {}
    for name in config.arms.split(","):
        arm = name.strip()
        edges = {"exchange.topology": "empty"} if arm in ISOLATED else {}
        arms[arm] = edges | arm_overrides(arm, config.environment.name)
    return arms


def make_grid(
    config: TrainConfig,
    factors: Mapping[str, Sequence[Any]],
    arms: Mapping[str, Mapping[str, Any]],
    seeds: int,
) -> Grid:
    """Checks the names and counts; ``grid_points`` checks the values.

    Args:
      config: the base; ``config.seed`` is the first seed.
      factors: swept field to its values.
      arms: name to overrides.
      seeds: number of seeds.

    Raises:
      ConfigError: a field is unknown, a value is repeated, or the grid is empty.
    """
    if seeds < 1:
        raise ConfigError(f"seeds={seeds} must be at least 1")
    if not arms:
        raise ConfigError("arms={} must name at least one arm")
    for name, values in factors.items():
        _default(name, config)
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
    """``FIELD=a,b`` as a field and its values, of the field's type.

    Raises:
      ConfigError: the form is wrong, or a value has another type.
    """
    name, found, listed = text.partition("=")
    if not found or not name:
        raise ConfigError(f"--sweep={text} must be FIELD=VALUE,VALUE,...")
    kind = type(_default(name, config))
    return name, [_value(name, item.strip(), kind) for item in listed.split(",")]


def _default(name: str, config: TrainConfig) -> Any:
    fields = dict(flatten(to_dict(config)))
    if name not in fields:
        raise ConfigError(f"--sweep={name}: unknown field{suggestion(name, fields)}")
    return fields[name]


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"--sweep={name}={text} must be true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(
            f"--sweep={name}={text} must be of type {kind.__name__}"
        ) from error


def grid_points(grid: Grid) -> Iterator[GridPoint]:
    """Every point of the grid; the overrides of an arm win over swept values.

    An arm that sets a swept field itself has one point for all values of that field.
    """
    seen = set()
    for combination in itertools.product(*grid.factors.values()):
        swept = dict(zip(grid.factors, combination, strict=True))
        for arm, overrides in grid.arms.items():
            values = {n: v for n, v in swept.items() if n not in overrides}
            identity = repr((arm, values))
            if identity not in seen:
                seen.add(identity)
                yield _point(grid, arm, values)


def _point(grid: Grid, arm: str, values: Overrides) -> GridPoint:
    settings = values | grid.arms[arm]
    try:
        runs = [make_run(grid.config, settings, seed) for seed in grid.seeds]
        validate(runs[0].config)
    except ConfigError as error:
        return GridPoint(arm, values, [None] * len(grid.seeds), str(error))
    return GridPoint(arm, values, list(runs), "")
