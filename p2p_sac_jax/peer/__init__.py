"""One peer: environment, replay, price memory, learner and message.

Every function takes the peer's ``PeerComponents`` first. ``make_message``,
``peer_round`` and ``pretrain`` get a state without its replay, which may be far larger
than all the rest: ``sample_observations`` and ``presample`` read from it before, and
``RoundReplay.commit`` writes to it after.
"""

from p2p_sac_jax.peer.context import PeerComponents, RoundContext, make_peer_components
from p2p_sac_jax.peer.evaluate import Evaluation
from p2p_sac_jax.peer.message import ReplaySample
from p2p_sac_jax.peer.state import PeerState
from p2p_sac_jax.peer.step import PeerMetrics

__all__ = [
    "Evaluation",
    "PeerComponents",
    "PeerMetrics",
    "PeerState",
    "ReplaySample",
    "RoundContext",
    "make_peer_components",
]
