"""Flags that hold lists separated by commas, bounds, and output files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p_sac_jax.commands.flags import Flag
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import suggestion


def names(flag: Flag, allowed: Sequence[str]) -> list[str]:
    """Distinct names from a list separated by commas.

    Raises:
      ConfigError: the list is empty or holds a name that is not allowed.
    """
    found = list(dict.fromkeys(name.strip() for name in flag.value.split(",") if name))
    for name in found or [""]:
        if name not in allowed:
            hint = suggestion(name, allowed) or f"; allowed: {', '.join(allowed)}"
            raise ConfigError(f"--{flag.name}={flag.value!r}: unknown {name!r}{hint}")
    return found


def numbers(flag: Flag, default: str = "", least: int = 1) -> list[int]:
    """Distinct whole numbers from a list separated by commas.

    Raises:
      ConfigError: the list is empty or holds a number below ``least``.
    """
    text = flag.value or default
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found or not all(word.isdecimal() and int(word) >= least for word in found):
        raise ConfigError(
            f"--{flag.name}={text!r} must be whole numbers, at least {least}, by comma"
        )
    return list(dict.fromkeys(int(word) for word in found))


def at_least(least: float, *flags: Flag) -> None:
    """Raises ConfigError unless every flag is at least ``least``."""
    for flag in flags:
        if flag.value < least:
            raise ConfigError(f"--{flag.name}={flag.value} must be at least {least}")


def write_json(flag: Flag, figures: Any) -> None:
    """Writes figures to the file that a flag names, see ``write``."""
    write(flag, json.dumps(figures, indent=1) + "\n")


def write(flag: Flag, text: str = "") -> None:
    """Writes ``text`` to the file that a flag names, if it names one.

    An empty text only checks that the file can be written.

    Raises:
      ConfigError: the file cannot be written.
    """
    if not flag.value:
        return
    try:
        with Path(flag.value).open("w" if text else "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--{flag.name}={flag.value!r}: {error.strerror}") from error
