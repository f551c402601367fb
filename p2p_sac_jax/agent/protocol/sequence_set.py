"""Which messages of a sender have arrived, and the digest that asks for the others.

A digest is the query of a sync: for each sender its epoch and the gaps in what has
arrived. It holds a bounded number of gaps, shared equally by the senders; more gaps
take several digests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from types import MappingProxyType
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
    decode_canonical,
)
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalError

MAX_RANGES = 1024
MAX_GAPS = 512  # in a digest

Gap = tuple[Number, Number]  # first and last sequence missing


class SequenceSet:
    """Sequence numbers received within one epoch of a sender, as disjoint ranges.

    Losses leave gaps, which a sync fills. If there would be more than ``max_ranges``
    ranges, the oldest gap is given up and counts as received: a sender that skips
    numbers loses its own old messages, and memory stays bounded.
    """

    def __init__(self, epoch: int, max_ranges: int = MAX_RANGES) -> None:
        self.epoch = epoch
        self._max_ranges = max_ranges
        self._first = [0]  # 0 counts as received: sequences start at 1
        self._last = [0]

    def __contains__(self, sequence: int) -> bool:
        index = bisect_right(self._first, sequence) - 1
        return index >= 0 and sequence <= self._last[index]

    def __len__(self) -> int:
        return len(self._first)

    def add(self, first: int, last: int) -> None:
        """Adds the numbers ``first`` to ``last``, both included."""
        low = bisect_right(self._first, first)
        if low and self._last[low - 1] >= first - 1:  # touches the range below
            low -= 1
        high = bisect_right(self._first, last + 1)
        if low < high:
            first = min(first, self._first[low])
            last = max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]
        while len(self._first) > self._max_ranges:
            del self._first[1], self._last[0]

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The numbers received, as (first, last), ascending."""
        return zip(self._first, self._last, strict=True)

    def gaps(self) -> list[tuple[int, int]]:
        """The numbers missing, as (first, last), ascending; the last ends at LAST."""
        ends = [*self._first[1:], LAST + 1]
        pairs = zip(self._last, ends, strict=True)
        return [(a + 1, b - 1) for a, b in pairs if a + 1 < b]


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The messages missing from one sender."""

    sender: Name
    epoch: Count  # the newest one known; 0 before the first message
    gaps: Annotated[tuple[Gap, ...], Meta(max_length=MAX_GAPS)]  # ascending


class Digest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The messages missing at one peer, and what it refused of the one it asks."""

    version: Count
    network: Name
    mode: Name
    wants: Annotated[tuple[Want, ...], Meta(max_length=MAX_GAPS)]
    refused: Annotated[
        tuple[tuple[Refusal, Number], ...], Meta(max_length=len(Refusal))
    ]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Digest)


def make_digests(
    roster: Roster,
    senders: Sequence[str],
    received: Mapping[str, SequenceSet],
    refused: Mapping[Refusal, int] = MappingProxyType({}),
) -> list[bytes]:
    """Encodes what is missing from some senders, in as many digests as it takes.

    Senders take turns, so that one with many gaps displaces nobody.

    Args:
      roster: of the network.
      senders: whose messages are wanted.
      received: sequence sets by sender; without an entry before the first message.
      refused: messages of the peer that is asked, by reason.
    """
    told = tuple(sorted(refused.items()))
    share = max(1, MAX_GAPS // max(1, len(senders)))
    parts = [_parts(sender, received.get(sender), share) for sender in senders]
    pages: list[list[Want]] = [[]]
    free = MAX_GAPS
    for want in chain.from_iterable(zip_longest(*parts)):
        if want is None:
            continue
        if len(want.gaps) > free:
            pages.append([])
            free = MAX_GAPS
        pages[-1].append(want)
        free -= len(want.gaps)
    return [
        _encoder.encode(Digest(VERSION, roster.network, roster.mode, tuple(page), told))
        for page in pages
    ]


def _parts(sender: str, received: SequenceSet | None, share: int) -> Iterator[Want]:
    """What is missing from a sender, ``share`` gaps at a time."""
    epoch = 0 if received is None else received.epoch
    gaps = [(1, LAST)] if received is None else received.gaps()
    for start in range(0, len(gaps), share):
        yield Want(sender, epoch, tuple(gaps[start : start + share]))


def parse_digest(roster: Roster, raw: bytes) -> Digest:
    """Decodes a digest.

    Raises:
      RefusalError: it is malformed, not canonical or of another network.
    """
    if len(raw) > MAX_BYTES:
        raise RefusalError(Refusal.oversize, f"{len(raw)} bytes")
    digest = decode_canonical(_decoder, raw, Refusal.garbage)
    if digest.version != VERSION:
        raise RefusalError(Refusal.wrong_version, str(digest.version))
    if digest.network != roster.network:
        raise RefusalError(Refusal.wrong_network, repr(digest.network))
    if digest.mode != roster.mode:
        raise RefusalError(Refusal.wrong_mode, repr(digest.mode))
    return digest
