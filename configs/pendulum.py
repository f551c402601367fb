"""Control task: four learners swing up the same pendulum."""

from __future__ import annotations

from ml_collections import ConfigDict

from p2p_sac_jax.configs import pricing


def get_config() -> ConfigDict:
    """Plain SAC beside networked SAC, one update per step."""
    config = pricing.get_config()
    config.steps = 8_000
    config.evaluate_every = 1_000
    config.checkpoint_every = 4_000
    config.evaluation_weeks = 200  # one episode
    config.arms = "plain,network"
    config.environment.name = "pendulum"
    config.environment.seconds_per_step = 0.05
    config.population.peers = 4
    config.sac.batch_size = 128
    config.sac.learning_rate = 1e-3
    config.sac.learning_rate_half_life = 0.0
    config.sac.initial_alpha = 0.1
    config.sac.discount = 0.98
    config.sac.updates_per_step = 1
    config.sac.replay_capacity = 8_000
    config.sac.learning_starts = 500
    config.sac.warmup = 32  # as in the arm plain: the arms differ in the exchange alone
    config.memory.kind = "none"  # there is no demand
    config.exploration.source = "policy"
    config.exchange.interval = 200
    config.exchange.network_weight = 0.3
    config.exchange.recency_tau_s = 86_400.0
    return config
