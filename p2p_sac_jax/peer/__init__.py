"""One peer: environment, replay, price memory, learner and message."""

from p2p_sac_jax.peer.context import RoundContext
from p2p_sac_jax.peer.evaluate import Evaluation
from p2p_sac_jax.peer.message import ReplaySample
from p2p_sac_jax.peer.peer import Peer, make_peer
from p2p_sac_jax.peer.state import PeerState
from p2p_sac_jax.peer.step import PeerMetrics

__all__ = [
    "Evaluation",
    "Peer",
    "PeerMetrics",
    "PeerState",
    "ReplaySample",
    "RoundContext",
    "make_peer",
]
