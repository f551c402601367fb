"""Signed messages, honest and mutated, for the tests of the protocol."""

from __future__ import annotations

import random

import msgspec
import numpy as np
from nacl.signing import SigningKey

from p2p_sac_jax.agent.ops.identity import Identity, make_roster
from p2p_sac_jax.agent.protocol.admission import Admission, RateLimiter
from p2p_sac_jax.agent.protocol.envelope import DOMAIN, SIGNATURE_BYTES, Envelope, sign
from p2p_sac_jax.agent.protocol.payloads import BODIES, encode_body
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog

NOW_S = 1.7e9
NOW_MS = int(NOW_S * 1000)
NAMES = ("ada", "bob", "cyd")
IDENTITIES = {
    name: Identity(name, SigningKey(bytes([number + 1]) * 32))
    for number, name in enumerate(NAMES)
}
KINDS_OF_BODY = sorted(BODIES)


def roster(mode="public", network="shops"):
    return make_roster(network, mode, IDENTITIES.values())


def admission(mode="public", sets=None, burst=1e9, now=lambda: NOW_S):
    """The admission of bob, on the given sequence sets."""
    receipts = ReceiptLog(None, clock=now)
    receipts.received = {} if sets is None else sets
    rate = RateLimiter(NAMES, 10.0, burst, now)
    return Admission("bob", roster(mode), receipts, rate, now)


def fields(mode="public", kind="model_insight", seed=0):
    rng = np.random.default_rng(seed)
    names = BODIES[mode, kind].__struct_fields__
    return {name: rng.normal(size=3).astype(np.float32) for name in names}


def envelope(mode="public", kind="model_insight", seed=0, **changes):
    """An honest message of ada, up to ``changes``."""
    if "body" not in changes:
        changes["body"] = encode_body(mode, kind, fields(mode, kind, seed))
    values = {
        "version": 1,
        "network": "shops",
        "mode": mode,
        "kind": kind,
        "sender": "ada",
        "epoch": NOW_MS - 1000,
        "sequence": 1,
        "time_ms": NOW_MS,
    }
    return Envelope(**(values | changes))


def signed_message(signer="ada", **changes):
    return sign(envelope(**changes), IDENTITIES[signer].signing_key)


def signed(encoded, signer="ada"):
    """A valid signature over any bytes at all."""
    key = IDENTITIES[signer].signing_key
    return key.sign(DOMAIN + encoded).signature + encoded


def honest(*modes, seed=0):
    """One honest message of each kind and of each mode, or of those named."""
    return [
        signed_message(mode=mode, kind=kind, seed=seed, sequence=seed + 1)
        for mode, kind in KINDS_OF_BODY
        if not modes or mode in modes
    ]


def mutate(draw: random.Random, messages: list[bytes]) -> bytes:
    """One of ``messages`` with something changed, by chance; never one of them."""
    while True:
        raw = draw.choice(_MUTATIONS)(draw, draw.choice(messages), messages)
        if raw not in messages:
            return raw


def _flip(draw, raw, messages):
    changed = bytearray(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        changed[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set(draw, raw, messages):
    """Bytes that mean something in MessagePack or in floats."""
    changed = bytearray(raw)
    special = bytes.fromhex("007f808f909fa0bfc0c1c4c6cacbcfd9dcff")
    changed[draw.randrange(len(raw))] = draw.choice(special)
    return bytes(changed)


def _widen(draw, raw, messages):
    """A byte as MessagePack's longer integer."""
    place = draw.randrange(SIGNATURE_BYTES, len(raw))
    return raw[:place] + b"\xcc" + raw[place:]


def _cut(draw, raw, messages):
    first, last = sorted((draw.randrange(len(raw)), draw.randrange(len(raw) + 1)))
    return raw[:first] + raw[last:]


def _insert(draw, raw, messages):
    place = draw.randrange(len(raw) + 1)
    return raw[:place] + draw.randbytes(draw.choice((1, 2, 4, 64))) + raw[place:]


def _repeat(draw, raw, messages):
    first, last = sorted((draw.randrange(len(raw)), draw.randrange(len(raw) + 1)))
    return raw[:last] + raw[first:last] + raw[last:]


def _splice(draw, raw, messages):
    other = draw.choice(messages)
    return raw[: draw.randrange(len(raw))] + other[draw.randrange(len(other)) :]


def _signature_of_another(draw, raw, messages):
    return draw.choice(messages)[:SIGNATURE_BYTES] + raw[SIGNATURE_BYTES:]


def _field(draw, raw, messages):
    """A well-formed message with another content, under the old signature."""
    sent = msgspec.msgpack.decode(raw[SIGNATURE_BYTES:])
    place = draw.randrange(len(sent))
    sent[place] = draw.choice(
        (0, 1, -1, 1.5, None, True, "bob", "private", b"", [], {}, 2**63, NOW_MS + 1)
    )
    return raw[:SIGNATURE_BYTES] + msgspec.msgpack.encode(sent)


def _noise(draw, raw, messages):
    return draw.randbytes(draw.randrange(2 * len(raw)))


_MUTATIONS = (
    _flip,
    _flip,
    _set,
    _widen,
    _cut,
    _insert,
    _repeat,
    _splice,
    _signature_of_another,
    _field,
    _noise,
)
