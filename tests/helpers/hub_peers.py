"""Peers of one process, honest and hostile, for the tests of the network."""

import asyncio
import functools
from collections import Counter

import numpy as np

from p2p_sac_jax.agent.protocol.envelope import VERSION, Envelope, sign
from p2p_sac_jax.agent.protocol.payloads import encode_body
from p2p_sac_jax.agent.transport.in_process import (
    Hub,
    InProcessTransport,
    in_process_network,
)

KIND = "model_insight"
FIELDS = {"trend": np.ones(4), "entropy": 1.5, "time": 3.0}
BODY = encode_body("public", KIND, FIELDS)


def hub_of(count=3, **options):
    return Hub([f"peer{number}" for number in range(count)], "public", **options)


class Listener:
    """What one peer was delivered, over all its lives."""

    def __init__(self):
        self.heard = []

    def __call__(self, delivery):
        self.heard.append(delivery)

    def keys(self):
        return Counter((d.sender, d.epoch, d.sequence) for d in self.heard)

    def sequences(self, sender):
        return [d.sequence for d in self.heard if d.sender == sender]


async def peer(hub, name, listener=None, **options):
    network = in_process_network(hub, name, **options)
    if listener is not None:
        network.register_message_handler(KIND, listener)
    await network.connect()
    return network


async def peers_of(hub, **options):
    listeners = {name: Listener() for name in hub.roster.keys}
    networks = {
        name: await peer(hub, name, listener, **options)
        for name, listener in listeners.items()
    }
    return networks, listeners


async def outsider(hub, name):
    """A transport in hostile hands, answers included."""
    transport = InProcessTransport(hub, name)
    await transport.open(lambda source, raw: None, lambda source, raw: [])
    return transport


def forge(hub, sender, signer=None, **changes):
    told = {
        "version": VERSION,
        "network": hub.roster.network,
        "mode": hub.roster.mode,
        "kind": KIND,
        "sender": sender,
        "epoch": int(hub.now_s() * 1000) + 5,
        "sequence": 1,
        "time_ms": int(hub.now_s() * 1000),
        "body": BODY,
    }
    signing_key = hub.identities[signer or sender].signing_key
    return sign(Envelope(**(told | changes)), signing_key)


def run(test):
    """A coroutine test, as a plain one."""

    @functools.wraps(test)
    def plain(*arguments, **keywords):
        asyncio.run(test(*arguments, **keywords))

    return plain
