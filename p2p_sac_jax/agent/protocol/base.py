"""What a network reports: deliveries, counters and status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import numpy as np

Health = Literal["alone", "degraded", "connected"]


class Delivery(NamedTuple):
    """One authentic message, delivered exactly once."""

    sender: str
    kind: str
    fields: dict[str, np.ndarray]  # flat float32 arrays
    time_ms: int  # the sender's clock, at most the own clock at arrival
    epoch: int
    sequence: int


Handler = Callable[[Delivery], Awaitable[None] | None]


class Counters(NamedTuple):
    """Events since the start."""

    sent: int  # messages that left at once
    kept: int  # own messages that could not leave, kept for others to pull
    bytes_sent: int  # of those that left at once
    delivered: int  # messages, by broadcast or by sync
    pulled: int  # of them by sync
    duplicates: int  # known messages in the replies to a sync; harmless
    dropped: int  # by the transport, because this peer was slow
    handler_errors: int
    refused: dict[str, int]  # by reason
    refused_from: dict[str, dict[str, int]]  # by source, "" if unknown, and reason
    log_messages: int  # kept for others, own and received
    log_bytes: int


class Status(NamedTuple):
    """State of the network, for people and monitors."""

    connected: bool  # between ``connect`` and ``disconnect``
    mode: str
    peers: tuple[str, ...]  # of the roster, reachable now and of the same settings
    away: dict[str, str]  # all others of the roster, and why they are not in ``peers``
    last_sync_s: float | None  # seconds since the last sync; None before the first
    health: Health  # none, some or all of the others are reachable
    counters: Counters
