"""Digest: the question of a sync, which messages a peer does not have.

It tells, for each sender, the epoch and the gaps in what was taken of it. A digest has
a bounded number of gaps, of which every sender has its share; windows with more of them
ask in several pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Annotated

import msgspec
from msgspec import Meta

from p2p_sac_jax.agent.ops.identity import Roster
from p2p_sac_jax.agent.protocol.envelope import (
    LAST,
    MAX_BYTES,
    VERSION,
    Count,
    Name,
    Number,
    Refusal,
    WireError,
    decode_canonical,
)
from p2p_sac_jax.agent.protocol.sequence_set import SequenceSet

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
    roster: Roster, senders: Sequence[str], windows: Mapping[str, SequenceSet]
) -> list[bytes]:
    """Writes what is missing of some senders, in as many pages as it takes.

    Senders take turns, so that one whose window is torn pushes nobody off a page.

    Args:
      roster: of the network.
      senders: whom to ask about.
      windows: what was taken of them, by sender; not there before the first message.
    """
    share = max(1, PAGE // max(1, len(senders)))
    parts = [_parts(sender, windows.get(sender), share) for sender in senders]
    pages: list[list[Want]] = [[]]
    room = PAGE
    for want in chain.from_iterable(zip_longest(*parts)):
        if want is None:
            continue
        if len(want.gaps) > room:
            pages.append([])
            room = PAGE
        pages[-1].append(want)
        room -= len(want.gaps)
    return [
        _encoder.encode(Digest(VERSION, roster.network, roster.mode, tuple(page)))
        for page in pages
    ]


def _parts(sender: str, window: SequenceSet | None, share: int) -> Iterator[Want]:
    """What is missing of a sender, ``share`` gaps at a time."""
    epoch = 0 if window is None else window.epoch
    gaps = [(1, LAST)] if window is None else window.gaps()
    for start in range(0, len(gaps), share):
        yield Want(sender, epoch, tuple(gaps[start : start + share]))


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
