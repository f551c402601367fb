"""What has to fit together in one peer."""

from __future__ import annotations

import math

from p2p_sac_jax.arms import arm_names
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.environments.registry import make_environment
from p2p_sac_jax.fields import refuse
from p2p_sac_jax.peer.context import make_memory


def check(config: TrainConfig) -> None:
    """Refuses a behaviour, a learner or a replay that the peer cannot have.

    Raises:
      ConfigError: the first setting that does not fit.
    """
    kind, exploration, learner = config.memory.kind, config.exploration, config.learner
    if exploration.source == "memory" and kind == "none":
        reason = "must be policy or fixed with memory.kind='none'"
        refuse("exploration.source", exploration.source, reason)
    if exploration.std_min > exploration.std_max:
        reason = f"must be at most exploration.std_max={exploration.std_max}"
        refuse("exploration.std_min", exploration.std_min, reason)
    environment = make_environment(config.environment)
    if learner != "sac" and make_memory(kind, environment).model is None:
        reason = f"must be 'sac' with memory.kind={kind!r}: it predicts no demand"
        refuse("learner", learner, reason)
    if learner != "sac" and "plain" in arm_names(config):
        reason = f"must leave out plain with learner={learner!r}: there is no SAC in it"
        refuse("arms", config.arms, reason)
    most = environment.action_dim * math.log(2.0)
    if learner == "sac" and config.sac.target_entropy >= most:
        reason = f"must be below {most:.3f} nats, which no policy on [-1, 1] exceeds:"
        refuse(
            "sac.target_entropy",
            config.sac.target_entropy,
            f"{reason} the temperature would grow for ever",
        )
    capacity, interval = config.sac.replay_capacity, config.exchange.interval
    if 0 < capacity < interval:
        reason = f"must be 0, or at least exchange.interval={interval}"
        refuse("sac.replay_capacity", capacity, reason)
    rows = config.population.peers * (capacity or config.steps) + interval
    if config.sac.replay == "pooled" and rows >= 2**31:
        reason = f"must be 'own' with more than {2**31 - 1} transitions in all"
        refuse("sac.replay", config.sac.replay, reason)
