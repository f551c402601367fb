"""Demand curves at the end of training: estimated by every store, and true."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.demand import posterior as demand
from p2p_sac_jax.environments import pricing_model as model
from p2p_sac_jax.experiment import distributed
from p2p_sac_jax.experiment.build import Experiment
from p2p_sac_jax.peer import PeerState
from p2p_sac_jax.types import Array, Prior

NUM_PRICES = 41
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
    config = experiment.config
    seller = experiment.world.environment.demand
    if seller is None or config.memory.kind != "demand":
        return []
    low, high = model.price_range()
    price = np.linspace(low, high, NUM_PRICES, dtype=np.float32)
    features = np.zeros((NUM_PRICES, seller.num_features), np.float32)
    features[:, 0] = 1.0
    features[:, 1] = 1.0 - price
    if features.shape[1] > 5:
        features[:, 2] = 1.0 - price
    prior = demand.base_prior(features.shape[1])

    @jax.jit
    def curves(memory: Any, market: Any, params: Any) -> tuple[Array, Array, Array]:
        over_runs = jax.vmap(_curve, (0, 0, None, None, None, None))
        return jax.vmap(over_runs, (0, 0, 0, None, None, None))(
            memory, market, params, prior, features, price
        )

    known = state.memory, state.environment.market, experiment.peer_inputs.params
    believed, std, true = jax.device_get(curves(*distributed.gather(known)))

    def rounded(values: np.ndarray) -> list[float]:
        return np.round(values, 5).tolist()

    return [
        {
            "run": arm,
            "seed": seed,
            "peer": peer,
            "name": name,
            "price": rounded(price),
            "believed": rounded(np.exp(believed[peer, run])),
            "low": rounded(np.exp(believed[peer, run] - BAND_STD * std[peer, run])),
            "high": rounded(np.exp(believed[peer, run] + BAND_STD * std[peer, run])),
            "true": rounded(true[peer, run]),
        }
        for run, (arm, seed) in enumerate(experiment.labels)
        for peer, name in enumerate(experiment.world.names)
    ]


def _curve(
    memory: Any,
    market: model.Market,
    params: Any,
    prior: Prior,
    features: Array,
    price: Array,
) -> tuple[Array, Array, Array]:
    belief = demand.posterior(memory, prior)
    std = jnp.sqrt(jnp.sum((features @ belief.factor) ** 2, axis=-1))
    usual = params._replace(
        season_amplitude=jnp.zeros(()), sensitivity_swing=jnp.zeros(())
    )
    plain = market._replace(log_cost=jnp.zeros(()), log_rival=jnp.zeros(()))
    share = jax.vmap(model.expected_share, (None, None, 0, None))(
        plain, jnp.ones(()), price, usual
    )
    return features @ belief.mean, std, share / model.USUAL_SHARE
