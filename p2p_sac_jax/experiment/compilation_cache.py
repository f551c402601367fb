"""The persistent compilation cache: the second start of a program is quick."""

from __future__ import annotations

import os
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def cache_folder() -> Path:
    """Where compiled programs are kept: ``$JAX_COMPILATION_CACHE_DIR`` if set.

    Otherwise ``p2p_sac_jax`` in the user's cache folder; safe to remove at any time.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return Path(jax.config.values["jax_compilation_cache_dir"])
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "p2p_sac_jax"


def use_compilation_cache() -> None:
    """Turns the cache on, unless the caller has already chosen one."""
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
