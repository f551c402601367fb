"""Presets: Python files with ``get_config()``, found by name or by path.

The shipped ones are the package ``p2p_sac_jax.configs``, in a clone a link to its
folder ``configs``.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import suggestion
from p2p_sac_jax.files import user_path

FOLDER = Path(__file__).parents[1] / "configs"


class Preset(NamedTuple):
    """What a preset defines."""

    name: str  # of its file, without the suffix
    config: ConfigDict
    arms: dict[str, dict[str, Any]]  # ARMS of an ablation: arm -> fields that make it
    sweep: dict[str, list[Any]]  # SWEEP of an ablation: field -> values


def preset_names() -> list[str]:
    """Names of the shipped presets, such as ``pricing`` and ``ablations/headline``."""
    paths = (path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))
    names = (path.with_suffix("").as_posix() for path in paths)
    # arms.py holds what the ablations share.
    return sorted(name for name in names if not name.endswith(("__init__", "/arms")))


def load_preset(text: str) -> Preset:
    """Loads a preset.

    Args:
      text: path of a file, or name of a shipped preset: ``pricing``. The path that
        it has in a clone, ``configs/pricing.py``, works everywhere.

    Raises:
      ConfigError: there is none of that name, or it does not load.
    """
    path = _find(text)
    try:
        defined = runpy.run_path(str(path))
        config = defined["get_config"]()
        if not isinstance(config, ConfigDict):
            raise TypeError(f"get_config() returns no ConfigDict but {config!r}")
    except ConfigError:
        raise
    except Exception as error:  # the file is the user's own program
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"--config={text} does not load: {reason}") from error
    return Preset(path.stem, config, defined.get("ARMS", {}), defined.get("SWEEP", {}))


def _find(text: str) -> Path:
    path = user_path(text, "--config")
    if path.is_file():
        return path
    name = path.with_suffix("") if path.suffix == ".py" else path
    if name.parts[:1] == ("configs",):
        name = name.relative_to("configs")
    names = preset_names()
    if name.as_posix() in names:
        return FOLDER / f"{name}.py"
    near = suggestion(text, [*names, *map(str, path.parent.glob("[!_]*.py"))])
    raise ConfigError(
        f"--config={text} is neither a file nor a preset{near}; presets:"
        f" {', '.join(names)}"
    )
