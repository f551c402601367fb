"""A peer with a valid certificate that lies: for demonstrations and tests alone.

    python -m examples.byzantine_peer --identity=DIR --listen=HOST:PORT --connect=HOST:PORT,...

It tells everybody the opposite of what it hears, ten times as loud, and sends bytes
that no honest peer sends. Ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from typing import Any

import numpy as np

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

PROGRAM = Program(__doc__)
_IDENTITY = PROGRAM.string("identity", "", "folder of its identity")
_LISTEN = PROGRAM.strings("listen", "HOST:PORT to accept peers at")
_CONNECT = PROGRAM.strings("connect", "HOST:PORT of its victims, by comma")
_PER_S = PROGRAM.number("per_s", 50.0, "hostile messages a second")
_LOUD = 10.0
_KINDS = 6  # of hostile bytes, see ``_byzantine``


@PROGRAM.main
def main() -> None:
    """Lies until it is told to stop."""
    if not _IDENTITY.value:
        raise ConfigError("--identity is missing")
    asyncio.run(_lie())


async def _lie() -> None:
    from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
    from p2p_sac_jax.agent.protocol.base import Delivery
    from p2p_sac_jax.agent.protocol.payloads import KINDS
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport

    folder = _IDENTITY.value
    identity, roster = load_identity(folder), load_roster(folder)
    transport = ZenohTransport(folder, listen=_LISTEN.value, connect=_CONNECT.value)
    network = PeerNetwork(transport, identity, roster)

    async def contradict(heard: Delivery) -> None:
        opposite = {name: -_LOUD * np.asarray(x) for name, x in heard.fields.items()}
        await network.broadcast(heard.kind, opposite)

    for kind in KINDS:
        network.register_message_handler(kind, contradict)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await network.connect()
    draws, sent = random.Random(0), 0
    while not stop.is_set():
        transport.publish(_byzantine(draws, sent % _KINDS, identity, roster))
        sent += 1
        await asyncio.sleep(1.0 / _PER_S.value)
    lies = network.status().counters.sent
    await network.disconnect()
    line = {"event": "stopped", "sent": lies, "byzantine": sent}
    print(json.dumps(line), file=sys.stderr)


def _byzantine(draws: random.Random, kind: int, identity: Any, roster: Any) -> bytes:
    """Bytes that must be refused: garbage, oversize, forged, replayed, ahead, stale."""
    from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES, VERSION, Envelope, sign

    if kind == 0:
        return draws.randbytes(200)
    if kind == 1:
        return draws.randbytes(MAX_BYTES + 1)
    now = int(time.time() * 1000)
    other = next(name for name in roster.keys if name != identity.name)
    envelope = Envelope(
        version=VERSION,
        network=roster.network,
        mode=roster.mode,
        kind="model_insight",
        sender=other if kind == 2 else identity.name,
        epoch=1 if kind == 5 else now,
        sequence=1,
        time_ms=now + (3_600_000 if kind == 4 else 0),
        body=draws.randbytes(40),
    )
    return sign(envelope, identity.signing_key)


if __name__ == "__main__":
    main()
