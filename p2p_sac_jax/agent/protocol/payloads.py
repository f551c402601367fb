"""Payloads: what may be said in each mode, a type for each kind of message.

A field that a mode does not let out does not exist in its type: to send it is an error
at the sender, to receive it an error in decoding. Arrays travel flat, as little-endian
float32; their sizes are the receiver's to check, who knows what they should be.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from p2p_sac_jax.agent.protocol.envelope import (
    MAX_BYTES,
    Refusal,
    WireError,
    decode_canonical,
)
from p2p_sac_jax.config import ConfigError

MODEL, MARKET = KINDS = ("model_insight", "market_insight")
LARGEST = 1e9  # of any number, in magnitude
MAX_BODY_BYTES = MAX_BYTES - 512  # signature and the rest of the envelope: 400
_FLOAT = np.dtype("<f4")

Floats = bytes


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields by name; none has a default, none may be added."""


class PrivateModel(_Body, frozen=True):
    """``exchange.modes.PrivateMessage``, without demand."""

    state_value: Floats  # [K]
    action_value: Floats  # [K]
    entropy: Floats  # [K]
    confidence: Floats  # [K]
    timestamp: Floats  # [K]
    action_mean: Floats  # [K, A]
    action_std: Floats  # [K, A]
    count: Floats  # [K]
    valid: Floats  # [K]
    performance: Floats  # []


class PrivateMarket(_Body, frozen=True):
    """``types.DemandSummary``."""

    precision: Floats  # [F, F]
    shift: Floats  # [F]
    count: Floats  # []


class ConsortiumModel(_Body, frozen=True):
    """``exchange.modes.ConsortiumMessage``, without demand."""

    value: Floats  # [G]
    count: Floats  # [G]
    action_middle: Floats  # [G, A]
    action_half_width: Floats  # [G, A]
    entropy: Floats  # [K]
    time: Floats  # []


class ConsortiumMarket(_Body, frozen=True):
    """The demand of ``exchange.modes.ConsortiumMessage``."""

    mean: Floats  # [F]
    variance: Floats  # [F]
    known: Floats  # []


class PublicModel(_Body, frozen=True):
    """``exchange.modes.PublicMessage``, without demand: no action has a field."""

    trend: Floats  # [K]
    entropy: Floats  # []
    time: Floats  # []


class PublicMarket(_Body, frozen=True):
    """The demand of ``exchange.modes.PublicMessage``."""

    mean: Floats  # [F]
    known: Floats  # []


BODIES: dict[tuple[str, str], type[_Body]] = {
    ("private", MODEL): PrivateModel,
    ("private", MARKET): PrivateMarket,
    ("consortium", MODEL): ConsortiumModel,
    ("consortium", MARKET): ConsortiumMarket,
    ("public", MODEL): PublicModel,
    ("public", MARKET): PublicMarket,
}
_encoder = msgspec.msgpack.Encoder()
_decoders = {key: msgspec.msgpack.Decoder(body) for key, body in BODIES.items()}


def check_kind(kind: str) -> None:
    """Accepts a kind of message that exists.

    Raises:
      ConfigError: it does not.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r} must be one of: {', '.join(KINDS)}")


def encode_body(mode: str, kind: str, fields: Mapping[str, np.ndarray]) -> bytes:
    """Writes the body of a message.

    Args:
      mode: of the network.
      kind: of the message.
      fields: real arrays of any shape, by name.

    Raises:
      ConfigError: there is no such mode or kind, or it has other fields, or they are
        too large for a message.
      WireError: ``bad_number``: receivers would refuse a number.
    """
    check_kind(kind)
    body = BODIES.get((mode, kind))
    if body is None:
        modes = ", ".join(dict.fromkeys(mode for mode, _ in BODIES))
        raise ConfigError(f"mode={mode!r} must be one of: {modes}")
    names = body.__struct_fields__
    if set(fields) != set(names):
        raise ConfigError(
            f"fields of {kind}={', '.join(sorted(fields))} must be, in mode {mode}:"
            f" {', '.join(names)}"
        )
    arrays = {name: np.asarray(fields[name], np.float64) for name in names}
    for name, array in arrays.items():
        _check_numbers(name, array)
    packed = {name: array.astype(_FLOAT).tobytes() for name, array in arrays.items()}
    encoded = _encoder.encode(body(**packed))
    if len(encoded) > MAX_BODY_BYTES:
        raise ConfigError(
            f"{kind}={len(encoded)} bytes must be at most {MAX_BODY_BYTES}: it takes a"
            " smaller codebook"
        )
    return encoded


def decode_body(mode: str, kind: str, body: bytes) -> dict[str, np.ndarray]:
    """Reads the body of a message.

    Args:
      mode: of the network.
      kind: that the envelope names, whatever it is.
      body: bytes that nobody has looked at.

    Returns:
      Flat float32 arrays by name, read-only; every number finite.

    Raises:
      WireError: ``wrong_kind``, ``bad_body``, ``not_canonical`` or ``bad_number``.
    """
    decoder = _decoders.get((mode, kind))
    if decoder is None:
        raise WireError(Refusal.wrong_kind, repr(kind))
    packed = decode_canonical(decoder, body, Refusal.bad_body)
    fields = {}
    for name in packed.__struct_fields__:
        values = getattr(packed, name)
        if len(values) % _FLOAT.itemsize:
            raise WireError(Refusal.bad_body, f"{name} has {len(values)} bytes")
        fields[name] = np.frombuffer(values, _FLOAT)
        _check_numbers(name, fields[name])
    return fields


def _check_numbers(name: str, values: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        usable = bool(np.all(np.abs(values) <= LARGEST))  # False for NaN
    if not usable:
        raise WireError(
            Refusal.bad_number, f"{name}: numbers must be finite, within {LARGEST:g}"
        )
