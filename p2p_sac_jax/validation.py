"""Whether a configuration can run: every field by itself, then all together."""

from __future__ import annotations

from p2p_sac_jax.arms import arm_names
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.config_io import flatten, from_dict, to_dict
from p2p_sac_jax.fields import fields_of, refuse, resolve

# What has to fit together stands beside the feature: ``check(config)`` raises a
# ``ConfigError``. Refused is what would crash, silently compute something else than
# asked, or void a privacy claim; a setting that merely has no effect is allowed.
# Rules may load JAX, so they are named here and imported when needed.
RULES = (
    "jax_settings:check",
    "environments.rules:check",
    "peer.rules:check",
    "exchange.rules:check",
    "simulation.rules:check",
)


def validate(config: TrainConfig) -> None:
    """Accepts a configuration that can run.

    Args:
      config: the configuration, however it was made.

    Raises:
      ConfigError: the first thing wrong, on one line: field, value, what is
        allowed.
    """
    values = dict(flatten(to_dict(from_dict(to_dict(config)))))  # checks the types
    for field in fields_of(TrainConfig):
        field.check(values[field.name])
    _check_run(config)
    for rule in RULES:
        resolve(rule)(config)


def _check_run(config: TrainConfig) -> None:
    arm_names(config)
    chunk, interval = config.evaluate_every, config.exchange.interval
    for name, steps in (
        ("steps", config.steps),
        (
            "checkpoint_every",
            config.checkpoint_every,
        ),
    ):
        if steps % chunk:
            refuse(name, steps, f"must be a multiple of evaluate_every={chunk}")
    if chunk % interval:
        reason = f"must be a multiple of exchange.interval={interval}"
        refuse("evaluate_every", chunk, reason)
    last = 2**31 - config.seeds
    if config.seed > last:
        refuse("seed", config.seed, f"must be at most {last} with {config.seeds} seeds")
