"""Messages of a peer with a valid certificate that every receiver must refuse."""

from __future__ import annotations

import random
import time
from collections import Counter, deque

import msgspec
import numpy as np

from p2p_sac_jax.agent.ops.identity import Identity, Roster
from p2p_sac_jax.agent.protocol.envelope import (
    DOMAIN,
    MAX_BYTES,
    SIGNATURE_BYTES,
    Envelope,
    sign,
)
from p2p_sac_jax.agent.protocol.payloads import BODIES, encode_body
from tests.helpers.signed_messages import KINDS_OF_BODY

KIND = "market_insight"


class Byzantine:
    """Byzantine messages of a member of the roster, by kind in turn.

    Args:
      identity: its key signs them.
      roster: of the network.
      first: an honest message of the same peer, to be replayed.
      epoch: of the first.
      seed: of what is drawn.
    """

    def __init__(
        self, identity: Identity, roster: Roster, first: bytes, epoch: int, seed: int
    ) -> None:
        self.sent: Counter[str] = Counter()
        self.captured: deque[bytes] = deque([first], maxlen=64)  # of the honest
        self._identity, self._roster = identity, roster
        self._first, self._epoch = first, epoch
        self._sequence = 1
        self._draws = random.Random(seed)
        self._others = [name for name in roster.keys if name != identity.name]
        self._turn = 0

    def next(self) -> bytes:
        """The next message."""
        kind = _KINDS[self._turn % len(_KINDS)]
        self._turn += 1
        self.sent[kind] += 1
        return getattr(self, f"_{kind}")()

    def _garbage(self) -> bytes:
        return self._draws.randbytes(self._draws.randrange(400))

    def _oversize(self) -> bytes:
        return self._draws.randbytes(MAX_BYTES + 1)

    def _forged_sender(self) -> bytes:
        return self._sign(sender=self._draws.choice(self._others))

    def _stranger(self) -> bytes:
        return self._sign(sender="unknown")

    def _replay(self) -> bytes:
        return self._first

    def _replay_of_another(self) -> bytes:
        return self._draws.choice(self.captured)

    def _altered(self) -> bytes:
        raw = bytearray(self._draws.choice(self.captured))
        raw[self._draws.randrange(len(raw))] ^= 1 << self._draws.randrange(8)
        return bytes(raw)

    def _stale_epoch(self) -> bytes:
        return self._sign(epoch=self._epoch - 1000)

    def _future_time(self) -> bytes:
        return self._sign(time_ms=int(time.time() * 1000) + 3_600_000)

    def _not_finite(self) -> bytes:
        number = self._draws.choice((np.nan, np.inf, -np.inf, 1e30))
        floats = np.full(16, number, "<f4").tobytes()
        body = BODIES[self._roster.mode, KIND](floats, floats, floats[:4])
        return self._sign(body=msgspec.msgpack.encode(body))

    def _wrong_mode(self) -> bytes:
        mode, kind = self._draws.choice(
            [pair for pair in KINDS_OF_BODY if pair[0] != self._roster.mode]
        )
        names = BODIES[mode, kind].__struct_fields__
        fields = {name: np.ones(3, np.float32) for name in names}
        return self._sign(mode=mode, kind=kind, body=encode_body(mode, kind, fields))

    def _body_of_another_mode(self) -> bytes:
        fields = {"mean": np.ones(3, np.float32), "known": np.ones(1, np.float32)}
        return self._sign(body=encode_body("public", KIND, fields))

    def _wrong_network(self) -> bytes:
        return self._sign(network="elsewhere")

    def _bad_signature(self) -> bytes:
        raw = self._sign()
        return self._draws.randbytes(SIGNATURE_BYTES) + raw[SIGNATURE_BYTES:]

    def _not_canonical(self) -> bytes:
        encoded = self._sign()[SIGNATURE_BYTES:]
        longer = encoded[:1] + b"\xcc" + encoded[1:]  # the version as a longer integer
        signed = self._identity.signing_key.sign(DOMAIN + longer)
        return signed.signature + longer

    def _sign(self, **changes: object) -> bytes:
        self._sequence += 1
        fields = {name: np.full(16, 666.0, np.float32) for name in ("mean", "variance")}
        fields["known"] = np.ones(1, np.float32)
        values = {
            "version": 1,
            "network": self._roster.network,
            "mode": self._roster.mode,
            "kind": KIND,
            "sender": self._identity.name,
            "epoch": self._epoch,
            "sequence": self._sequence,
            "time_ms": int(time.time() * 1000),
            "body": b"",
        }
        if "body" not in changes:
            values["body"] = encode_body(self._roster.mode, KIND, fields)
        return sign(Envelope(**(values | changes)), self._identity.signing_key)


_KINDS = [
    name[1:]
    for name in vars(Byzantine)
    if name.startswith("_") and not name.startswith("__") and name != "_sign"
]
