"""Gate: whether a message is let in.

Cheap checks first, the signature last, and nothing changes before all of them have
passed: what is not authentic moves no window. The rate alone is charged earlier, to
the peer that the transport vouches for, so nobody can use up another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from p2p_sac_jax.agent.ops.identity import Roster
from p2p_sac_jax.agent.protocol.envelope import (
    FUTURE_MS,
    Envelope,
    Refusal,
    Sealed,
    WireError,
    open_sealed,
    verify,
)
from p2p_sac_jax.agent.protocol.payloads import decode_body
from p2p_sac_jax.agent.protocol.sequence_set import SequenceSet


class Admitted(NamedTuple):
    """A message that passed every check."""

    envelope: Envelope
    fields: dict[str, np.ndarray]  # flat float32
    time_ms: int  # the earlier one of claimed and now


class Rate:
    """Token buckets, one for each source: ``rate_per_s`` on average, ``burst`` at once.

    Args:
      sources: that have a bucket of their own; nobody else gets any.
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

    def charge(self, source: str) -> bool:
        """Takes one token out of a source's bucket; False if there is none."""
        tokens, then = self._buckets[source]
        now = self._clock()
        gained = self._rate * max(0.0, now - then)  # clocks are set back, too
        tokens = min(self._burst, tokens + gained)
        self._buckets[source] = (max(0.0, tokens - 1.0), now)
        return tokens >= 1.0


class Admission:
    """Lets messages of one network in.

    Args:
      name: own peer id.
      roster: who may speak.
      windows: what was taken of each sender; read here, moved by the journal.
      rate: of direct messages, by source.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        roster: Roster,
        windows: Mapping[str, SequenceSet],
        rate: Rate,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._roster, self._windows = name, roster, windows
        self._rate, self._clock = rate, clock

    def admit(self, raw: bytes, source: str | None) -> Admitted:
        """Checks a message.

        Args:
          raw: bytes that nobody has looked at.
          source: the peer that sent it of its own accord, as the transport vouches;
            None for an answer to a sync, which may come through anybody and rests on
            its signature.

        Raises:
          WireError: it is refused; no window has moved.
        """
        sealed = open_sealed(raw)
        envelope = sealed.envelope
        self._check_place(envelope)
        if source is not None:
            self._check_source(envelope, source)
        self._check_order(envelope)
        now_ms = int(self._clock() * 1000)
        ahead_ms = max(envelope.time_ms, envelope.epoch) - now_ms
        if ahead_ms > FUTURE_MS:
            raise WireError(Refusal.future, f"{ahead_ms} ms ahead")
        fields = decode_body(envelope.mode, envelope.kind, envelope.body)
        self._check_signature(sealed)
        return Admitted(envelope, fields, min(envelope.time_ms, now_ms))

    def _check_place(self, envelope: Envelope) -> None:
        if envelope.network != self._roster.network:
            raise WireError(Refusal.wrong_network, repr(envelope.network))
        if envelope.mode != self._roster.mode:
            raise WireError(Refusal.wrong_mode, repr(envelope.mode))
        if envelope.sender not in self._roster.keys:
            raise WireError(Refusal.unknown_sender, repr(envelope.sender))

    def _check_source(self, envelope: Envelope, source: str) -> None:
        if source != envelope.sender:
            raise WireError(Refusal.wrong_source, f"names {envelope.sender}")
        if not self._rate.charge(source):
            raise WireError(Refusal.rate)

    def _check_order(self, envelope: Envelope) -> None:
        if envelope.sender == self._name:
            raise WireError(Refusal.echo)
        window = self._windows.get(envelope.sender)
        if window is None or envelope.epoch > window.epoch:
            return
        if envelope.epoch < window.epoch:
            raise WireError(Refusal.stale_epoch, f"{envelope.epoch}")
        if envelope.sequence in window:
            raise WireError(Refusal.replay, f"{envelope.sequence}")

    def _check_signature(self, sealed: Sealed) -> None:
        verify(sealed, self._roster.keys[sealed.envelope.sender])
