"""A transport over zenoh: a full mesh of peers with mutual TLS, and no broker.

Nothing of zenoh's ever runs on the event loop but ``put``, which drops rather than
waits; what may wait runs in a daemon thread, and what comes in goes through an
``Inbox``. Connections that are lost come back by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import zenoh
from absl import logging

from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES
from p2p_sac_jax.agent.protocol.inbox import Inbox
from p2p_sac_jax.agent.protocol.threads import in_thread
from p2p_sac_jax.agent.transport.base import OnMessage, OnQuery
from p2p_sac_jax.agent.transport.zenoh_settings import (
    alive_key,
    insight_key,
    make_settings,
    pull_key,
)
from p2p_sac_jax.config import ConfigError

T = TypeVar("T")

_REMOTE = zenoh.Locality.REMOTE  # own publications and questions stay out
_CLOSE_S = 3.0  # after which closing goes on without us
_OPEN_S = 10.0
_REPLY_BYTES = 4 << 20  # kept of the replies of one peer to one question
_INBOX_ITEMS, _INBOX_BYTES = 4096, 2 << 20  # kept of one peer's messages
_QUESTIONS = 4  # kept of one peer's questions


class ZenohTransport:
    """Carries bytes between the peers of a roster; see ``transport.Transport``.

    Args:
      folder: of the peer's identity, as ``launch.make_identity`` writes it.
      listen: HOST:PORT to accept connections at.
      connect: HOST:PORT of the other peers. Peers do not relay: each two need one
        way to each other.

    Raises:
      ConfigError: the folder or an endpoint is not usable.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        listen: Sequence[str] = (),
        connect: Sequence[str] = (),
    ) -> None:
        folder = Path(folder)
        self.name = load_identity(folder).name
        roster = load_roster(folder)
        self._network = roster.network
        self._others = [name for name in roster.keys if name != self.name]
        self._listen = tuple(listen)
        self._config = make_settings(folder, self.name, roster, listen, connect)
        self._session: zenoh.Session | None = None
        self._publisher: zenoh.Publisher | None = None
        self._alive = dict.fromkeys(self._others, False)  # zenoh's threads write
        self._answering: set[str] = set()  # askers whose replies are being sent
        self._dropped = 0
        self._inboxes: tuple[Inbox[bytes], Inbox[zenoh.Query]] | None = None

    @property
    def dropped(self) -> int:
        """Messages and questions that came and were dropped."""
        return self._dropped + sum(inbox.dropped for inbox in self._inboxes or ())

    async def open(self, on_message: OnMessage, on_query: OnQuery) -> None:
        """Starts to listen and to connect; returns whether or not others are there.

        Raises:
          ConfigError: nobody can listen at one of the endpoints.
        """
        if self._session is not None:
            return
        loop = asyncio.get_running_loop()
        messages = Inbox(
            loop,
            self._others,
            on_message,
            most_items=_INBOX_ITEMS,
            most_bytes=_INBOX_BYTES,
        )

        def answer(source: str, query: zenoh.Query) -> None:
            self._answer(source, query, on_query)

        questions = Inbox(
            loop,
            self._others,
            answer,
            most_items=_QUESTIONS,
            most_bytes=2 * _QUESTIONS * MAX_BYTES,
        )
        self._inboxes = messages, questions
        self._alive = dict.fromkeys(self._others, False)

        def start() -> zenoh.Session:
            session = zenoh.open(self._config)
            self._declare(session, messages, questions)
            return session

        try:
            self._session = await in_thread(start, _OPEN_S)
        except (zenoh.ZError, TimeoutError) as error:
            reason = " ".join(str(error).split()) or "no answer"
            raise ConfigError(f"listen={','.join(self._listen)}: {reason}") from error

    async def close(self) -> None:
        """Ends the session; idempotent, and never waits for long."""
        session, self._session = self._session, None
        self._publisher = None
        if session is None:
            return
        for inbox in self._inboxes or ():
            inbox.close()
        try:
            await in_thread(session.close, _CLOSE_S)
        except (zenoh.ZError, TimeoutError) as error:
            logging.warning("zenoh did not close in order: %r", error)

    def publish(self, raw: bytes) -> bool:
        """Sends to every reachable peer without waiting; may drop."""
        if self._publisher is None or not self.reachable():
            return False
        try:
            self._publisher.put(raw)
        except zenoh.ZError as error:
            logging.warning("zenoh did not publish: %s", error)
            return False
        return True

    async def query(self, raw: bytes, timeout_s: float) -> list[tuple[str, bytes]]:
        """Asks every reachable peer; all replies that came in time."""
        session = self._session
        if session is None or not self.reachable():
            return []
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        replies: list[tuple[str, bytes]] = []
        room = dict.fromkeys(self._others, _REPLY_BYTES)

        def take(reply: zenoh.Reply) -> None:
            sample = reply.ok
            if sample is None:
                return
            source, raw = self._speaker(sample, "pull"), _read(sample.payload)
            if room.get(source, 0) >= len(raw):
                room[source] -= len(raw)
                replies.append((source, raw))

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        def ask() -> None:
            session.get(
                pull_key(self._network, "*", self.name),
                zenoh.handlers.Callback(take, end, indirect=False),
                target=zenoh.QueryTarget.ALL,
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout_s,
                priority=zenoh.Priority.DATA_LOW,
                payload=raw,
                allowed_destination=_REMOTE,
            )

        try:
            async with asyncio.timeout(timeout_s + 0.5):
                await in_thread(ask, timeout_s)
                await done.wait()
        except (zenoh.ZError, TimeoutError) as error:
            logging.warning("a question was not answered by everyone: %r", error)
        return list(replies)

    def reachable(self) -> list[str]:
        """Peers that are connected now, in the roster's order."""
        if self._session is None:
            return []
        return [name for name in self._others if self._alive[name]]

    def _declare(
        self,
        session: zenoh.Session,
        messages: Inbox[bytes],
        questions: Inbox[zenoh.Query],
    ) -> None:
        """Everything that zenoh calls back; in its own threads, so only to inboxes."""

        def hear(sample: zenoh.Sample) -> None:
            source = self._speaker(sample, "insight")
            if source and sample.kind == zenoh.SampleKind.PUT:
                raw = _read(sample.payload)
                messages.push(source, raw, len(raw))

        def asked(query: zenoh.Query) -> None:
            source = str(query.key_expr).rpartition("/")[2]
            if not questions.push(source, query, len(query.payload or b"")):
                query.drop()

        def alive(sample: zenoh.Sample) -> None:
            if name := self._speaker(sample, "alive"):
                self._alive[name] = sample.kind == zenoh.SampleKind.PUT

        network = self._network
        self._publisher = session.declare_publisher(
            insight_key(network, self.name),
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.DATA,
            allowed_destination=_REMOTE,
        )
        session.declare_subscriber(
            insight_key(network, "*"), _direct(hear), allowed_origin=_REMOTE
        )
        session.declare_queryable(
            pull_key(network, self.name, "*"), _direct(asked), allowed_origin=_REMOTE
        )
        liveliness = session.liveliness()
        self._token = liveliness.declare_token(alive_key(network, self.name))
        liveliness.declare_subscriber(
            alive_key(network, "*"), _direct(alive), history=True
        )

    def _answer(self, source: str, query: zenoh.Query, on_query: OnQuery) -> None:
        """On the event loop: finds the replies, and lets a thread send them."""
        if source in self._answering:  # one at a time, or askers could pile up threads
            self._dropped += 1
            query.drop()
            return
        loop = asyncio.get_running_loop()
        key = pull_key(self._network, self.name, source)

        def send() -> None:
            try:
                for raw in replies:
                    query.reply(key, raw)
            except zenoh.ZError as error:
                logging.warning("zenoh did not reply to %s: %s", source, error)
            finally:
                query.drop()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._answering.discard, source)

        try:
            replies = on_query(source, _read(query.payload))
        except Exception:
            query.drop()
            raise
        self._answering.add(source)
        threading.Thread(target=send, name=f"reply to {source}", daemon=True).start()

    def _speaker(self, sample: zenoh.Sample, room: str) -> str:
        """Who sent it, by the key that access control guards; "" if nobody may."""
        place, _, rest = str(sample.key_expr).partition(f"/{room}/")
        name = rest.partition("/")[0]
        known = place == f"p2p/{self._network}" and name in self._others
        return name if known else ""


def _direct(callback: Callable[[T], None]) -> zenoh.handlers.Callback[T]:
    """A callback in zenoh's own thread: its detour is a queue without a bound."""
    return zenoh.handlers.Callback(callback, indirect=False)


def _read(payload: zenoh.ZBytes | None) -> bytes:
    """The bytes, cut where they are more than any message has: still too many."""
    return b"" if payload is None else bytes(payload)[: MAX_BYTES + 1]
