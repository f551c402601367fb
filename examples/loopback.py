"""Peers on loopback: free ports, and networks that find each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p_sac_jax.config import ConfigError

if TYPE_CHECKING:
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork


def free_ports(count: int) -> list[int]:
    """Distinct unused ports of loopback."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def free_addresses(names: Sequence[str]) -> dict[str, str]:
    """HOST:PORT of each name, free at this moment."""
    ports = free_ports(len(names))
    return {n: f"127.0.0.1:{port}" for n, port in zip(names, ports, strict=True)}


def make_network(
    identity: Path, addresses: Mapping[str, str], connect: Iterable[str], **options: Any
) -> PeerNetwork:
    """The network of one peer, not yet connected.

    Args:
      identity: folder of its identity.
      addresses: HOST:PORT of every peer by name; it listens at its own.
      connect: names of the peers that it connects to.
      **options: of ``PeerNetwork``.
    """
    from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport

    own, others = load_identity(identity), [addresses[name] for name in connect]
    transport = ZenohTransport(identity, listen=[addresses[own.name]], connect=others)
    return PeerNetwork(transport, own, load_roster(identity), **options)


async def connect_all(
    networks: Iterable[PeerNetwork], others: int, timeout_s: float = 60.0
) -> None:
    """Connects, and waits until every peer sees ``others`` others.

    Raises:
      ConfigError: they do not find each other in time.
    """
    networks = list(networks)
    for network in networks:
        await network.connect()
    try:
        async with asyncio.timeout(timeout_s):
            while any(len(network.status().peers) < others for network in networks):
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ConfigError("peers on loopback did not find each other") from error
