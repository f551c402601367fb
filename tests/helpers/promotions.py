"""A market of seven demand coefficients: the pricing market and two controls.

Each week has a promotion and a weather index, both standard normal and observed after
the eleven numbers of the market. They multiply demand, so the best price is that of the
market.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import CoefficientSpec
from p2p_sac_jax.environments.base import DemandModel, Environment
from p2p_sac_jax.environments.observation import OBSERVATION_DIM, clip_log_sales
from p2p_sac_jax.environments.registry import World, make_world

EFFECTS = np.array([0.4, -0.25], np.float32)  # on log demand
CONTROLS = (
    CoefficientSpec("promotion", 0.0, 0.5, 0.02, 0.01, -2.0, 2.0, 0.5, 1.0),
    CoefficientSpec("weather", 0.0, 0.5, 0.02, 0.01, -2.0, 2.0, 0.5, 1.0),
)


class PromotionState(NamedTuple):
    """The market's state, and the controls of this week."""

    market: Any
    controls: Any  # [2]


def promotion_world(config) -> World:
    """The population of ``config`` in this market."""
    world = make_world(config.environment, config.population)
    return world._replace(environment=make_promotions(world.environment))


def make_promotions(base: Environment) -> Environment:
    """The market ``base`` with controls, its prices and parameters unchanged."""
    demand = base.demand
    assert demand is not None

    def market(obs):
        return obs[:OBSERVATION_DIM]

    def with_controls(obs, controls):
        return jnp.concatenate([obs, controls])

    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, 7), (2,))

    def reset(key, params):
        state, obs = base.reset(key, params)
        controls = draw(key)
        return PromotionState(state, controls), with_controls(obs, controls)

    def step(key, state, action, params):
        result = base.step(key, state.market, action, params)
        effect = EFFECTS @ state.controls
        factor, controls = jnp.exp(effect), draw(key)
        info = result.info._replace(
            units=factor * result.info.units,
            log_sales=effect + result.info.log_sales,
            expected_profit=factor * result.info.expected_profit,
            oracle_profit=factor * result.info.oracle_profit,
            historical_profit=factor * result.info.historical_profit,
        )
        shown = jnp.stack([0.5 * clip_log_sales(info.log_sales)])
        obs = result.obs.at[6:7].set(shown).at[8].set(factor * result.reward)
        obs = with_controls(obs, controls)
        return result._replace(
            state=PromotionState(result.state, controls),
            obs=obs,
            final_obs=obs,
            reward=factor * result.reward,
            info=info,
        )

    def features(obs, action):
        return with_controls(
            demand.features(market(obs), action), obs[OBSERVATION_DIM:]
        )

    def candidates(obs, params):
        found = demand.candidates(market(obs), params)
        rows = jax.vmap(features, (None, 0))(obs, found.actions)
        return found._replace(features=rows)

    def counterfactual(transition, action, log_demand, expected, params):
        inner = transition._replace(
            obs=market(transition.obs), next_obs=market(transition.next_obs)
        )
        week = demand.counterfactual(inner, action, log_demand, expected, params)
        following = with_controls(week.next_obs, transition.next_obs[OBSERVATION_DIM:])
        return week._replace(obs=transition.obs, next_obs=following)

    def exogenous(key, params):
        week, none = demand.exogenous(key, params), jnp.zeros(2)
        return week._replace(
            obs=with_controls(week.obs, none),
            next_obs=with_controls(week.next_obs, none),
        )

    return base._replace(
        reset=reset,
        step=step,
        cell=lambda obs: base.cell(market(obs)),
        observation_dim=OBSERVATION_DIM + 2,
        demand=DemandModel(
            coefficients=demand.coefficients + CONTROLS,
            features=features,
            outcome=demand.outcome,
            candidates=candidates,
            counterfactual=counterfactual,
            exogenous=exogenous,
            store_params=demand.store_params,
        ),
    )
