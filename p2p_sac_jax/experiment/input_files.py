"""The files that a run depends on: kept with the run, compared when it resumes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import flatten, to_dict
from p2p_sac_jax.files import user_path, write_atomic

FOLDER = "inputs"  # in the folder of a run
MATRIX = "exchange.matrix"
_ENVIRONMENT = "environment.name"
_TABLE = "environments/data/orange_juice.csv"
# Fields that may change between start and resume.
PLACEMENT_FIELDS = frozenset({"layout", "device", "devices", "on_divergence"})

Inputs = dict[str, bytes]  # content by what names the file


def input_paths(config: TrainConfig) -> dict[str, Path]:
    """The files that a run of ``config`` reads, by what names them.

    Raises:
      ConfigError: a path is impossible.
    """
    paths = {}
    if config.exchange.topology == "matrix":
        paths[MATRIX] = user_path(config.exchange.matrix, MATRIX)
    if config.environment.name == "pricing":
        paths[_TABLE] = Path(str(resources.files("p2p_sac_jax") / _TABLE))
    module, own, _ = config.environment.name.partition(":")
    # What has no file of its own, such as a notebook's code, cannot be compared.
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(module) if own else None
        if found is not None and found.has_location and found.origin:
            paths[_ENVIRONMENT] = Path(found.origin)
    return paths


def digests(inputs: Inputs) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        name: hashlib.sha256(content).hexdigest() for name, content in inputs.items()
    }


def read_inputs(
    config: TrainConfig,
    workdir: Path = Path(),
    recorded: Mapping[str, str] = MappingProxyType({}),
) -> Inputs:
    """The content of every file that a run depends on.

    Args:
      config: of the run.
      workdir: of the run, whose copy stands in for a file that has gone.
      recorded: digests at the start of the run; empty at its start.

    Raises:
      ConfigError: a file cannot be read, or is not what it was at the start.
    """
    inputs = {}
    for name, path in input_paths(config).items():
        kept = workdir / FOLDER / _kept_name(name, path)
        source = kept if name in recorded and not path.exists() else path
        try:
            inputs[name] = source.read_bytes()
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise ConfigError(f"{name}={str(path)!r} {reason}") from error
        if digests(inputs)[name] != recorded.get(name, digests(inputs)[name]):
            what = f"{name}={str(source)!r}"
            if name == _ENVIRONMENT:
                what = f"the module of {name} ({source})"
            raise ConfigError(
                f"{what} has changed since the run in"
                f" workdir={str(workdir)!r} began; {str(kept)!r} is a copy of what it"
                " was; restore it, choose another folder or add --overwrite"
            )
    return inputs


def keep_inputs(config: TrainConfig, workdir: Path, inputs: Inputs) -> None:
    """Writes a copy of every file into the folder of the run."""
    for name, path in input_paths(config).items():
        (workdir / FOLDER).mkdir(exist_ok=True)
        write_atomic(workdir / FOLDER / _kept_name(name, path), inputs[name])


def run_identity(config: TrainConfig, recorded: Mapping[str, str]) -> str:
    """Hash of everything that a run computes from, wherever it computes.

    Args:
      config: of the run.
      recorded: digests of its files.
    """
    fields = dict(flatten(to_dict(config)))
    content = {n: v for n, v in fields.items() if n not in PLACEMENT_FIELDS}
    text = json.dumps([content, dict(recorded)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _kept_name(name: str, path: Path) -> str:
    return path.name if "/" in name else name + path.suffix
