"""The edge of every program: flags in, a checked configuration and exit status out.

A program is a module like this::

    PROGRAM = Program(__doc__, config=True)
    _WORKDIR = PROGRAM.string("workdir", "", "folder of the run")

    @PROGRAM.main
    def main() -> int | None:
        config = PROGRAM.get_config(_WORKDIR.value)
        ...

    if __name__ == "__main__":
        main()

A user error and a file that cannot be written end in one line on stderr and exit
status 2, an interrupt in status 130. Standard streams that are closed, full or without
a reader change nothing, except where the text is all that was asked for: status 141
without a reader, else 2. Nothing here loads JAX.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags as absl_flags
from ml_collections import config_flags

from p2p_sac_jax.commands.presets import Preset, load_preset
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, from_dict, suggestion
from p2p_sac_jax.fields import fields_of
from p2p_sac_jax.files import load_json, user_path
from p2p_sac_jax.streams import guard_standard_streams, tolerant
from p2p_sac_jax.validation import validate

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
_EXAMPLE = "--config=pricing"
_HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}
_CONFIG_HELP = {
    "--config": "preset, for example pricing or ablations/headline, or a Python file",
    "--config.FIELD=VALUE": "changes one field; --helpfull lists them",
}

Flag = absl_flags.FlagHolder[Any]


class Program:
    """One program: its flags, which no other program sees, and its command line.

    Attributes:
      arguments: words of the command line that are not flags.
      preset: what ``--config`` names, None without it.
    """

    def __init__(
        self,
        doc: str | None,
        *,
        config: bool = False,
        arguments: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """No flags but those of the configuration.

        Args:
          doc: help text, shown above the list of flags.
          config: whether there are ``--config=PRESET`` and ``--config.FIELD=VALUE``.
          arguments: whether words that are not flags are allowed.
          report: takes the line of a user error; by default it goes to stderr.
        """
        self._doc = (doc or "").strip()
        self._report = report or _print_error
        self._takes_config, self._takes_arguments = config, arguments
        self._values = absl_flags.FlagValues()
        self._paths: list[str] = []
        self.arguments: list[str] = []
        self.preset: Preset | None = None

    def string(self, name: str, default: str | None, text: str) -> Flag:
        """A flag that takes any text."""
        return absl_flags.DEFINE_string(name, default, text, self._values)

    def path(self, name: str, default: str, text: str) -> Flag:
        """A flag that takes a path, see ``user_path``; "" stays as it is."""
        self._paths.append(name)
        return self.string(name, default, text)

    def strings(self, name: str, text: str) -> Flag:
        """A flag that takes texts separated by commas; none by default."""
        return absl_flags.DEFINE_list(name, [], text, self._values)

    def repeated(self, name: str, text: str) -> Flag:
        """A flag that may be given several times; a list, empty by default."""
        return absl_flags.DEFINE_multi_string(name, [], text, self._values)

    def integer(
        self, name: str, default: int | None, text: str, least: int | None = None
    ) -> Flag:
        """A flag that takes a whole number of at least ``least``."""
        return absl_flags.DEFINE_integer(
            name, default, text, least, flag_values=self._values
        )

    def number(self, name: str, default: float, text: str) -> Flag:
        """A flag that takes a number."""
        return absl_flags.DEFINE_float(name, default, text, flag_values=self._values)

    def boolean(self, name: str, default: bool, text: str) -> Flag:
        """A flag that is given as ``--name`` or ``--noname``."""
        return absl_flags.DEFINE_boolean(name, default, text, self._values)

    def choice(
        self, name: str, default: str | None, choices: Sequence[str], text: str
    ) -> Flag:
        """A flag that takes one of ``choices``."""
        return absl_flags.DEFINE_enum(name, default, choices, text, self._values)

    def get_config(self, workdir: Path | str = "") -> TrainConfig:
        """The configuration that the command line asks for, validated.

        Args:
          workdir: folder of an earlier run, whose configuration is used where there
            is no ``--config``: a run continues without its flags.

        Raises:
          ConfigError: there is no configuration, or it cannot run.
        """
        if self.preset is not None:
            config = from_dict(self.preset.config.to_dict())
        elif workdir and Path(workdir, "run.json").is_file():
            config = from_dict(load_json(Path(workdir, "run.json")).get("config", {}))
        else:
            raise ConfigError(f"--config is missing; for example {_EXAMPLE}")
        validate(config)
        return config

    def main(self, function: Callable[[], int | None]) -> Callable[..., NoReturn]:
        """Decorates the function that runs behind parsed flags.

        Args:
          function: returns the exit status; None is success. A ``ConfigError`` in it
            ends in one line and status 2.

        Returns:
          The entry point: takes a command line, by default ``sys.argv``, and exits.
        """

        @functools.wraps(function)
        def start(argv: Sequence[str] | None = None) -> NoReturn:
            argv = sys.argv if argv is None else argv
            guard_standard_streams()
            try:
                status = self._run(function, argv)
            except (ConfigError, OSError) as error:
                self._report(explain(error))
                status = USER_ERROR
            except KeyboardInterrupt:
                print("SIGINT: interrupted", file=sys.stderr)
                status = INTERRUPTED
            sys.stdout.flush()
            sys.exit(status)

        return start

    def _run(self, function: Callable[[], int | None], argv: Sequence[str]) -> Any:
        if _HELP.intersection(argv[1:]):
            return print_result(self.help(full="--helpfull" in argv))
        if os.getcwd() not in sys.path:  # a console script has its own folder only
            sys.path.append(os.getcwd())  # for environment.name=module:factory
        self.parse(argv)
        absl_flags.FLAGS.mark_as_parsed()  # libraries read flags of their own
        return function()

    def help(self, *, full: bool = False) -> str:
        """The help text and one entry for each flag; ``full``: and for each field."""
        entries = dict(_CONFIG_HELP) if self._takes_config else {}
        for name in self._values:
            flag = self._values[name]
            shown = (
                "" if flag.default in (None, "", [], False) else f" ({flag.default})"
            )
            entries[f"--{name}"] = f"{flag.help}{shown}"
        parts = [self._doc, "", "Flags:"]
        parts += [_entry(name, text) for name, text in entries.items()]
        if self._takes_config and full:
            parts += ["", "Fields of the configuration, with their defaults:"]
            parts += [_entry(*field.summary()) for field in fields_of(TrainConfig)]
        return "\n".join(parts)

    def parse(self, argv: Sequence[str]) -> None:
        """Parses a command line, program name first.

        Raises:
          ConfigError: it has a user error.
        """
        fields: dict[str, Any] = {}
        try:
            words = self._values.read_flags_from_files(list(argv))
            if self._takes_config:
                words, fields = self._define_config(words)
            self.arguments = self._values(words)[1:]
        except absl_flags.UnrecognizedFlagError as error:
            hint = suggestion(error.flagname, list(self._values), "--")
            raise ConfigError(f"unknown flag --{error.flagname}{hint}") from error
        except absl_flags.IllegalFlagValueError as error:
            raise ConfigError(_explain_value(str(error), fields)) from error
        except absl_flags.Error as error:
            raise ConfigError(_one_line(error)) from error
        for name in self._paths:
            if text := self._values[name].value:
                self._values[name].value = user_path(text, f"--{name}")
        if self.arguments and not self._takes_arguments:
            raise ConfigError(f"unexpected argument {self.arguments[0]!r}")

    def _define_config(self, words: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Loads the preset and defines a flag for each overridden field.

        Returns:
          The words without ``--config``, and the fields of the preset by dotted name.
        """
        chosen, words = _take_config(words)
        matches = (re.match(r"--?(?:no)?config\.([^=]+)", word) for word in words)
        overrides = [match[1] for match in matches if match]
        if chosen is None:
            if overrides:
                raise ConfigError(f"--config.{overrides[0]} needs {_EXAMPLE} as well")
            return words, {}
        self.preset = load_preset(chosen)
        fields = dict(flatten(self.preset.config.to_dict()))
        for name in overrides:
            _check_override(name, fields)
        config_flags.DEFINE_config_dict(
            "config", self.preset.config, flag_values=self._values, sys_argv=words
        )
        return words, fields


def _take_config(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The last value of ``--config``, None without one, and all other words."""
    chosen, rest, following = None, [], iter(words)
    for word in following:
        if word == "--":
            return chosen, [*rest, word, *following]
        if word in ("--config", "-config"):
            chosen = next(following, "")
        elif match := re.match(r"--?config=(.*)", word, re.DOTALL):
            chosen = match[1]
        else:
            rest.append(word)
    return chosen, rest


def _check_override(name: str, fields: Mapping[str, Any]) -> None:
    """ml_collections would answer with a traceback."""
    if name in fields:
        return
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
        listed = ", ".join(inside)
        raise ConfigError(f"--config.{name} is a section; set one of {listed}")
    hint = suggestion(name, fields, "--config.")
    raise ConfigError(f"unknown flag --config.{name}{hint}")


def _explain_value(message: str, fields: Mapping[str, Any]) -> str:
    """``flag --config.x=y: reason`` as a line that names the expected type."""
    match = re.match(r"flag --config\.([\w.]+)=(.*?): ", message, re.DOTALL)
    if not match or match[1] not in fields:
        message = re.sub(r"^flag (\S+): \S+ is not (a .*)", r"\1 must be \2", message)
        return _one_line(message)
    kind = type(fields[match[1]]).__name__
    return _one_line(f"--config.{match[1]}={match[2]} must be of type {kind}")


def _entry(name: str, text: str) -> str:
    return textwrap.fill(f"  {name}  {_one_line(text)}", 88, subsequent_indent=6 * " ")


def print_result(text: str) -> None:
    """Prints what the program was asked for.

    Raises:
      SystemExit: standard output has lost its reader; nothing is said.
      ConfigError: it is full.
    """
    try:
        tolerant(sys.stdout).write_or_fail(f"{text}\n")
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        raise ConfigError(f"standard output: {error.strerror}") from error


def explain(error: Exception) -> str:
    """A user error, or a file that cannot be used, in one line."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return _one_line(f"{place}{error.strerror}")
    return _one_line(error)


def _print_error(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
