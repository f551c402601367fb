"""Configurations as plain data: nested dicts in, nested dicts out, and a hash.

Nothing here judges values; ``validation.validate`` does.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.fields import Field, fields_of, sections_of


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every leaf, in order."""
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean …?"`` for the nearest known dotted name, or nothing.

    A name given without its section, or in the wrong one, finds the field too.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not near:
        leaf = name.rpartition(".")[2]
        leaves = {other.rpartition(".")[2]: other for other in reversed(known)}
        near = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.75)
        near = [leaves[match] for match in near]
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The configuration as a nested dict of plain Python values."""
    return dataclasses.asdict(config)


def from_dict(mapping: Mapping[str, Any]) -> TrainConfig:
    """Frozen configuration from a nested dict; missing fields keep their default.

    Raises:
      ConfigError: a field is unknown or its value is of another type. Whole
        numbers pass for floats; nothing else is converted.
    """
    return _build(TrainConfig, mapping, "")


def find_field(name: str) -> Field:
    """The declaration of the field with a dotted name.

    Raises:
      ConfigError: there is none.
    """
    fields = {field.name: field for field in fields_of(TrainConfig)}
    if name not in fields:
        raise ConfigError(f"unknown field {name}{suggestion(name, fields)}")
    return fields[name]


def replace_fields(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """``config`` with fields replaced, given by their dotted names.

    Raises:
      ConfigError: as ``from_dict``.
    """
    nested = to_dict(config)
    for name, value in values.items():
        place = nested
        *path, leaf = name.split(".")
        for section in path:
            place = place.setdefault(section, {})
        place[leaf] = value
    return from_dict(nested)


def _build(kind: type, mapping: Any, prefix: str) -> Any:
    if not isinstance(mapping, Mapping):
        name = prefix.rstrip(".") or "the configuration"
        raise ConfigError(f"{name}={mapping!r} must be a section of fields")
    sections = sections_of(kind)
    fields = {field.name: field for field in fields_of(kind, prefix)}
    values = {}
    for name, value in mapping.items():
        path = f"{prefix}{name}"
        if name in sections:
            values[name] = _build(sections[name], value, f"{path}.")
        elif path in fields:
            values[name] = fields[path].check_type(value)
        else:
            find_field(path)
    return kind(**values)


def config_hash(config: TrainConfig) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differing_fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Dotted names of the fields that differ or that only one side has, sorted."""
    left, right = dict(flatten(a)), dict(flatten(b))
    missing = object()
    return sorted(
        name
        for name in left.keys() | right.keys()
        if left.get(name, missing) != right.get(name, missing)
    )
