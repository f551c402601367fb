"""A peer's network over any transport: signing, admission, logs and syncs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from p2p_sac_jax.agent.ops.audit import AuditLog
from p2p_sac_jax.agent.ops.identity import Identity, Roster
from p2p_sac_jax.agent.protocol.admission import Admission, RateLimiter
from p2p_sac_jax.agent.protocol.base import Counters, Delivery, Handler, Health, Status
from p2p_sac_jax.agent.protocol.delivery import Dispatch
from p2p_sac_jax.agent.protocol.envelope import VERSION, Envelope, parse_signed, sign
from p2p_sac_jax.agent.protocol.hello import differences, make_hello
from p2p_sac_jax.agent.protocol.message_log import REPLY_MESSAGES, MessageLog
from p2p_sac_jax.agent.protocol.payloads import check_kind, encode_body
from p2p_sac_jax.agent.protocol.receipt_log import ReceiptLog
from p2p_sac_jax.agent.protocol.refusals import Refusal, RefusalCounter, RefusalError
from p2p_sac_jax.agent.protocol.sequence_set import make_digests, parse_digest
from p2p_sac_jax.agent.transport.base import Transport
from p2p_sac_jax.config import ConfigError

QUERIES_PER_S, QUERIES_AT_ONCE = 50.0, 500.0  # of one requester
REFILL_S = 600.0  # in which one requester may be sent all messages once more
QUERY_S = 2.0  # of one query to one peer
SYNC_S = 10.0  # after which a sync leaves the rest of a peer to the next
# Counters that are kept here; see ``Counters``.
_COUNTED = "sent", "kept", "bytes_sent", "delivered", "pulled", "duplicates"
# Refusals of replies that honest peers send too: another reply was faster.
_HARMLESS = {Refusal.replay, Refusal.stale_epoch, Refusal.echo}
# Refusals caused by the receiver or by clocks; all others show a byzantine peer.
_OWN_REASONS = {Refusal.busy, Refusal.receipt_log, Refusal.future}


class PeerNetwork:
    """A peer's network over any transport; other peers never make it raise.

    Every message is signed, checked (``admission``), recorded (``receipt_log``), kept
    for others (``message_log``) and delivered, in this order and exactly once, however
    often and by whichever path it arrives.

    Args:
      transport: carries the bytes.
      identity: of this peer.
      roster: all peers of the network; the identity is one of them.
      folder: of the receipt log; without it a restarted peer may deliver a message
        again.
      clock: seconds since 1970.
      rate_per_s: messages that each source may send, on average.
      burst: messages that each source may send at once.
      log_messages: kept of each sender for others to pull.
      log_bytes: kept in all, an equal share for each sender.
      audit: records own messages before they leave.

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
        self._clock, self._audit = clock, audit
        self._receipt_log = ReceiptLog(folder, clock=clock)
        self._start()
        rate = RateLimiter(self.peers, rate_per_s, burst, clock)
        self._admission = Admission(self.name, roster, self._receipt_log, rate, clock)
        requesters = [*self.peers, ""]  # "": unknown to the transport
        self._queries = RateLimiter(requesters, QUERIES_PER_S, QUERIES_AT_ONCE, clock)
        # A requester gets the whole log at once, and then as much in ``REFILL_S``.
        self._replies = RateLimiter(requesters, log_bytes / REFILL_S, log_bytes, clock)
        self._message_log = MessageLog(self.peers, log_messages, log_bytes)
        self._max_pulled = log_messages * len(self.peers)
        self._dispatch: Dispatch[Delivery] = Dispatch()
        self._refusals = RefusalCounter(self.peers)
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._must_agree: dict[str, object] = {}
        self._hello = make_hello({})
        self._met: set[str] = set()
        self._connected = False
        self._last_sync_s: float | None = None
        self._syncing = asyncio.Lock()

    def must_agree(self, **fields: object) -> None:
        """Adds settings that all peers must share, read by their ``repr``.

        A peer of other settings counts as unreachable, its messages and queries are
        refused, and its log names the same reason.
        """
        self._must_agree |= fields
        self._hello = make_hello(self._must_agree)
        self._transport.announce(self._hello)

    async def connect(self) -> None:
        """Starts; other peers may come later, or never.

        Raises:
          ConfigError: the port or folder of this peer is in use.
        """
        if self._connected:
            return
        self._receipt_log.open()
        self._start_again()
        self._connected = True
        self._transport.announce(self._hello)
        try:
            await self._transport.open(self._on_message, self._on_query)
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Stops; idempotent."""
        self._connected = False
        await self._transport.close()
        await self._dispatch.close()
        self._receipt_log.close()

    def register_message_handler(self, kind: str, handler: Handler) -> None:
        """Adds a handler of a kind of message; several are called in order.

        Raises:
          ConfigError: there is no such kind.
        """
        check_kind(kind)
        self._dispatch.register(kind, handler)

    async def broadcast(self, kind: str, fields: Mapping[str, np.ndarray]) -> bool:
        """Sends to all peers, and keeps a copy for those that are unreachable.

        Args:
          kind: of message.
          fields: arrays by name, exactly the fields of the mode and kind.

        Returns:
          True if the message left at once; False too if receivers would refuse it.

        Raises:
          ConfigError: the fields are not those of the mode and kind.
        """
        self._start_again()
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
            raw = sign(envelope, self._identity.signing_key)
        except RefusalError as error:
            self._refusals.add(self.name, error)
            return False
        self._sequence += 1
        self._message_log.add(self.name, self._epoch, self._sequence, raw)
        left = self._may_publish(raw) and self._transport.publish(raw)
        self._counts["sent" if left else "kept"] += 1
        self._counts["bytes_sent"] += len(raw) if left else 0
        return left

    async def sync(self) -> int:
        """Pulls missing messages from all peers at once; returns how many arrived.

        Each peer has ``QUERY_S`` for an answer and ``SYNC_S`` for all of them, so a
        slow one delays nobody's but its own.
        """
        async with self._syncing:
            peers = self._reachable()
            pulled = sum(await asyncio.gather(*map(self._pull, peers)))
            if peers:
                self._last_sync_s = self._clock()
        return pulled

    def refuse(self, sender: str, reason: Refusal) -> None:
        """Counts a delivery whose content a handler could not use."""
        self._refusals.add(sender, RefusalError(reason))

    def status(self) -> Status:
        """The state at this moment."""
        away, since = self._away(), self._last_sync_s
        peers = tuple(name for name in self._others if name not in away)
        return Status(
            connected=self._connected,
            mode=self.mode,
            peers=peers,
            away=away,
            last_sync_s=None if since is None else max(0.0, self._clock() - since),
            health=_health(len(peers), len(self._others)),
            counters=Counters(
                **self._counts,
                dropped=self._transport.dropped,
                handler_errors=self._dispatch.errors,
                refused=self._refusals.by_reason(),
                refused_from=self._refusals.by_source(),
                log_messages=self._message_log.messages(),
                log_bytes=self._message_log.size(),
            ),
        )

    def _start(self) -> None:
        self._epoch = self._receipt_log.start(self.name)
        self._sequence = 0

    def _start_again(self) -> None:
        """Starts anew if the last start is void, or is another process's."""
        last = self._receipt_log.latest(self.name)
        if last is None or last.epoch != self._epoch:
            self._start()

    def _connections(self) -> dict[str, str]:
        """Hellos of all connected peers, whatever their settings."""
        hellos = self._transport.reachable() if self._connected else {}
        return {name: hellos[name] for name in self._others if name in hellos}

    def _reachable(self) -> tuple[str, ...]:
        """Connected peers of the same settings."""
        away = self._away()
        return tuple(name for name in self._others if name not in away)

    def _away(self) -> dict[str, str]:
        """Why each of the other peers is unreachable."""
        hellos = self._connections()
        self._met |= hellos.keys()
        away = {}
        for name in self._others:
            if name not in hellos:
                lost = name in self._met
                away[name] = "connection lost" if lost else "never connected"
            elif differ := differences(self._hello, hellos[name]):
                away[name] = f"its settings differ in {', '.join(differ)}"
        return away

    def _check_settings(self, source: str) -> None:
        if differ := differences(self._hello, self._connections().get(source, "")):
            raise RefusalError(Refusal.wrong_settings, ", ".join(differ))

    def _may_publish(self, raw: bytes) -> bool:
        if self._audit is None:
            return self._connected
        to = self._transport.receivers() if self._connected else ()
        return self._audit.record_broadcast(raw, to) and self._connected

    def _on_message(self, source: str, raw: bytes) -> None:
        """Takes a message that a peer sent directly."""
        if not self._connected:
            return
        try:
            self._check_settings(source)
            self._take(raw, source)
        except RefusalError as error:
            self._refusals.add(source, error)

    def _on_query(self, source: str, raw: bytes) -> list[bytes]:
        """Replies to a digest."""
        try:
            if source and source not in self._roster.keys:
                raise RefusalError(Refusal.unknown_sender, repr(source))
            self._check_settings(source)
            if not self._queries.charge(source):
                raise RefusalError(Refusal.rate, "queries")
            digest = parse_digest(self._roster, raw)
            self._refusals.read(source, digest.refused)
            found = [
                message
                for message in self._message_log.missing(digest.wants)
                if self._replies.charge(source, len(message))
            ]
        except RefusalError as error:
            self._refusals.add(source, error)
            return []
        if self._audit is None:
            return found
        own = {raw for raw in found if parse_signed(raw).envelope.sender == self.name}
        if self._audit.record_pull(own, source):
            return found
        return [raw for raw in found if raw not in own]

    async def _pull(self, peer: str) -> int:
        """Pulls missing messages from one peer; returns how many arrived."""
        pulled = page = idle = 0
        # An honest log holds no more, so a peer that always has something new, or
        # delays every reply, cannot prolong a sync without end.
        end = time.monotonic() + SYNC_S
        while self._connected and pulled < self._max_pulled and time.monotonic() < end:
            pages = make_digests(
                self._roster,
                self._others,
                self._receipt_log.received,
                self._refusals.of(peer),
            )
            if idle >= len(pages):  # no digest brought anything new
                break
            digest = pages[page % len(pages)]
            replies = await self._transport.query(peer, digest, QUERY_S)
            taken = await self._take_replies(peer, replies[:REPLY_MESSAGES])
            pulled += taken
            page, idle = page + 1, 0 if taken else idle + 1
        return pulled

    async def _take_replies(self, peer: str, replies: list[bytes]) -> int:
        """Takes the replies to a digest; returns how many were new."""
        pulled = 0
        for number, raw in enumerate(replies, 1):
            if number % 64 == 0:
                await asyncio.sleep(0)  # lets other tasks run
            if not self._connected:
                break
            try:
                self._take(raw, None)
                pulled += 1
            except RefusalError as error:
                if error.reason in _HARMLESS:
                    self._counts["duplicates"] += 1
                    continue
                self._refusals.add(peer, error)
                if error.reason not in _OWN_REASONS:
                    break  # the rest of this reply is not to be trusted
        self._counts["pulled"] += pulled
        return pulled

    def _take(self, raw: bytes, source: str | None) -> None:
        if self._dispatch.busy:
            raise RefusalError(Refusal.busy)
        envelope, fields, time_ms = self._admission.admit(raw, source)
        sender, epoch, sequence = envelope.sender, envelope.epoch, envelope.sequence
        try:
            self._receipt_log.append(sender, epoch, sequence)
        except OSError as error:
            raise RefusalError(Refusal.receipt_log, str(error)) from error
        self._message_log.add(sender, epoch, sequence, raw)
        self._counts["delivered"] += 1
        delivery = Delivery(sender, envelope.kind, fields, time_ms, epoch, sequence)
        self._dispatch.deliver(envelope.kind, delivery)


def _health(reachable: int, others: int) -> Health:
    if not reachable:
        return "alone"
    return "connected" if reachable == others else "degraded"
