"""What an agent sees of the network, and the peer that implements it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from p2p_sac_jax.agent.ops.audit import AuditLog
from p2p_sac_jax.agent.ops.identity import Identity, Roster
from p2p_sac_jax.agent.protocol.admission import Admission, Rate
from p2p_sac_jax.agent.protocol.digest import make_digests, read_digest
from p2p_sac_jax.agent.protocol.dispatch import Dispatch
from p2p_sac_jax.agent.protocol.envelope import (
    VERSION,
    Envelope,
    Refusal,
    WireError,
    open_sealed,
    seal,
)
from p2p_sac_jax.agent.protocol.message_log import REPLY_MESSAGES, MessageLog
from p2p_sac_jax.agent.protocol.payloads import check_kind, encode_body
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog
from p2p_sac_jax.agent.protocol.refusals import Refusals
from p2p_sac_jax.agent.transport.base import Transport
from p2p_sac_jax.config import ConfigError

Health = Literal["alone", "degraded", "connected"]
QUESTIONS_PER_S, QUESTIONS_AT_ONCE = 50.0, 500.0  # that one asker may put
SYNC_S = 30.0  # after which a sync leaves the rest to the next
# Answers to a sync that honest peers give, too: others were faster.
_NO_HARM = {Refusal.replay, Refusal.stale_epoch, Refusal.echo}
# Reasons of the receiver's own, or of clocks; all others tell a liar.
_OWN_REASONS = {Refusal.busy, Refusal.receipt_log, Refusal.future}


class Delivery(NamedTuple):
    """One authentic message, delivered exactly once."""

    sender: str
    kind: str
    fields: dict[str, np.ndarray]  # flat float32 arrays
    time_ms: int  # the sender's clock, never later than the own clock at arrival
    epoch: int
    sequence: int


Handler = Callable[[Delivery], Awaitable[None] | None]


class Counters(NamedTuple):
    """What happened since the start."""

    sent: int  # messages that left at once
    kept: int  # own messages that could not leave, kept for others to pull
    bytes_sent: int  # of those that left at once
    delivered: int  # messages, by broadcast or by sync
    pulled: int  # of them by sync
    duplicates: int  # known messages among the answers to a sync: no harm
    dropped: int  # by the transport, because this peer was slow
    handler_errors: int
    refused: dict[str, int]  # by reason
    refused_from: dict[str, dict[str, int]]  # by source, "" if unknown, and reason
    log_messages: int  # kept for others, own and heard
    log_bytes: int


class Status(NamedTuple):
    """How the network is doing, for people and monitors."""

    connected: bool  # between ``connect`` and ``disconnect``
    mode: str
    peers: tuple[str, ...]  # of the roster, reachable now
    last_sync_s: float | None  # seconds since the last sync; None before the first
    health: Health  # none, some or all of the others are reachable
    counters: Counters


class Network(Protocol):
    """What an agent needs of a network. Nothing here raises because others fail."""

    name: str
    mode: str
    peers: tuple[str, ...]  # the roster, in order, own name included

    async def connect(self) -> None:
        """Starts; others may come later, or never.

        Raises:
          ConfigError: it is this peer that cannot: its port or folder is taken.
        """
        ...

    async def disconnect(self) -> None:
        """Stops; idempotent."""
        ...

    def register_message_handler(self, kind: str, handler: Handler) -> None:
        """Adds a handler of a kind of message; several are called in order.

        Raises:
          ConfigError: there is no such kind.
        """
        ...

    async def broadcast(self, kind: str, fields: Mapping[str, np.ndarray]) -> bool:
        """Sends to all, and keeps a copy for those who are not there.

        Args:
          kind: of message.
          fields: arrays by name, exactly those that the mode lets out.

        Returns:
          True if it left at once.

        Raises:
          ConfigError: the fields are not those of the mode and kind.
        """
        ...

    async def sync(self) -> int:
        """Pulls what is missing, from whoever has it; returns how much arrived."""
        ...

    def refuse(self, sender: str, reason: Refusal) -> None:
        """Counts a delivery whose content a handler could not use."""
        ...

    def status(self) -> Status:
        """How things stand now."""
        ...


class PeerNetwork:
    """A peer's network over any transport: see ``Network``.

    Every message is signed, checked (``admission``), written down (``receipt_log``), kept for
    others (``message_log``) and delivered, in this order and exactly once, however often
    and by whatever way it comes.

    Args:
      transport: what carries the bytes.
      identity: who speaks here.
      roster: who may speak; the identity is one of them.
      folder: where the journal lives; without it a peer that starts again may deliver
        again what it had.
      clock: seconds since 1970.
      rate_per_s: messages that each source may send, on average.
      burst: messages that each source may send at once.
      log_messages: kept of each sender for others to pull.
      log_bytes: kept in all, an equal share for each sender.
      query_timeout_s: how long one question of a sync may take.
      audit: where own messages are written down before they leave.

    Raises:
      ConfigError: the identity is not in the roster, or the folder is in use, damaged
        or cannot be written to.
    """

    def __init__(
        self,
        transport: Transport,
        identity: Identity,
        roster: Roster,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
        rate_per_s: float = 200.0,
        burst: float = 400.0,
        log_messages: int = 4096,
        log_bytes: int = 1 << 25,
        query_timeout_s: float = 2.0,
        audit: AuditLog | None = None,
    ) -> None:
        known = roster.keys.get(identity.name)
        if known is None or known != identity.signing_key.verify_key:
            raise ConfigError(
                f"name={identity.name!r} must be in the roster, with its own key;"
                f" the roster of {roster.network!r} has {', '.join(roster.keys)}"
            )
        self.name, self.mode = identity.name, roster.mode
        self.peers = tuple(roster.keys)
        self._others = [name for name in self.peers if name != self.name]
        self._transport, self._identity, self._roster = transport, identity, roster
        self._clock, self._timeout_s, self._audit = clock, query_timeout_s, audit
        self._receipt_log = ReceiptLog(folder)
        self._start()
        rate = Rate(self.peers, rate_per_s, burst, clock)
        self._admission = Admission(
            self.name, roster, self._receipt_log.windows, rate, clock
        )
        askers = [*self.peers, ""]  # "": the transport does not know who asks
        self._questions = Rate(askers, QUESTIONS_PER_S, QUESTIONS_AT_ONCE, clock)
        self._message_log = MessageLog(self.peers, log_messages, log_bytes)
        self._most_pulled = log_messages * len(self.peers)
        self._dispatch: Dispatch[Delivery] = Dispatch()
        self._refusals = Refusals(self.peers)
        self._counts: Counter[str] = Counter()
        self._connected = False
        self._last_sync_s: float | None = None
        self._syncing = asyncio.Lock()

    async def connect(self) -> None:
        """See ``Network``."""
        if self._connected:
            return
        self._receipt_log.open()
        if self._receipt_log.windows[self.name].epoch > self._epoch:
            self._start()  # another process had the folder meanwhile
        self._connected = True
        try:
            await self._transport.open(self._on_message, self._on_query)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """See ``Network``."""
        self._connected = False
        await self._transport.close()
        await self._dispatch.close()
        self._receipt_log.close()

    def register_message_handler(self, kind: str, handler: Handler) -> None:
        """See ``Network``."""
        check_kind(kind)
        self._dispatch.register(kind, handler)

    async def broadcast(self, kind: str, fields: Mapping[str, np.ndarray]) -> bool:
        """See ``Network``; also False for numbers that no receiver would take."""
        try:
            body = encode_body(self.mode, kind, fields)
            envelope = Envelope(
                version=VERSION,
                network=self._roster.network,
                mode=self.mode,
                kind=kind,
                sender=self.name,
                epoch=self._epoch,
                sequence=self._sequence + 1,
                time_ms=int(self._clock() * 1000),
                body=body,
            )
            raw = seal(envelope, self._identity.signing_key)
        except WireError as error:
            self._refusals.add(self.name, error)
            return False
        self._sequence += 1
        self._message_log.add(self.name, self._epoch, self._sequence, raw)
        left = self._may_publish(raw) and self._transport.publish(raw)
        self._counts["sent" if left else "kept"] += 1
        self._counts["bytes_sent"] += len(raw) if left else 0
        return left

    async def sync(self) -> int:
        """See ``Network``."""
        pulled = page = idle = 0
        async with self._syncing:
            # No honest logs hold more. Who always knows something new, or takes all
            # the time there is for each answer, keeps nobody here for ever.
            end = time.monotonic() + SYNC_S
            while (
                self._connected
                and pulled < self._most_pulled
                and time.monotonic() < end
            ):
                pages = make_digests(
                    self._roster, self._others, self._receipt_log.windows
                )
                if idle >= len(pages):  # a whole turn brought nothing
                    break
                question = pages[page % len(pages)]
                answers = await self._transport.query(question, self._timeout_s)
                taken = await self._take_answers(answers)
                pulled += taken
                page, idle = page + 1, 0 if taken else idle + 1
            if self._transport.reachable():
                self._last_sync_s = self._clock()
        return pulled

    def refuse(self, sender: str, reason: Refusal) -> None:
        """See ``Network``."""
        self._refusals.add(sender, WireError(reason))

    def status(self) -> Status:
        """See ``Network``."""
        peers = self._reachable()
        since = self._last_sync_s
        return Status(
            connected=self._connected,
            mode=self.mode,
            peers=peers,
            last_sync_s=None if since is None else max(0.0, self._clock() - since),
            health=_health(len(peers), len(self._others)),
            counters=Counters(
                sent=self._counts["sent"],
                kept=self._counts["kept"],
                bytes_sent=self._counts["bytes_sent"],
                delivered=self._counts["delivered"],
                pulled=self._counts["pulled"],
                duplicates=self._counts["duplicates"],
                dropped=self._transport.dropped,
                handler_errors=self._dispatch.errors,
                refused=self._refusals.by_reason(),
                refused_from=self._refusals.by_source(),
                log_messages=self._message_log.messages(),
                log_bytes=self._message_log.size(),
            ),
        )

    def _start(self) -> None:
        now_ms = int(self._clock() * 1000)
        self._epoch = self._receipt_log.start(self.name, now_ms)
        self._sequence = 0

    def _reachable(self) -> tuple[str, ...]:
        reachable = set(self._transport.reachable()) if self._connected else set()
        return tuple(name for name in self._others if name in reachable)

    def _may_publish(self, raw: bytes) -> bool:
        if self._audit is None:
            return self._connected
        return self._audit.published(raw, self._reachable()) and self._connected

    def _on_message(self, source: str, raw: bytes) -> None:
        """Takes what a peer sent of its own accord."""
        if not self._connected:
            return
        try:
            self._take(raw, source)
        except WireError as error:
            self._refusals.add(source, error)

    def _on_query(self, source: str, raw: bytes) -> list[bytes]:
        """Answers what a peer asks."""
        try:
            if source and source not in self._roster.keys:
                raise WireError(Refusal.unknown_sender, repr(source))
            if not self._questions.charge(source):
                raise WireError(Refusal.rate, "questions")
            found = self._message_log.missing(read_digest(self._roster, raw))
        except WireError as error:
            self._refusals.add(source, error)
            return []
        if self._audit is None:
            return found
        own = {raw for raw in found if open_sealed(raw).envelope.sender == self.name}
        if self._audit.pulled(own, source):
            return found
        return [raw for raw in found if raw not in own]

    async def _take_answers(self, answers: list[tuple[str, bytes]]) -> int:
        """Takes answers to a question; returns how many were new."""
        pulled = 0
        seen: Counter[str] = Counter()
        for number, (source, raw) in enumerate(answers, 1):
            if number % 64 == 0:
                await asyncio.sleep(0)  # others go on meanwhile
            if not self._connected:
                break
            seen[source] += 1
            if source not in self._roster.keys or seen[source] > REPLY_MESSAGES:
                continue
            try:
                self._take(raw, None)
                pulled += 1
            except WireError as error:
                if error.reason in _NO_HARM:
                    self._counts["duplicates"] += 1
                    continue
                self._refusals.add(source, error)
                if error.reason not in _OWN_REASONS:
                    seen[source] = REPLY_MESSAGES  # nothing more from here
        self._counts["pulled"] += pulled
        return pulled

    def _take(self, raw: bytes, source: str | None) -> None:
        if self._dispatch.busy:
            raise WireError(Refusal.busy)
        envelope, fields, time_ms = self._admission.admit(raw, source)
        sender, epoch, sequence = envelope.sender, envelope.epoch, envelope.sequence
        try:
            self._receipt_log.append(sender, epoch, sequence)
        except OSError as error:
            raise WireError(Refusal.receipt_log, str(error)) from error
        self._message_log.add(sender, epoch, sequence, raw)
        self._counts["delivered"] += 1
        delivery = Delivery(sender, envelope.kind, fields, time_ms, epoch, sequence)
        self._dispatch.deliver(envelope.kind, delivery)


def _health(reachable: int, others: int) -> Health:
    if not reachable:
        return "alone"
    return "connected" if reachable == others else "degraded"
