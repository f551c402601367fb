"""Payloads: the body of each kind of message in each mode, one type for each.

The types follow from the message types in ``exchange.messages.MODES``. A field that a
mode withholds does not exist in its type: sending it is an error at the sender,
receiving it an error in decoding. Arrays travel flat, as little-endian float32; the
receiver, which knows their sizes, checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_type_hints

import msgspec
import numpy as np

from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES, decode_canonical
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalError
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.messages import MODES

MODEL, MARKET = KINDS = ("model_insight", "market_insight")
LARGEST = 1e9  # of a number, in magnitude
LATEST_S = 1e15  # of a time, the same
TIMES = ("timestamp", "time")  # fields that hold times
MAX_BODY_BYTES = MAX_BYTES - 512  # signature and the rest of the envelope: 400
_FLOAT = np.dtype("<f4")


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields by name, without defaults; other fields are refused."""


def split_path(path: str) -> tuple[str, str]:
    """Kind and field of one leaf of a message, by its path in the message's type.

    Demand coefficients (``demand.shift``, ``demand_mean``) travel as market insight,
    all else as model insight.
    """
    if path.startswith("demand"):
        return MARKET, path.removeprefix("demand")[1:]
    return MODEL, path.removeprefix("insight.")


def _leaf_paths(message: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(message).items():
        if hasattr(hint, "_fields"):
            yield from _leaf_paths(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def _make_bodies() -> dict[tuple[str, str], type[msgspec.Struct]]:
    names: dict[tuple[str, str], list[str]] = {}
    for mode, entry in MODES.items():
        for path in _leaf_paths(entry.message):
            kind, field = split_path(path)
            names.setdefault((mode, kind), []).append(field)
    return {
        (mode, kind): msgspec.defstruct(
            f"{mode}_{kind}",
            [(field, bytes) for field in fields],
            bases=(_Body,),
            frozen=True,
            forbid_unknown_fields=True,
        )
        for (mode, kind), fields in names.items()
    }


BODIES = _make_bodies()  # by mode and kind
_encoder = msgspec.msgpack.Encoder()
_decoders = {key: msgspec.msgpack.Decoder(body) for key, body in BODIES.items()}


def check_kind(kind: str) -> None:
    """Checks that a kind of message exists.

    Raises:
      ConfigError: it does not.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r} must be one of: {', '.join(KINDS)}")


def encode_body(mode: str, kind: str, fields: Mapping[str, np.ndarray]) -> bytes:
    """Encodes the body of a message.

    Args:
      mode: of the network.
      kind: of the message.
      fields: real arrays of any shape, by name.

    Raises:
      ConfigError: unknown mode or kind, other fields than theirs, or a body that is
        too large.
      RefusalError: ``bad_number``: receivers would refuse a number.
    """
    check_kind(kind)
    body = BODIES.get((mode, kind))
    if body is None:
        raise ConfigError(f"mode={mode!r} must be one of: {', '.join(MODES)}")
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
            f"{kind}={len(encoded)} bytes must be at most {MAX_BODY_BYTES}: use"
            " fewer cells"
        )
    return encoded


def decode_body(mode: str, kind: str, body: bytes) -> dict[str, np.ndarray]:
    """Decodes the body of a message.

    Args:
      mode: of the network.
      kind: as named by the envelope, unchecked.
      body: unchecked bytes.

    Returns:
      Flat float32 arrays by name, read-only; every number finite.

    Raises:
      RefusalError: ``wrong_kind``, ``bad_body``, ``not_canonical`` or ``bad_number``.
    """
    decoder = _decoders.get((mode, kind))
    if decoder is None:
        raise RefusalError(Refusal.wrong_kind, repr(kind))
    packed = decode_canonical(decoder, body, Refusal.bad_body)
    fields = {}
    for name in packed.__struct_fields__:
        values = getattr(packed, name)
        if len(values) % _FLOAT.itemsize:
            raise RefusalError(Refusal.bad_body, f"{name} has {len(values)} bytes")
        fields[name] = np.frombuffer(values, _FLOAT)
        _check_numbers(name, fields[name])
    return fields


def _check_numbers(name: str, values: np.ndarray) -> None:
    largest = LATEST_S if name in TIMES else LARGEST
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        usable = bool(np.all(np.abs(values) <= largest))  # False for NaN
    if not usable:
        raise RefusalError(
            Refusal.bad_number, f"{name}: numbers must be finite and within {largest:g}"
        )
