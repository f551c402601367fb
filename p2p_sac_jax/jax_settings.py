"""Settings of JAX that programs here need, whoever set them otherwise."""

from __future__ import annotations

import jax

from p2p_sac_jax.config import ConfigError, TrainConfig

# Setting, and the only value under which programs run, with the documented numbers.
_REQUIRED = {
    "jax_enable_x64": False,
    "jax_disable_jit": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}


def check(config: TrainConfig) -> None:
    """Refuses another value of a required setting; every other one is honoured.

    Raises:
      ConfigError: the first that differs.
    """
    del config
    for name, needed in _REQUIRED.items():
        found = getattr(jax.config, name)
        found = getattr(found, "value", found)  # of an enumeration
        if found != needed:
            raise ConfigError(
                f"{name.upper()}={found} must be {needed}: unset the variable, or call"
                f" jax.config.update({name!r}, {needed!r})"
            )
