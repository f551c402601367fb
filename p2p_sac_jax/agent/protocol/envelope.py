"""The message format: a versioned envelope, its one encoding, and its signature.

A signed message is an Ed25519 signature, 64 bytes, followed by the envelope in
MessagePack. An envelope has exactly one encoding: a decoded envelope is encoded again
and must give the same bytes, so that no two readers take one message for two. The
signature covers a prefix that no other use of the key shares.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalError

VERSION = 1
MAX_BYTES = 65_536  # of a signed message
FUTURE_MS = 30_000  # by which a sender's clock may be ahead
LAST = 2**62 - 1  # beyond every sequence number
SIGNATURE_BYTES = 64
DOMAIN = b"p2p_sac_jax/insight/1\0"

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=2**62)]
Number = Annotated[int, Meta(ge=1, le=LAST)]
Sequence = Annotated[int, Meta(ge=1, lt=LAST)]
T = TypeVar("T")


class Envelope(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True
):
    """Sender, network, time and order of a message, and its encoded ``body``."""

    version: Count
    network: Name
    mode: Name
    kind: Name
    sender: Name
    epoch: Count  # ms, the sender's start; larger at every start
    sequence: Sequence  # 1, 2, ... within the epoch
    time_ms: Count  # the sender's clock
    body: bytes


class SignedMessage(NamedTuple):
    """A parsed message; its signature is not verified yet."""

    envelope: Envelope
    signed: bytes  # covered by the signature
    signature: bytes  # 64 bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def sign(envelope: Envelope, signing_key: SigningKey) -> bytes:
    """Encodes and signs an envelope.

    Raises:
      RefusalError: the message is larger than ``MAX_BYTES``.
    """
    encoded = _encoder.encode(envelope)
    if SIGNATURE_BYTES + len(encoded) > MAX_BYTES:
        raise RefusalError(Refusal.oversize, f"{len(encoded)} bytes to sign")
    return signing_key.sign(DOMAIN + encoded).signature + encoded


def parse_signed(raw: bytes) -> SignedMessage:
    """Parses a message: size, types, version and canonical encoding.

    Raises:
      RefusalError: it is malformed. The signature is NOT checked: see ``verify``.
    """
    if len(raw) > MAX_BYTES:
        raise RefusalError(Refusal.oversize, f"{len(raw)} bytes")
    signature, encoded = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    envelope = decode_canonical(_decoder, encoded, Refusal.garbage)
    if envelope.version != VERSION:
        raise RefusalError(Refusal.wrong_version, str(envelope.version))
    return SignedMessage(envelope, DOMAIN + encoded, signature)


def verify(message: SignedMessage, key: VerifyKey) -> None:
    """Checks that the owner of ``key`` signed a message.

    Raises:
      RefusalError: the signature does not match.
    """
    try:
        key.verify(message.signed, message.signature)
    except (BadSignatureError, ValueError) as error:
        raise RefusalError(Refusal.bad_signature) from error


def decode_canonical(
    decoder: msgspec.msgpack.Decoder[T], encoded: bytes, otherwise: Refusal
) -> T:
    """Decodes the canonical encoding of a value.

    msgspec alone accepts repeated keys, integers for floats and overlong lengths.

    Raises:
      RefusalError: ``otherwise`` if the bytes do not decode, ``not_canonical`` if the
        value has another encoding.
    """
    try:
        value = decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(otherwise, str(error)) from error
    if _encoder.encode(value) != encoded:
        raise RefusalError(Refusal.not_canonical)
    return value
