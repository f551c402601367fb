"""Admission: checks that decide whether a message is accepted.

Cheap checks come first, the signature last, and nothing changes before all of them
have passed: a message that is not authentic moves no sequence set. Only the rate is
charged earlier, to the peer that the transport authenticated, so that no peer can use
up another's rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.agent.ops.identity import Roster
from p2p_sac_jax.agent.protocol.envelope import (
    FUTURE_MS,
    Envelope,
    parse_signed,
    verify,
)
from p2p_sac_jax.agent.protocol.payloads import decode_body
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalError


class Admitted(NamedTuple):
    """A message that passed every check."""

    envelope: Envelope
    fields: dict[str, np.ndarray]  # flat float32
    time_ms: int  # the earlier one of the sender's time and now


class RateLimiter:
    """Token buckets, one for each source: ``rate_per_s`` on average, ``burst`` at once.

    Args:
      sources: the sources that have a bucket.
      rate_per_s: tokens that a bucket gains in a second.
      burst: tokens that a bucket holds.
      clock: seconds.
    """

    def __init__(
        self,
        sources: Iterable[str],
        rate_per_s: float,
        burst: float,
        clock: Callable[[], float],
    ) -> None:
        self._rate, self._burst, self._clock = rate_per_s, burst, clock
        now = clock()
        self._buckets = dict.fromkeys(sources, (burst, now))

    def charge(self, source: str, price: float = 1.0) -> bool:
        """Takes tokens out of a source's bucket; False if it does not hold as many.

        What is refused costs nothing: a source above its rate keeps its rate.
        """
        tokens, then = self._buckets[source]
        now = self._clock()
        gained = self._rate * max(0.0, now - then)  # a clock may be set back
        tokens = min(self._burst, tokens + gained)
        enough = tokens >= price
        self._buckets[source] = (tokens - price if enough else tokens, now)
        return enough


class Admission:
    """Checks the messages of one network.

    Args:
      name: own peer id.
      roster: the peers of the network.
      receipts: what has arrived.
      rate: of direct messages, by source.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        roster: Roster,
        receipts: ReceiptLog,
        rate: RateLimiter,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._roster, self._receipts = name, roster, receipts
        self._rate, self._clock = rate, clock

    def admit(self, raw: bytes, source: str | None) -> Admitted:
        """Checks a message.

        Args:
          raw: unchecked bytes.
          source: the peer that sent the message directly, authenticated by the
            transport; None for a reply to a sync, which any peer may forward and
            which rests on its signature.

        Raises:
          RefusalError: the message is refused; nothing has changed.
        """
        message = parse_signed(raw)
        envelope = message.envelope
        self._check_network(envelope)
        if source is not None:
            self._check_source(envelope, source)
        self._check_order(envelope)
        now_ms = int(self._clock() * 1000)
        ahead_ms = max(envelope.time_ms, envelope.epoch) - now_ms
        if ahead_ms > FUTURE_MS:
            raise RefusalError(Refusal.future, f"{ahead_ms} ms ahead")
        fields = decode_body(envelope.mode, envelope.kind, envelope.body)
        verify(message, self._roster.keys[envelope.sender])
        return Admitted(envelope, fields, min(envelope.time_ms, now_ms))

    def _check_network(self, envelope: Envelope) -> None:
        if envelope.network != self._roster.network:
            raise RefusalError(Refusal.wrong_network, repr(envelope.network))
        if envelope.mode != self._roster.mode:
            raise RefusalError(Refusal.wrong_mode, repr(envelope.mode))
        if envelope.sender not in self._roster.keys:
            raise RefusalError(Refusal.unknown_sender, repr(envelope.sender))

    def _check_source(self, envelope: Envelope, source: str) -> None:
        if source != envelope.sender:
            raise RefusalError(Refusal.wrong_source, f"names {envelope.sender}")
        if not self._rate.charge(source):
            raise RefusalError(Refusal.rate)

    def _check_order(self, envelope: Envelope) -> None:
        if envelope.sender == self._name:
            raise RefusalError(Refusal.echo)
        if self._receipts.is_void(envelope.sender, envelope.epoch):
            raise RefusalError(Refusal.stale_epoch, f"{envelope.epoch} is void")
        if envelope.time_ms <= self._receipts.before_ms:
            raise RefusalError(Refusal.replay, "sent before the receipt log was lost")
        received = self._receipts.latest(envelope.sender)
        if received is None or envelope.epoch > received.epoch:
            return
        if envelope.epoch < received.epoch:
            raise RefusalError(Refusal.stale_epoch, f"{envelope.epoch}")
        if envelope.sequence in received:
            raise RefusalError(Refusal.replay, f"{envelope.sequence}")
