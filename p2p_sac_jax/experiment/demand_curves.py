"""Demand curves at the end of training: estimated by every store, and true."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.peer.context import PeerComponents, make_peer_components
from p2p_sac_jax.types import Array

BAND_STD = 2.0  # half width of the band, in posterior standard deviations


def demand_curves(experiment: Experiment, state: PeerState) -> list[dict[str, Any]]:
    """Estimated and true demand curves of every peer and run, for ``stores.json``.

    Both hold in a week without season, at usual cost, rival price and reference
    price. The estimate is the peer's posterior under the base prior: it uses the
    peer's own weeks only.

    Args:
      experiment: names the runs and the peers.
      state: leaves [P, R, ...] at the end of training.

    Returns:
      One dict per store: price [N], and believed, low, high and true demand [N]
      relative to usual units. Empty without a demand memory or a market.
    """
    components = make_peer_components(experiment.config, experiment.environment)
    demand = components.environment.demand
    if components.memory.model is None or demand is None or demand.curve is None:
        return []
    drawn = 0 if experiment.config.population.drawn_by_seed else None
    over_runs = jax.vmap(partial(_curve, components), (0, 0, drawn))
    curves = jax.jit(jax.vmap(over_runs))
    known = state.memory, state.environment, experiment.peer_inputs.params
    price, believed, std, true = jax.device_get(curves(*distributed.gather(known)))

    def rounded(values: np.ndarray) -> list[float]:
        return np.round(values, 5).tolist()

    return [
        {
            "run": arm,
            "seed": seed,
            "peer": peer,
            "name": name,
            "price": rounded(price[peer, run]),
            "believed": rounded(np.exp(believed[peer, run])),
            "low": rounded(np.exp(believed[peer, run] - BAND_STD * std[peer, run])),
            "high": rounded(np.exp(believed[peer, run] + BAND_STD * std[peer, run])),
            "true": rounded(true[peer, run]),
        }
        for run, (arm, seed) in enumerate(experiment.labels)
        for peer, name in enumerate(experiment.worlds[seed].names)
    ]


def _curve(
    components: PeerComponents, memory: Any, state: Any, params: Any
) -> tuple[Array, Array, Array, Array]:
    """Price, believed mean and sd of log demand, and true demand, [N] each."""
    demand, model = components.environment.demand, components.memory.model
    if demand is None or demand.curve is None or model is None:
        raise TypeError("curves need a model of demand")
    curve = demand.curve(state, params)
    belief = components.memory.posterior(memory, components.memory.base_prior.prior)
    mean = model.mean_log_demand(belief, curve.features)
    std = model.std_log_demand(belief, curve.features)
    return curve.price, mean, std, curve.demand
