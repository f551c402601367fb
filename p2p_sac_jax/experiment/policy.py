"""A trained policy as a user needs it: one store, one observation, one price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.environments import pricing
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.experiment.setup import Setup, make_setup
from p2p_sac_jax.memory.demand import base_prior, posterior
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.peer.rooms import make_rooms

THOMPSON_DRAWS = 1024
BAND = (0.05, 0.95)  # quantiles of the best price that ``low`` and ``high`` report


class PriceAdvice(NamedTuple):
    """A price relative to the store's usual one, and how sure the store can be."""

    price: float  # what the learned policy charges
    low: float  # the best price lies above this with probability .95 ...
    high: float  # ... and below this with probability .95, by the store's own weeks


class Policy:
    """The greedy policy of one trained store."""

    def __init__(self, setup: Setup, state: PeerState, peer: int) -> None:
        """Holds the state of ``peer``, leaves without peer and run axes."""
        self.name = setup.world.names[peer]
        self._rooms = make_rooms(setup.config, setup.world.environment)
        self._state = state
        self._params = jax.tree.map(lambda leaf: leaf[peer], setup.members.params)
        self._advise = jax.jit(self._advice)

    def price(self, observation: np.ndarray) -> PriceAdvice:
        """The price for one observed week.

        Args:
          observation: [11] as ``p2p_sac_jax.observation`` makes it.

        Raises:
          ConfigError: the observation has another shape or is not finite.
        """
        obs = np.asarray(observation, np.float32)
        dim = self._rooms.environment.observation_dim
        if obs.shape != (dim,) or not np.isfinite(obs).all():
            raise ConfigError(
                f"observation of shape {obs.shape} must be {dim} finite numbers"
            )
        return PriceAdvice(*(float(value) for value in self._advise(obs)))

    def _advice(self, obs: jax.Array) -> jax.Array:
        """[3] price, low, high."""
        rooms, state = self._rooms, self._state
        action = rooms.sac.mode(state.learner, obs)
        candidates = rooms.world_model.candidates(obs, self._params)
        features = rooms.world_model.num_features
        belief = posterior(state.memory, base_prior(features))
        noise = jax.random.normal(jax.random.key(0), (THOMPSON_DRAWS, features))
        draws = jnp.expand_dims(belief.mean, 0) + noise @ belief.factor.T
        worth = jnp.expand_dims(candidates.gain, 0) * jnp.exp(
            draws @ candidates.features.T
        )
        best = candidates.actions[jnp.argmax(worth, axis=1)]
        low, high = jnp.quantile(best[:, 0], jnp.array(BAND))
        return jax.vmap(pricing.action_price)(
            jnp.stack([action[0], low, high])[:, None]
        )


def load_policy(
    workdir: str | Path, peer: int = 0, arm: str = "network", seed: int | None = None
) -> Policy:
    """The policy that one store has learned so far in a run of the market.

    Args:
      workdir: folder of the run, finished or not.
      peer: number of the store.
      arm: one of the run's arms.
      seed: one of the run's seeds; the first by default.

    Raises:
      ConfigError: the folder holds no such policy.
    """
    workdir = Path(workdir)
    config = _read_config(workdir)
    setup = make_setup(config, Placement("vmap", None, config.population.peers))
    label = arm, config.seed if seed is None else seed
    if label not in setup.labels:
        known = ", ".join(f"{name} at seed {number}" for name, number in setup.labels)
        raise ConfigError(f"arm={arm!r}, seed={label[1]} must be one of: {known}")
    if not 0 <= peer < config.population.peers:
        raise ConfigError(f"peer={peer} must be in [0, {config.population.peers})")
    checkpoints = Checkpoints(workdir, config.population.peers)
    try:
        step = checkpoints.latest()
        if step is None:
            raise ConfigError(f"workdir={str(workdir)!r} holds no checkpoint yet")
        shapes = jax.eval_shape(setup.population.init, setup.members, setup.runs)
        state = checkpoints.load(step, shapes)
    finally:
        checkpoints.close()
    run = setup.labels.index(label)
    mine = jax.tree.map(lambda leaf: jnp.asarray(leaf[peer, run]), state)
    return Policy(setup, mine, peer)


def _read_config(workdir: Path) -> TrainConfig:
    try:
        run: dict[str, Any] = json.loads((workdir / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"workdir={str(workdir)!r} holds no run ({error})") from error
    config = from_dict(run["config"])
    if config.environment.name != "pricing" or config.memory.kind != "demand":
        raise ConfigError(
            f"workdir={str(workdir)!r} holds a run of"
            f" environment.name={config.environment.name!r} with"
            f" memory.kind={config.memory.kind!r}; prices need 'pricing' and 'demand'"
        )
    return config
