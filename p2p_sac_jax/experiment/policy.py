"""Loads a trained policy: one store, one observation, one price."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.arguments import numbers
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import from_dict
from p2p_sac_jax.demand.base import Posterior
from p2p_sac_jax.environments import pricing
from p2p_sac_jax.experiment.build import Experiment, build_experiment
from p2p_sac_jax.experiment.checkpoint import Checkpoints
from p2p_sac_jax.experiment.devices import Placement
from p2p_sac_jax.experiment.input_files import digests, read_inputs, run_identity
from p2p_sac_jax.files import load_json, user_path
from p2p_sac_jax.hyper import Hyper
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.peer.behaviour import candidates_of, greedy_policy
from p2p_sac_jax.peer.context import PeerComponents, make_peer_components
from p2p_sac_jax.peer.model_rollouts import model_blend_weight
from p2p_sac_jax.types import Array, Candidates

THOMPSON_DRAWS = 1024
BAND = (0.05, 0.95)  # quantiles ``low`` and ``high`` of the best price


class PriceAdvice(NamedTuple):
    """A price relative to the store's usual one, with a band of the best price."""

    price: float  # what the learned policy charges
    low: float  # .05 quantile of the best price, by the store's own posterior
    high: float  # .95 quantile


class PriceRegion(NamedTuple):
    """A range of prices worth trying, by the store's own demand posterior."""

    low: float  # relative to the usual price
    high: float
    probability: float  # that this price is the best
    mean: float  # expected profit of the week, over a usual week's
    std: float  # its posterior standard deviation


class Policy:
    """The greedy policy of one trained store."""

    def __init__(
        self,
        experiment: Experiment,
        state: PeerState,
        hyper: Hyper,
        peer: int,
        run: int,
    ) -> None:
        """Holds the state of ``peer`` in ``run``, leaves without those axes."""
        _, seed = experiment.labels[run]
        self.name = experiment.worlds[seed].names[peer]
        components = make_peer_components(experiment.config, experiment.environment)
        params = experiment.params(peer, run)
        self._observation_dim = components.environment.observation_dim
        share = model_blend_weight(hyper.memory, state.steps, state.normalised_error)
        self._advise = jax.jit(partial(_advise, components, state, share, params))
        self._regions = jax.jit(partial(_regions, components, state, params))

    def price(self, observation: np.ndarray) -> PriceAdvice:
        """The price for one observed week.

        Args:
          observation: [11] as ``p2p_sac_jax.observation`` makes it.

        Raises:
          ConfigError: the observation has another shape or is not finite.
        """
        return PriceAdvice(*self._advise(self._check(observation)).tolist())

    def promising_regions(self, observation: np.ndarray) -> list[PriceRegion]:
        """The most likely best prices of one observed week, best first.

        Args:
          observation: [11] as ``p2p_sac_jax.observation`` makes it.

        Raises:
          ConfigError: the observation has another shape or is not finite.
        """
        rows = self._regions(self._check(observation)).tolist()
        return [PriceRegion(*row) for row in rows]

    def _check(self, observation: np.ndarray) -> np.ndarray:
        return numbers("observation", observation, (self._observation_dim,))


def _belief_and_candidates(
    components: PeerComponents, state: PeerState, params: Any, obs: Array
) -> tuple[Posterior, Candidates]:
    """The store's own demand posterior, and the prices it can choose."""
    memory = components.memory
    belief = memory.posterior(state.memory, memory.base_prior.prior)
    return belief, candidates_of(components, obs, params)


def _advise(
    components: PeerComponents, state: PeerState, share: Array, params: Any, obs: Array
) -> Array:
    """[3] price, low, high."""
    belief, candidates = _belief_and_candidates(components, state, params, obs)
    best = components.memory.draw_actions(
        belief, candidates, jax.random.key(0), THOMPSON_DRAWS
    )
    band = jnp.quantile(best, jnp.array(BAND), axis=0)
    greedy = greedy_policy(components, state.learner, state.belief, share, params)(obs)
    return jax.vmap(pricing.action_price)(jnp.concatenate([greedy[None], band]))


def _regions(
    components: PeerComponents, state: PeerState, params: Any, obs: Array
) -> Array:
    """[M, 5] rows of ``PriceRegion``."""
    belief, candidates = _belief_and_candidates(components, state, params, obs)
    found = components.memory.promising_regions(belief, candidates, jax.random.key(0))
    edges = [jax.vmap(pricing.action_price)(edge) for edge in (found.lo, found.hi)]
    return jnp.stack([*edges, found.probability, found.mean, found.std], axis=1)


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
    workdir = user_path(workdir, "workdir")
    run = load_json(workdir / "run.json")
    config = _check_config(workdir, from_dict(run.get("config", {})))
    placement = Placement("vmap", None, config.population.peers, 0)
    inputs = read_inputs(config, workdir, run.get("inputs", {}))
    experiment = build_experiment(config, placement, inputs=inputs)
    label = arm, config.seed if seed is None else seed
    if label not in experiment.labels:
        known = ", ".join(
            f"{name} at seed {number}" for name, number in experiment.labels
        )
        raise ConfigError(f"arm={arm!r}, seed={label[1]} must be one of: {known}")
    if not 0 <= peer < config.population.peers:
        raise ConfigError(f"peer={peer} must be in [0, {config.population.peers})")
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"workdir={str(workdir)!r} holds no checkpoint yet")
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"workdir={str(workdir)!r} holds no checkpoint yet")
    identity = run_identity(config, digests(inputs))
    checkpoints = Checkpoints(workdir, config.population.peers, identity, reading=True)
    try:
        shapes = jax.eval_shape(
            experiment.population.init, experiment.peer_inputs, experiment.run_inputs
        )
        restored = checkpoints.restore(shapes)
    finally:
        checkpoints.close()
    if restored is None:
        raise ConfigError(f"workdir={str(workdir)!r} holds no checkpoint yet")
    index = experiment.labels.index(label)
    mine = jax.tree.map(lambda leaf: leaf[peer, index], restored.state)
    hyper = jax.tree.map(lambda leaf: leaf[index], experiment.run_inputs.hyper)
    return Policy(experiment, mine, hyper, peer, index)


def _check_config(workdir: Path, config: TrainConfig) -> TrainConfig:
    if config.environment.name != "pricing" or config.memory.kind != "demand":
        raise ConfigError(
            f"workdir={str(workdir)!r} holds a run of"
            f" environment.name={config.environment.name!r} with"
            f" memory.kind={config.memory.kind!r}; prices need 'pricing' and 'demand'"
        )
    return config
