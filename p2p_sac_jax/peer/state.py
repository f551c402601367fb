"""The state of one peer."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from p2p_sac_jax.exchange.send_policy import SendState
from p2p_sac_jax.peer.context import INIT, PeerComponents, stream
from p2p_sac_jax.peer.message import new_send_state
from p2p_sac_jax.sac.replay import Replay
from p2p_sac_jax.sac.sac import SacState
from p2p_sac_jax.types import Array


class PeerState(NamedTuple):
    """Everything one peer carries from step to step."""

    key: Array  # [] typed key, never consumed: streams are folded from it
    steps: Array  # [] int32 own real steps
    environment: Any
    obs: Array  # [D]
    learner: SacState
    replay: Replay  # None within ``make_message`` and ``peer_round``
    memory: Any
    # [] moving average of the memory's standardised squared error
    normalised_error: Array
    performance: Array  # [] moving average of rewards, from 0
    last_seen: Array  # [K] int32 clock step at which each cell was last visited
    visits: Array  # [K] int32 own real steps in each cell
    potential: Array  # [K] what shaping takes off own values; 0 in other modes
    send_state: SendState  # the messages it has sent
    channel: Any  # its messages under way in a simulated network; () without one
    belief: Any  # demand posterior after its last step; () without a demand memory
    trust: Array  # [J] trust in the senders; ``exchange`` alone reads and writes it


def init_state(
    components: PeerComponents, key: Array, environment: Any, obs: Array, trust: Array
) -> PeerState:
    """The state of a peer before its first step.

    Args:
      components: the peer's functions.
      key: [] typed key.
      environment: state of the environment.
      obs: [D] first observation.
      trust: [J] initial trust in the senders.
    """
    memory = components.memory.init()
    belief = ()
    if components.memory.model is not None:
        belief = components.memory.posterior(memory, components.memory.base_prior.prior)
    state = PeerState(
        key=key,
        steps=jnp.zeros((), jnp.int32),
        environment=environment,
        obs=obs,
        learner=components.sac.init(stream(key, INIT, 0)),
        replay=components.replay.init(),
        memory=memory,
        normalised_error=jnp.ones(()),
        performance=jnp.zeros(()),
        last_seen=jnp.zeros((components.num_cells,), jnp.int32),
        visits=jnp.zeros((components.num_cells,), jnp.int32),
        potential=jnp.zeros((components.num_cells,)),
        send_state=None,  # type: ignore[arg-type]
        channel=(),
        belief=belief,
        trust=trust,
    )
    return state._replace(send_state=new_send_state(components, state))
