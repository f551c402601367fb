"""One peer: the bracket around environment, replay, memory, learner and insight."""

from p2p_sac_jax.peer.pipeline import (
    Evaluation,
    Peer,
    PeerMetrics,
    PeerState,
    make_peer,
)
from p2p_sac_jax.peer.rooms import Situation
from p2p_sac_jax.peer.speaking import Past

__all__ = [
    "Evaluation",
    "Past",
    "Peer",
    "PeerMetrics",
    "PeerState",
    "Situation",
    "make_peer",
]
