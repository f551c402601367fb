"""One peer: the bracket around environment, replay, memory, learner and insight."""

from p2p_sac_jax.peer.components import RoundContext
from p2p_sac_jax.peer.message import ReplaySample
from p2p_sac_jax.peer.pipeline import (
    Evaluation,
    Peer,
    PeerMetrics,
    PeerState,
    make_peer,
)

__all__ = [
    "Evaluation",
    "Peer",
    "PeerMetrics",
    "PeerState",
    "ReplaySample",
    "RoundContext",
    "make_peer",
]
