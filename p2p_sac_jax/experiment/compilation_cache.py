"""The persistent compilation cache, which makes the second start quick."""

from __future__ import annotations

import os
from pathlib import Path

import jax

_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def cache_folder() -> Path:
    """Where compiled programs are kept: ``$JAX_COMPILATION_CACHE_DIR`` if set.

    Otherwise ``p2p_sac_jax`` in the user's cache folder; safe to remove at any time.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return Path(jax.config.values["jax_compilation_cache_dir"])
    if _VARIABLE in os.environ:
        return Path(os.environ[_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "p2p_sac_jax"


def use_compilation_cache() -> None:
    """Turns the cache on, unless JAX is configured with one already."""
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
