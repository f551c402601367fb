"""A byzantine peer with a valid certificate, for demonstrations and tests.

    python -m examples.byzantine_peer --identity=DIR --listen=HOST:PORT
                                      --connect=HOST:PORT,...

It answers every message with its negation, ten times as large, and sends bytes that no
correct peer sends. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

if TYPE_CHECKING:
    from p2p_sac_jax.agent.protocol.base import Delivery

PROGRAM = Program(__doc__)
_IDENTITY = PROGRAM.string("identity", "", "folder of its identity")
_LISTEN = PROGRAM.strings("listen", "HOST:PORT to accept peers at")
_CONNECT = PROGRAM.strings("connect", "HOST:PORT of other peers, separated by commas")
_PER_S = PROGRAM.number("per_s", 50.0, "invalid messages a second")
_SCALE = -10.0
_KINDS = 6  # of invalid bytes, see ``_invalid_bytes``


@PROGRAM.main
def main() -> None:
    """Attacks until it is stopped."""
    if not _IDENTITY.value:
        raise ConfigError("--identity is missing")
    asyncio.run(_attack())


async def _attack() -> None:
    from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
    from p2p_sac_jax.agent.protocol.payloads import KINDS
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport

    folder = _IDENTITY.value
    identity, roster = load_identity(folder), load_roster(folder)
    transport = ZenohTransport(folder, listen=_LISTEN.value, connect=_CONNECT.value)
    network = PeerNetwork(transport, identity, roster)

    async def negate(delivery: Delivery) -> None:
        fields = {name: _SCALE * np.asarray(x) for name, x in delivery.fields.items()}
        await network.broadcast(delivery.kind, fields)

    for kind in KINDS:
        network.register_message_handler(kind, negate)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await network.connect()
    rng, invalid = random.Random(0), 0
    while not stop.is_set():
        transport.publish(_invalid_bytes(rng, invalid % _KINDS, identity, roster))
        invalid += 1
        await asyncio.sleep(1.0 / _PER_S.value)
    sent = network.status().counters.sent
    await network.disconnect()
    line = {"event": "stopped", "sent": sent, "invalid": invalid}
    print(json.dumps(line), file=sys.stderr)


def _invalid_bytes(rng: random.Random, kind: int, identity: Any, roster: Any) -> bytes:
    """Bytes to be refused: random, too long, forged, repeated, dated ahead, stale."""
    from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES, VERSION, Envelope, sign

    if kind == 0:
        return rng.randbytes(200)
    if kind == 1:
        return rng.randbytes(MAX_BYTES + 1)
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
        body=rng.randbytes(40),
    )
    return sign(envelope, identity.signing_key)


if __name__ == "__main__":
    main()
