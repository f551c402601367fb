"""The wire: a versioned envelope, its one encoding, and the signature over it.

A sealed message is the Ed25519 signature, 64 bytes, and then the envelope in
MessagePack. An envelope has exactly one encoding: what was read is written again and
has to be the same bytes, so that neither two readers nor two libraries can take one
message for two. The signature covers a prefix that no other use of the key shares.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

VERSION = 1
MAX_BYTES = 65_536  # of a sealed message
FUTURE_MS = 30_000  # a clock may be this far ahead
LAST = 2**62 - 1  # beyond every sequence number
SIGNATURE_BYTES = 64
DOMAIN = b"p2p_sac_jax/insight/1\0"

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=2**62)]
Number = Annotated[int, Meta(ge=1, le=LAST)]
Sequence = Annotated[int, Meta(ge=1, lt=LAST)]
T = TypeVar("T")


class Refusal(StrEnum):
    """Why a message is not taken; the whole list, so that counters are bounded."""

    oversize = "oversize"
    garbage = "garbage"  # not an envelope
    not_canonical = "not_canonical"  # not the one encoding of what it says
    wrong_version = "wrong_version"
    wrong_network = "wrong_network"
    wrong_mode = "wrong_mode"
    wrong_kind = "wrong_kind"
    unknown_sender = "unknown_sender"  # not in the roster
    wrong_source = "wrong_source"  # handed over by another peer than it names
    echo = "echo"  # own message
    rate = "rate"
    stale_epoch = "stale_epoch"  # from before the sender's last start
    replay = "replay"
    future = "future"
    bad_body = "bad_body"  # other fields than the mode lets out
    bad_number = "bad_number"  # not finite, or too large
    bad_signature = "bad_signature"
    busy = "busy"  # handlers lag behind; pulled later
    receipt_log = "receipt_log"  # could not be written down; pulled later
    shape = "shape"  # arrays of other sizes than the receiver's
    content = "content"  # a handler had another reason


class WireError(Exception):
    """A message that is not taken: the one exception that reading raises."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason


class Envelope(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True
):
    """Who says something, where, when and in which order; ``body`` is what."""

    version: Count
    network: Name
    mode: Name
    kind: Name
    sender: Name
    epoch: Count  # ms, the sender's start; larger at every start
    sequence: Sequence  # 1, 2, ... within the epoch
    time_ms: Count  # the sender's clock
    body: bytes


class Sealed(NamedTuple):
    """A message as it was read; its signature is not checked yet."""

    envelope: Envelope
    signed: bytes  # what the signature covers
    signature: bytes  # 64 bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def seal(envelope: Envelope, signing_key: SigningKey) -> bytes:
    """Signs an envelope.

    Raises:
      WireError: it takes more than ``MAX_BYTES``.
    """
    encoded = _encoder.encode(envelope)
    if SIGNATURE_BYTES + len(encoded) > MAX_BYTES:
        raise WireError(Refusal.oversize, f"{len(encoded)} bytes to sign")
    return signing_key.sign(DOMAIN + encoded).signature + encoded


def open_sealed(raw: bytes) -> Sealed:
    """Reads a message: size, strict parse, version, the one encoding.

    Raises:
      WireError: it is none. The signature is NOT checked: see ``verify``.
    """
    if len(raw) > MAX_BYTES:
        raise WireError(Refusal.oversize, f"{len(raw)} bytes")
    signature, encoded = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    envelope = decode_canonical(_decoder, encoded, Refusal.garbage)
    if envelope.version != VERSION:
        raise WireError(Refusal.wrong_version, str(envelope.version))
    return Sealed(envelope, DOMAIN + encoded, signature)


def verify(sealed: Sealed, key: VerifyKey) -> None:
    """Checks that the owner of ``key`` signed.

    Raises:
      WireError: that is not so.
    """
    try:
        key.verify(sealed.signed, sealed.signature)
    except (BadSignatureError, ValueError) as error:
        raise WireError(Refusal.bad_signature) from error


def decode_canonical(
    decoder: msgspec.msgpack.Decoder[T], encoded: bytes, otherwise: Refusal
) -> T:
    """Decodes bytes that are the one encoding of a type's value.

    msgspec alone takes repeated keys, integers for floats and wasteful lengths.

    Raises:
      WireError: ``otherwise`` if they say something else, ``not_canonical`` if they
        say it in another way.
    """
    try:
        value = decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(otherwise, str(error)) from error
    if _encoder.encode(value) != encoded:
        raise WireError(Refusal.not_canonical)
    return value
