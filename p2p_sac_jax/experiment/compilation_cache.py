"""The persistent compilation cache, which makes the second start quick."""

from __future__ import annotations

import os
from pathlib import Path

import jax

_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def cache_folder() -> Path | None:
    """Where compiled programs are kept: ``$JAX_COMPILATION_CACHE_DIR`` if set.

    Otherwise ``p2p_sac_jax`` in the user's cache folder; safe to remove at any time.
    None for a user without a home folder.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return Path(jax.config.values["jax_compilation_cache_dir"])
    if _VARIABLE in os.environ:
        return Path(os.environ[_VARIABLE])
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # neither $HOME nor an entry in the list of users
        return None
    return Path(base) / "p2p_sac_jax"


def cache_words() -> str:
    """Where compiled programs are kept, in words."""
    folder = cache_folder()
    return "not kept: no home folder" if folder is None else f"kept in {folder}"


def use_compilation_cache() -> None:
    """Turns the cache on, unless JAX is configured with one already."""
    folder = cache_folder()
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
