"""Digest: the question of a sync, which messages a peer does not have.

It tells, for each sender, the epoch and the gaps in what was taken of it. A digest has
a bounded number of gaps; a window with more of them asks in several pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from p2p_sac_jax.agent.identity import Roster
from p2p_sac_jax.agent.window import LAST, Window
from p2p_sac_jax.agent.wire import (
    MAX_BYTES,
    VERSION,
    Count,
    Name,
    Number,
    Refusal,
    WireError,
    decode_canonical,
)

PAGE = 512  # gaps in a digest

Gap = tuple[Number, Number]  # first and last sequence missing


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is missing of one sender."""

    sender: Name
    epoch: Count  # the newest one known; 0 before the first message
    gaps: Annotated[tuple[Gap, ...], Meta(max_length=PAGE)]  # ascending


class Digest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is missing at one peer."""

    version: Count
    network: Name
    mode: Name
    wants: Annotated[tuple[Want, ...], Meta(max_length=PAGE)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Digest)


def make_digests(
    roster: Roster, senders: Iterable[str], windows: Mapping[str, Window]
) -> list[bytes]:
    """Writes what is missing of some senders, in as many pages as it takes.

    Args:
      roster: of the network.
      senders: whom to ask about.
      windows: what was taken of them, by sender; not there before the first message.
    """
    pages: list[list[Want]] = [[]]
    room = PAGE
    for sender in senders:
        window = windows.get(sender)
        epoch = 0 if window is None else window.epoch
        gaps = [(1, LAST)] if window is None else window.gaps()
        while gaps:
            if not room:
                pages.append([])
                room = PAGE
            pages[-1].append(Want(sender, epoch, tuple(gaps[:room])))
            gaps, room = gaps[room:], room - min(room, len(gaps))
    return [
        _encoder.encode(Digest(VERSION, roster.network, roster.mode, tuple(page)))
        for page in pages
    ]


def read_digest(roster: Roster, raw: bytes) -> tuple[Want, ...]:
    """Reads a question.

    Raises:
      WireError: it is none of this network, or not the one encoding of it.
    """
    if len(raw) > MAX_BYTES:
        raise WireError(Refusal.oversize, f"{len(raw)} bytes")
    digest = decode_canonical(_decoder, raw, Refusal.garbage)
    if digest.version != VERSION:
        raise WireError(Refusal.wrong_version, str(digest.version))
    if digest.network != roster.network:
        raise WireError(Refusal.wrong_network, repr(digest.network))
    if digest.mode != roster.mode:
        raise WireError(Refusal.wrong_mode, repr(digest.mode))
    return digest.wants
