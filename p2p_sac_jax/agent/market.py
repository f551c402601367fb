"""The market interface of a deployed peer, and the simulated market.

A market of your own needs the attributes and the two methods of ``MarketInterface``;
``launch.run_peer --market=MODULE:FACTORY`` uses it in place of the simulated one.
``docs/own_market.md`` has an example.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from p2p_sac_jax.agent.protocol.delivery import in_thread
from p2p_sac_jax.agent.settings import named_environment
from p2p_sac_jax.arguments import missing, number
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.base import Environment, TimeStep
from p2p_sac_jax.environments.registry import make_world
from p2p_sac_jax.peer.context import MARKET, RESET, stream
from p2p_sac_jax.types import Array, Score

_log = logging.getLogger(__name__)


class MarketError(Exception):
    """A market of the user's own has a fault; the cause is what it raised.

    Args:
      where: the function that failed.
      cause: what it raised.
    """

    def __init__(self, where: str, cause: Exception) -> None:
        super().__init__(f"{where} failed: {' '.join(repr(cause).split())}")


class MarketOutcome(NamedTuple):
    """Result of one step. NaN is what is not known; see ``P2PSACAgent.observe``."""

    observation: NDArray[np.float32]  # [D] of the next step
    reward: float
    terminated: bool  # whether the value of the future is 0
    log_sales: float  # ln(units / usual units), ln 0 too; 0 without a demand model
    metrics: Mapping[str, float]  # figures for the log alone, such as price and units
    # [A] really taken, where rules changed it; beyond +-1 is a price that no action
    # names. None: the one asked for
    charged: NDArray[np.float32] | None = None


class MarketInterface(Protocol):
    """A market that an agent acts in, step by step.

    ``reset`` and ``step`` may be coroutines and may take as long as a week; otherwise
    they run in a thread. A step is abandoned when the peer has to stop.
    """

    # None: that of the configuration where sizes agree; else nothing is known of it
    environment: Environment | None
    # of ``environment`` for this store: ``environments.own_store.store_params``, or ()
    params: Any
    observation_dim: int
    action_dim: int

    def reset(self, clock: int) -> NDArray[np.float32]:
        """The observation [D] of step ``clock``, at the first and after a stop."""
        ...

    def step(self, action: NDArray[np.float32], clock: int) -> MarketOutcome:
        """The result of ``action`` [A] in [-1, 1] at step ``clock``."""
        ...


def check_market(market: Any, name: str) -> None:
    """Checks what can be seen of a market before its first step.

    Raises:
      ConfigError: attributes are missing or of another kind; all are named.
    """
    size = "a whole number above 0", lambda x: type(x) is int and x > 0
    needs: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "environment": (
            "an Environment or None",
            lambda x: x is None or isinstance(x, Environment),
        ),
        "params": ("of the environment, or ()", lambda _: True),
        "observation_dim": size,
        "action_dim": size,
        "reset": ("a function of the clock", callable),
        "step": ("a function of action and clock", callable),
    }
    wrong = [
        f"{need} ({allowed})"
        for need, (allowed, fits) in needs.items()
        if not hasattr(market, need) or not fits(getattr(market, need))
    ]
    if wrong:
        kind = type(market).__name__
        raise ConfigError(f"{name}: {kind} must have {', '.join(wrong)}")


async def reset_market(market: MarketInterface, clock: int) -> NDArray[np.float32]:
    """The market's observation [D] of step ``clock``.

    Raises:
      ConfigError: the market cannot be reached.
      MarketError: it has another fault.
    """
    try:
        return await _call(market.reset, clock)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"market.reset: {_reason(error)}") from error
    except Exception as error:
        raise MarketError("market.reset", error) from error


async def step_market(
    market: MarketInterface, action: NDArray[np.float32], clock: int
) -> MarketOutcome:
    """The outcome of an action; a passing fault costs no more than the step.

    A market that cannot be reached (``OSError``, timeouts among them), or that refuses
    its own figures (``ConfigError``), leaves a step of which nothing is known.

    Raises:
      ConfigError: what the market returned is no outcome.
      MarketError: the market has another fault.
    """
    try:
        outcome = await _call(market.step, action, clock)
    except (OSError, ConfigError) as error:
        data = {"clock": clock, "reason": _reason(error)}
        _log.warning("week of the market lost", extra={"data": data})
        unknown = np.full(market.observation_dim, np.nan, np.float32)
        return MarketOutcome(unknown, math.nan, False, math.nan, {})
    except Exception as error:
        raise MarketError("market.step", error) from error
    if not isinstance(outcome, MarketOutcome):
        kind = type(outcome).__name__
        raise ConfigError(f"market.step returned {kind}, must be a MarketOutcome")
    figures = outcome.metrics
    if not isinstance(figures, Mapping):
        raise ConfigError(f"market.step: metrics={figures!r} must be numbers by name")
    known = {
        name: number(f"market.step: metrics[{name!r}]", value)
        for name, value in figures.items()
        if not missing(value)
    }
    return outcome._replace(metrics=known)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """A market's result, which may take a week; other tasks run meanwhile."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await in_thread(function, *arguments)  # a stop must not wait for it


class SimulatedMarket:
    """The market of one store of the population that a configuration names.

    Its draws depend on ``config.seed``, the store and the clock alone, and are those
    of the same store in a simulated population.

    Args:
      config: ``environment``, ``population`` and ``seed`` are read.
      store: number of the store in the population.

    Raises:
      ConfigError: there is no such store.
    """

    def __init__(self, config: TrainConfig, store: int) -> None:
        peers = config.population.peers
        if not 0 <= store < peers:
            raise ConfigError(f"store={store} must be in [0, {peers})")
        world = make_world(config.environment, config.population, config.seed)
        self.name = world.names[store]
        self.environment = named_environment(config.environment)
        self.params = jax.tree.map(lambda leaf: leaf[store], world.params)
        self.observation_dim = world.environment.observation_dim
        self.action_dim = world.environment.action_dim
        self._reset, self._step = _market_programs(self.environment)
        self._key = jax.random.fold_in(jax.random.key(config.seed), store)
        self._state: Any = None

    def reset(self, clock: int) -> NDArray[np.float32]:
        """See ``MarketInterface``."""
        self._state, obs = self._reset(self._key, np.int32(clock), self.params)
        return np.asarray(obs)

    def step(self, action: NDArray[np.float32], clock: int) -> MarketOutcome:
        """See ``MarketInterface``."""
        action = np.asarray(action, np.float32)
        done, score, log_sales = self._step(
            self._key, np.int32(clock), self._state, action, self.params
        )
        self._state = done.state
        metrics = {}
        if self.environment.has_oracle:
            metrics = {name: float(x) for name, x in score._asdict().items()}
        if self.environment.demand is not None:
            metrics["units"] = math.exp(log_sales)
            metrics["price"] = float(done.info.price)
        return MarketOutcome(
            observation=np.asarray(done.obs),
            reward=float(done.reward),
            terminated=bool(done.terminated),
            log_sales=float(log_sales),
            metrics=metrics,
        )


@functools.cache
def _market_programs(environment: Environment) -> tuple[Callable, Callable]:
    """Reset and step, compiled once for all stores of an environment."""

    def reset(key: Array, clock: Array, params: Any) -> tuple[Any, Array]:
        return environment.reset(stream(key, RESET, clock), params)

    def step(
        key: Array, clock: Array, state: Any, action: Array, params: Any
    ) -> tuple[TimeStep, Score, Array]:
        done = environment.step(stream(key, MARKET, clock), state, action, params)
        demand = environment.demand
        log_sales = jnp.zeros(()) if demand is None else demand.outcome(done.info)
        return done, environment.score(done.info), log_sales

    return jax.jit(reset), jax.jit(step)
