"""The edge of every command line: absl flags in, a checked configuration out.

A main looks like this::

    flags.define_config()

    def main(argv: list[str]) -> int | None:
        config = flags.get_train_config()
        ...

    if __name__ == "__main__":
        flags.run(main)

Whatever the user got wrong is told in one line on stderr, with exit status 2.
Nothing here loads JAX before the flags have been read.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app
from absl import flags as absl_flags
from ml_collections import config_flags

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, from_dict, load_json, suggestion
from p2p_sac_jax.validation import validate

FLAGS = absl_flags.FLAGS
USER_ERROR = 2

# Flags belong to the main that calls ``define_config``, and its --help shows them.
absl_flags.disclaim_key_flags()

_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(=|$)")
_SELECTION = re.compile(r"--?config(?:=(.*))?$")
_HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull", "--helpxml"}
_EXAMPLE = "--config=configs/pricing.py"


def define_config(flag_values: absl_flags.FlagValues = FLAGS) -> None:
    """Defines ``--config=FILE`` and its overrides ``--config.FIELD=VALUE``."""
    config_flags.DEFINE_config_file(
        "config",
        default=None,
        help_string=f"configuration file, for example {_EXAMPLE}; "
        "--config.FIELD=VALUE changes one field",
        flag_values=flag_values,
    )


def get_train_config(
    workdir: str | os.PathLike[str] = "", flag_values: absl_flags.FlagValues = FLAGS
) -> TrainConfig:
    """The configuration the user asked for, validated.

    Args:
      workdir: folder of an earlier run, whose configuration is used where there
        is no ``--config``: a run goes on without repeating its flags.
      flag_values: parsed flags.

    Raises:
      ConfigError: there is no configuration, or it cannot run.
    """
    chosen = flag_values["config"].value
    if chosen is not None:
        config = from_dict(chosen.to_dict())
    elif workdir and (Path(workdir) / "run.json").is_file():
        config = from_dict(load_json(Path(workdir) / "run.json").get("config", {}))
    else:
        raise ConfigError(f"--config is missing; for example {_EXAMPLE}")
    validate(config)
    return config


def parse(argv: Sequence[str], flag_values: absl_flags.FlagValues = FLAGS) -> list[str]:
    """Parses the command line.

    Args:
      argv: program name and arguments. Overrides are looked up in ``sys.argv``.
      flag_values: flags to fill.

    Returns:
      The program name and what is not a flag.

    Raises:
      ConfigError: the user got something wrong; the message is one line.
    """
    fields: dict[str, Any] = {}
    try:
        if "config" in flag_values:
            fields = _check_overrides(argv)
        with warnings.catch_warnings():
            # ml_collections loads the file by a method that Python has deprecated.
            warnings.filterwarnings("ignore", r"the load_module\(\)")
            return flag_values(list(argv))
    except absl_flags.UnrecognizedFlagError as error:
        hint = suggestion(error.flagname, list(flag_values), "--")
        raise ConfigError(f"unknown flag --{error.flagname}{hint}") from error
    except absl_flags.IllegalFlagValueError as error:
        raise ConfigError(_explain_value(str(error), fields)) from error
    except absl_flags.Error as error:
        raise ConfigError(_one_line(error)) from error


def run(main: Callable[[list[str]], int | None], *, arguments: bool = False) -> None:
    """Runs a main behind parsed flags and exits with its status.

    Args:
      main: takes the program name and its arguments; None is success. A
        ``ConfigError`` raised in it ends in one line and status 2.
      arguments: whether words that are not flags are welcome.
    """
    wants_help = bool(_HELP.intersection(sys.argv[1:]))

    def flags_parser(argv: list[str]) -> list[str]:
        try:
            words = parse(argv)
            if len(words) > 1 and not arguments:
                raise ConfigError(f"unexpected argument {words[1]!r}")
            return words
        except ConfigError as error:
            _exit_with(error)
        except SystemExit as error:  # absl leaves --help with status 1
            raise SystemExit(0 if wants_help else error.code) from None

    def guarded(argv: list[str]) -> int | None:
        try:
            return main(argv)
        except (ConfigError, app.UsageError) as error:
            _exit_with(error)

    app.run(guarded, flags_parser=flags_parser)


def _exit_with(error: Exception) -> NoReturn:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    raise SystemExit(USER_ERROR)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _check_overrides(argv: Sequence[str]) -> dict[str, Any]:
    """Checks that the file loads and that each override names one of its fields.

    ml_collections would answer with a traceback.

    Returns:
      The leaves of the configuration file, by dotted name; empty without one.
    """
    overrides = list(_overrides(argv))
    path = _selected(argv)
    if path is None:
        if overrides:
            name = f"--config.{overrides[0]}"
            raise ConfigError(f"{name} needs {_EXAMPLE} or another file before it")
        return {}
    config = _load(path)
    leaves = dict(flatten(config))
    sections = {name.rpartition(".")[0] for name in leaves}
    for name in overrides:
        if name in sections:
            fields = ", ".join(leaf for leaf in leaves if leaf.startswith(f"{name}."))
            raise ConfigError(f"--config.{name} is a section; set one of {fields}")
        if name not in leaves:
            hint = suggestion(name, leaves, "--config.")
            raise ConfigError(f"unknown flag --config.{name}{hint}")
    return leaves


def _arguments(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each argument with the one after it, up to ``--``."""
    words = list(argv[1:])
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == "--":
            return
        yield word, following


def _overrides(argv: Sequence[str]) -> Iterator[str]:
    for word, _ in _arguments(argv):
        match = _OVERRIDE.match(word)
        if match:
            yield match[2]


def _selected(argv: Sequence[str]) -> str | None:
    chosen = None
    for word, following in _arguments(argv):
        match = _SELECTION.match(word)
        if match:
            chosen = following if match[1] is None else match[1]
    return chosen


def _load(path: str) -> Mapping[str, Any]:
    name, _, variant = path.partition(":")
    file = Path(name)
    if not file.is_file():
        near = sorted(file.parent.glob("*.py")) if file.parent.is_dir() else []
        known = [str(other) for other in near if other.stem != "__init__"]
        hint = suggestion(str(file), known) or f"; for example {_EXAMPLE}"
        raise ConfigError(f"--config={path} is not a file{hint}")
    try:
        loaded = runpy.run_path(str(file))["get_config"](
            *([variant] if variant else [])
        )
        return loaded.to_dict()
    except ConfigError:
        raise
    except Exception as error:  # the file is the user's own program
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"--config={path} does not load: {reason}") from error


def _explain_value(message: str, fields: Mapping[str, Any]) -> str:
    """``flag --config.x=y: reason`` as a line that names the expected type."""
    match = re.match(r"flag --config\.([\w.]+)=(.*?): ", message, re.DOTALL)
    if not match or match[1] not in fields:
        return _one_line(message)
    kind = type(fields[match[1]]).__name__
    return _one_line(f"--config.{match[1]}={match[2]} must be of type {kind}")
