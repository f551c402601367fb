"""The deployable peer: one process on a real network.

Names load on first use, so importing the package starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.price_history import PriceHistory
    from p2p_sac_jax.agent.price_memory import P2PPriceMemory
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.transport.in_process import Hub, in_process_network

_MODULE_OF = {
    "Hub": "transport.in_process",
    "P2PPriceMemory": "price_memory",
    "P2PSACAgent": "agent",
    "PeerNetwork": "protocol.peer_network",
    "PriceHistory": "price_history",
    "in_process_network": "transport.in_process",
}

__all__ = [
    "Hub",
    "P2PPriceMemory",
    "P2PSACAgent",
    "PeerNetwork",
    "PriceHistory",
    "in_process_network",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
