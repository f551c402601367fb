"""Comma-separated flags, and files that flags name, for mains that measure."""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import suggestion


def words(flag: str, text: str, allowed: tuple[str, ...]) -> list[str]:
    """Distinct names from a comma-separated list.

    Raises:
      ConfigError: there is none, or one that is not allowed.
    """
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word))
    for word in found or [""]:
        if word not in allowed:
            hint = suggestion(word, allowed) or f"; allowed: {', '.join(allowed)}"
            raise ConfigError(f"--{flag}={text!r}: unknown {word!r}{hint}")
    return found


def numbers(flag: str, text: str, least: int = 1) -> list[int]:
    """Distinct whole numbers from a comma-separated list.

    Raises:
      ConfigError: there is none, or one below ``least``.
    """
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found or not all(word.isdecimal() and int(word) >= least for word in found):
        raise ConfigError(
            f"--{flag}={text!r} must be whole numbers, at least {least}, by comma"
        )
    return list(dict.fromkeys(int(word) for word in found))


def write(flag: absl_flags.FlagHolder[str], text: str) -> None:
    """Writes to the file that a flag names, if any; no text only tries whether it can.

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
