"""One peer: the bracket around environment, replay, memory, learner and insight."""

from p2p_sac_jax.peer.pipeline import Peer, PeerMetrics, PeerState, make_peer

__all__ = ["Peer", "PeerMetrics", "PeerState", "make_peer"]
