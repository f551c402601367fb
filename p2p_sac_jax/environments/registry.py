"""Environments by name: those shipped, and a user's own.

To ship an environment, write a file with an ``EnvironmentFactory`` and add one line to
``ENVIRONMENTS``. One's own needs no edit here: ``environment.name`` may be
``module:factory``, and ``own_environment`` enters one that a program made itself.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, NamedTuple, NoReturn

import numpy as np

from p2p_sac_jax.config import ConfigError, EnvironmentConfig, PopulationConfig
from p2p_sac_jax.environments.base import Environment, EnvironmentFactory, PeerDraw
from p2p_sac_jax.environments.control import LQR, PENDULUM
from p2p_sac_jax.environments.pricing import PRICING
from p2p_sac_jax.fields import refuse

ENVIRONMENTS: dict[str, EnvironmentFactory] = {
    "pricing": PRICING,
    "pendulum": PENDULUM,
    "lqr": LQR,
}
_FIELD = "environment.name"
_own: dict[str, EnvironmentFactory] = {}  # entered by the running program
_LIBRARIES = {"p2p_sac_jax", "jax", "jaxlib", "numpy", *sys.stdlib_module_names}


class World(NamedTuple):
    """One environment and the peers that act in it."""

    environment: Environment
    params: Any  # [P, ...] NumPy leaves
    names: list[str]  # P, label of each peer in reports
    context: np.ndarray  # [P, C] public descriptors of each peer, standardised


def make_world(
    config: EnvironmentConfig, population: PopulationConfig, seed: int = 0
) -> World:
    """Builds the environment and draws the peers' parameters.

    Args:
      config: of the environment.
      population: of the peers.
      seed: draws the population if ``population.draw`` is ``random``; otherwise it is
        the same at every seed.

    Raises:
      ConfigError: the environment is unknown, or the population cannot be drawn.
    """
    if not population.drawn_by_seed:
        seed = 0
    factory = environment_factory(config.name)
    try:
        draw = factory.draw_peers(config, population, seed)
    except ConfigError:
        raise
    except Exception as error:  # the user's own program
        if config.name in ENVIRONMENTS:
            raise
        _refuse(config.name, "cannot draw its peers", error)
    return World(make_environment(config), *draw)


def make_environment(config: EnvironmentConfig) -> Environment:
    """The environment that a configuration names.

    Raises:
      ConfigError: there is none, it does not load, or it is no ``Environment``.
    """
    factory = environment_factory(config.name)
    if config.name in ENVIRONMENTS:
        return factory.make(config)
    try:
        environment = factory.make(config)
    except Exception as error:  # the user's own program
        _refuse(config.name, "does not load", error)
    if not isinstance(environment, Environment):
        reason = f"makes no Environment but {type(environment).__name__}"
        refuse(_FIELD, config.name, reason)
    return environment


def environment_factory(name: str) -> EnvironmentFactory:
    """The factory of an environment.

    Args:
      name: of a shipped environment, or ``module:factory``: an
        ``EnvironmentFactory``, or, where peers have no parameters, an ``Environment``
        or a function from an ``EnvironmentConfig`` to one.

    Raises:
      ConfigError: there is none of that name, or it does not load.
    """
    for known in (ENVIRONMENTS, _own):
        if name in known:
            return known[name]
    module, colon, leaf = name.partition(":")
    if not colon:
        allowed = f"{', '.join(ENVIRONMENTS)}, or module:factory"
        refuse(_FIELD, name, f"must be one of {allowed}")
    if leaf.startswith("<"):
        reason = "was made by a program and has no name to load it by"
        refuse(_FIELD, name, f"{reason}; pass environment=... to train")
    try:
        found = getattr(importlib.import_module(module), leaf)
    except Exception as error:  # the user's own program
        _refuse(name, "does not load", error)
    if isinstance(found, EnvironmentFactory):
        return found
    if isinstance(found, Environment):
        return _always(found)
    if not callable(found):
        reason = f"must be a function or an EnvironmentFactory, not {found!r:.80}"
        refuse(_FIELD, name, reason)
    make: Any = found
    return EnvironmentFactory(make, _peers_without_parameters)


def own_environment(given: Environment | EnvironmentFactory) -> str:
    """Enters a user's own environment for the time of this program.

    Args:
      given: the environment; peers that differ in parameters need a factory.

    Returns:
      The name by which a configuration finds it: ``module:NAME`` where the module
      that defines its function binds it to a name, so that other programs find it
      too; else ``module:<function>``, which no other program can load.

    Raises:
      ConfigError: it is neither.
    """
    if isinstance(given, Environment):
        factory, source = _always(given), given.step
    elif isinstance(given, EnvironmentFactory):
        factory, source = given, given.make
    else:
        reason = "must be an Environment or an EnvironmentFactory"
        raise ConfigError(f"environment={type(given).__name__} {reason}")
    module = getattr(source, "__module__", "unknown")
    function = getattr(source, "__qualname__", type(source).__name__)
    # Another program has another __main__.
    bound = {} if module == "__main__" else vars(sys.modules.get(module, object))
    names = (name for name, value in bound.items() if value is given)
    name = f"{module}:{next(names, f'<{function}>')}"
    _own[name] = factory
    return name


def user_line(error: Exception) -> str:
    """Where a user's own code failed: `` (FILE, line N)``, or empty outside of it."""
    frames = [
        f" ({frame.f_code.co_filename}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES
    ]
    return frames[-1] if frames else ""


def _always(environment: Environment) -> EnvironmentFactory:
    return EnvironmentFactory(lambda _: environment, _peers_without_parameters)


def _peers_without_parameters(
    config: EnvironmentConfig, population: PopulationConfig, seed: int
) -> PeerDraw:
    """Peers that differ by their random draws alone."""
    del config, seed
    peers = population.peers
    names = [f"peer {peer}" for peer in range(peers)]
    return PeerDraw((), names, np.zeros((peers, 1), np.float32))


def _refuse(name: str, what: str, error: Exception) -> NoReturn:
    reason = " ".join(str(error).split()) + user_line(error)
    raise ConfigError(
        f"{_FIELD}={name!r} {what}: {type(error).__name__}: {reason}"
    ) from error
