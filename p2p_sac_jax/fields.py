"""One declaration per field of the configuration.

A field is declared with its default, what it accepts and a description::

    tau: float = traced(0.01, "(0, 1]", "Polyak step of the target critics")
    aggregator: str = choice("mean", "exchange.aggregation:AGGREGATORS", "how to mix")

The checks, the traced hyper-parameters, ``docs/configuration.md`` and ``--help`` all
read these declarations.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, get_type_hints


class ConfigError(ValueError):
    """A configuration that cannot run; the message is one line for the user."""


def refuse(name: str, value: Any, reason: str) -> NoReturn:
    """Raises ``ConfigError``: field, value, and what is allowed."""
    raise ConfigError(f"{name}={value!r} {reason}")


class Field(NamedTuple):
    """A field of the configuration: its declaration, its place and its type."""

    description: str
    interval: str = ""  # of a number; a round bracket excludes the end
    names: tuple[str, ...] = ()  # of a choice: values, and registries "module:NAME"
    form: str = ""  # of other values of a choice, which its user checks
    traced: bool = False  # an input of the compiled program: may differ by run
    name: str = ""  # dotted
    type: type = str
    default: Any = None

    @property
    def leaf(self) -> str:
        """The name within the section."""
        return self.name.rpartition(".")[2]

    def choices(self) -> tuple[str, ...]:
        """The values of a choice; the keys of a registry are read when asked for."""
        found: list[str] = []
        for name in self.names:
            found.extend(resolve(name) if ":" in name else [name])
        return tuple(found)

    def allowed(self) -> str:
        """What the field accepts, in a few words."""
        listed = ", ".join([*self.choices(), *([self.form] if self.form else [])])
        return self.interval or listed or _ANYTHING[self.type]

    def summary(self) -> tuple[str, str]:
        """``name=default``, and the description with the type and what is allowed."""
        accepts = f"one of {self.allowed()}" if self.names else self.type.__name__
        if self.interval:
            accepts += f" in {self.interval}"
        mark = ", traced" if self.traced else ""
        return f"{self.name}={self.default}", f"{self.description} ({accepts}{mark})"

    def check_type(self, value: Any) -> Any:
        """``value``, as a float where a whole number is given for one.

        Raises:
          ConfigError: the value is of another type.
        """
        if self.type is float and type(value) is int:
            return float(value)
        if type(value) is not self.type:
            refuse(self.name, value, f"must be of type {self.type.__name__}")
        return value

    def check(self, value: Any) -> None:
        """Checks range or choice; a number also as the 32 bits that compute with it.

        Raises:
          ConfigError: the value is not allowed.
        """
        if self.interval and not _inside(value, self.interval):
            refuse(self.name, value, f"must be in {self.interval}")
        if self.interval and not _inside(_in_32_bits(value), self.interval):
            refuse(self.name, value, f"must be in {self.interval} in 32 bits")
        if self.form and ":" in value:
            return
        if self.names and value not in self.choices():
            refuse(self.name, value, f"must be one of {self.allowed()}")

    def number(self, value: Any) -> float:
        """``value`` in a compiled program: a choice is its index, a switch 0 or 1."""
        return self.choices().index(value) if self.names else float(value)


_ANYTHING = {bool: "true, false", str: "text"}
_DECLARATION = "declaration"
_PACKAGE = __name__.partition(".")[0]


def static(default: float, interval: str, description: str) -> Any:
    """A number that the compiled program holds as a constant."""
    return _declare(default, Field(description, interval))


def traced(default: float, interval: str, description: str) -> Any:
    """A number that is an input of the compiled program."""
    return _declare(default, Field(description, interval, traced=True))


def switch(default: bool, description: str, *, traced: bool = False) -> Any:
    """True or false."""
    return _declare(default, Field(description, traced=traced))


def choice(
    default: str,
    names: str | tuple[str, ...],
    description: str,
    *,
    traced: bool = False,
    form: str = "",
) -> Any:
    """One of several names.

    Args:
      default: the value by default.
      names: values and registries. A registry is "module:NAME", a mapping whose keys
        are values; it is imported when its keys are needed, since it may load JAX.
      description: what is chosen.
      traced: whether the index of the value is an input of the compiled program.
      form: of values beside those, "a:b", which whoever reads the field checks.
    """
    names = (names,) if isinstance(names, str) else names
    return _declare(default, Field(description, names=names, form=form, traced=traced))


def text(default: str, description: str) -> Any:
    """Any text."""
    return _declare(default, Field(description))


def _declare(default: Any, field: Field) -> Any:
    return dataclasses.field(default=default, metadata={_DECLARATION: field})


@functools.cache
def fields_of(section: type, prefix: str = "") -> tuple[Field, ...]:
    """Every field of a configuration class, those of its sections included."""
    return tuple(_walk(section, prefix))


def sections_of(kind: type) -> dict[str, Any]:
    """Name and class of the sections of a configuration class."""
    hints = get_type_hints(kind)
    return {name: t for name, t in hints.items() if dataclasses.is_dataclass(t)}


def _walk(kind: type, prefix: str) -> Iterator[Field]:
    types, sections = get_type_hints(kind), sections_of(kind)
    for field in dataclasses.fields(kind):
        if field.name in sections:
            yield from _walk(sections[field.name], f"{prefix}{field.name}.")
            continue
        yield field.metadata[_DECLARATION]._replace(
            name=f"{prefix}{field.name}",
            type=types[field.name],
            default=field.default,
        )


def resolve(reference: str) -> Any:
    """The object that "module:NAME" refers to, a module of this package."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)


def _in_32_bits(value: float) -> float:
    if isinstance(value, int):
        return value if -(2**31) <= value < 2**31 else math.inf
    return ctypes.c_float(value).value


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and math.isfinite(value)
