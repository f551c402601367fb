"""Honest and byzantine peers of one process, on a hub with faults."""

import asyncio
import functools
import heapq
import random
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


class FaultyHub(Hub):
    """A hub that loses, delays and separates; all drawn from a seed.

    Args:
      loss: probability that a message, query or reply is lost.
      delay_s: largest travel time of a message; each draws its own.
    """

    max_in_flight = 65_536  # messages to one peer

    def __init__(self, peers, mode, *, loss=0.0, delay_s=0.0, seed=0):
        super().__init__(peers, mode)
        self.loss, self.delay_s = loss, delay_s
        self._random = random.Random(seed)
        self._flight, self._in_flight, self._order = [], Counter(), 0
        self._group, self._delivering = {}, False

    def advance(self, seconds):
        """Advances time, and delivers what arrives meanwhile, in order."""
        if self._delivering:  # a handler that sends: the caller below delivers
            return
        end_s, self._delivering = self._now_s + seconds, True
        try:
            while self._flight and self._flight[0][0] <= end_s:
                due_s, _, source, target, raw = heapq.heappop(self._flight)
                self._in_flight[target] -= 1
                self._now_s = max(self._now_s, due_s)
                transport = self._open.get(target)
                if transport is not None and self._linked(source, target):
                    transport.receive(source, raw)
        finally:
            self._delivering = False
        self._now_s = end_s

    def partition(self, *groups):
        """Separates groups of peers; those in no group form another one."""
        self._group = {name: number for number, g in enumerate(groups) for name in g}

    def _linked(self, one, other):
        return self._group.get(one, -1) == self._group.get(other, -1)

    def _lost(self):
        return self._random.random() < self.loss

    def others(self, name):
        return [t for t in super().others(name) if self._linked(name, t.name)]

    def send(self, source, raw):
        targets = self.others(source)
        for target in targets:
            due_s = self._now_s + self._random.uniform(0.0, self.delay_s)
            if self._lost():
                continue
            if self._in_flight[target.name] >= self.max_in_flight:
                target.dropped += 1
                continue
            self._in_flight[target.name] += 1
            self._order += 1
            heapq.heappush(self._flight, (due_s, self._order, source, target.name, raw))
        self.advance(0.0)
        return bool(targets)

    def query(self, source, peer, raw):
        replies = [] if self._lost() else super().query(source, peer, raw)
        return [reply for reply in replies if not self._lost()]


def hub_of(count=3, **options):
    return FaultyHub([f"peer{number}" for number in range(count)], "public", **options)


class Recorder:
    """Deliveries to one peer, over all its starts."""

    def __init__(self):
        self.received = []

    def __call__(self, delivery):
        self.received.append(delivery)

    def keys(self):
        return Counter((d.sender, d.epoch, d.sequence) for d in self.received)

    def sequences(self, sender):
        return [d.sequence for d in self.received if d.sender == sender]


async def peer(hub, name, recorder=None, **options):
    network = in_process_network(hub, name, **options)
    if recorder is not None:
        network.register_message_handler(KIND, recorder)
    await network.connect()
    return network


async def peers_of(hub, **options):
    recorders = {name: Recorder() for name in hub.roster.keys}
    networks = {
        name: await peer(hub, name, recorder, **options)
        for name, recorder in recorders.items()
    }
    return networks, recorders


async def outsider(hub, name):
    """A transport without a protocol above it."""
    transport = InProcessTransport(hub, name)
    await transport.open(lambda source, raw: None, lambda source, raw: [])
    return transport


def forge(hub, sender, signer=None, **changes):
    values = {
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
    return sign(Envelope(**(values | changes)), signing_key)


def run(test):
    """A coroutine test, as a plain one."""

    @functools.wraps(test)
    def plain(*arguments, **keywords):
        asyncio.run(test(*arguments, **keywords))

    return plain
