"""A transport over zenoh: a full mesh of peers with mutual TLS, without a broker.

The event loop calls only zenoh's ``put``, which drops rather than waits. Blocking calls
run in a daemon thread, and inbound messages pass through an ``Inbox``. zenoh restores
lost connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import zenoh

from p2p_sac_jax.agent.ops.identity import (
    certificate_ends,
    load_identity,
    load_roster,
)
from p2p_sac_jax.agent.protocol.delivery import Inbox, in_thread
from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES
from p2p_sac_jax.agent.protocol.hello import MAX_HELLO
from p2p_sac_jax.agent.transport.base import OnMessage, OnQuery
from p2p_sac_jax.agent.transport.link_watch import Links, LinkWatch
from p2p_sac_jax.agent.transport.zenoh_settings import (
    alive_key,
    insight_key,
    make_settings,
    pull_key,
)
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.folder_lock import FolderInUse, FolderLock

T = TypeVar("T")

_REMOTE = zenoh.Locality.REMOTE  # excludes own publications and queries
_CLOSE_S = 3.0  # after which closing continues in its thread
_OPEN_S = 10.0
_REOPEN_S = 2.0
_REPLY_BYTES = 4 << 20  # accepted from one peer for one query
_INBOX_ITEMS, _INBOX_BYTES = 4096, 2 << 20  # queued for one peer
_QUERIES = 4  # queued for one peer

_log = logging.getLogger(__name__)


class ZenohTransport:
    """Carries bytes between the peers of a roster; see ``Transport``.

    Attributes:
      certificate_ends: of the own certificate, in seconds since 1970.

    Args:
      folder: of the peer's identity, as ``launch.make_identity`` writes it.
      listen: HOST:PORT to accept connections at.
      connect: HOST:PORT of the other peers. Peers do not relay: each pair needs a
        connection.

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
        self._folder, self._key = folder, bytes(roster.keys[self.name])
        self.certificate_ends = certificate_ends(folder).timestamp()
        self._listen, self._connect = tuple(listen), tuple(connect)
        self._lock: FolderLock | None = None
        self._links = Links()
        self._watch: asyncio.Task[None] | None = None
        self._config = make_settings(folder, self.name, roster, listen, connect)
        self._session: zenoh.Session | None = None
        self._publisher: zenoh.Publisher | None = None
        self._hello = ""
        # Written by zenoh's threads.
        self._alive = dict.fromkeys(self._others, False)
        self._hellos: dict[str, str] = {}
        self._replying: set[str] = set()  # requesters whose replies are being sent
        self._dropped = 0
        self._inboxes: tuple[Inbox[bytes], Inbox[zenoh.Query]] | None = None

    @property
    def dropped(self) -> int:
        """Inbound messages and queries that were dropped."""
        return self._dropped + sum(inbox.dropped for inbox in self._inboxes or ())

    def announce(self, hello: str) -> None:
        """States the hello; see ``protocol.hello`` for what it comes with."""
        self._hello = hello

    async def open(self, on_message: OnMessage, on_query: OnQuery) -> None:
        """Starts to accept and make connections; other peers may come later.

        Raises:
          ConfigError: an endpoint is in use, or another process runs this identity.
        """
        if self._session is not None:
            return
        self._lock = self._lock_identity()
        loop = asyncio.get_running_loop()
        messages = Inbox(
            loop,
            self._others,
            on_message,
            max_items=_INBOX_ITEMS,
            max_bytes=_INBOX_BYTES,
        )

        def reply(source: str, query: zenoh.Query) -> None:
            self._reply(source, query, on_query)

        queries = Inbox(
            loop,
            self._others,
            reply,
            max_items=_QUERIES,
            max_bytes=2 * _QUERIES * MAX_BYTES,
        )
        self._inboxes = messages, queries
        try:
            await self._open_session()
        except ConfigError:
            self._lock.release()
            raise
        watch = LinkWatch(
            self._folder, self._connect, self._away, self.receivers, self._reopen
        )
        self._watch = asyncio.create_task(watch.run())

    async def close(self) -> None:
        """Ends the session; idempotent, and never waits for long."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})  # it may be opening a session
        for inbox in self._inboxes or ():
            inbox.close()
        await self._close_session()
        if self._lock is not None:
            self._lock.release()

    def _lock_identity(self) -> FolderLock:
        """One process of a machine runs an identity, in whichever folder it lies."""
        name = hashlib.sha256(self._key).hexdigest()[:32]
        user = Path(tempfile.gettempdir(), f"p2p_sac_jax-{os.geteuid()}")
        try:
            lock = FolderLock(user / name, "identity lock", mode=0o700)
        except FolderInUse as error:
            owner = str(error).partition(" is in use by ")[2]
            raise ConfigError(
                f"identity={str(self._folder)!r}: peer {self.name!r} already runs on"
                f" this machine, as {owner}"
            ) from error
        found = user.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            lock.release()
            raise ConfigError(f"{user} must belong to this user, and others not write")
        return lock

    async def _open_session(self) -> None:
        assert self._inboxes is not None
        messages, queries = self._inboxes
        self._alive = dict.fromkeys(self._others, False)
        self._hellos, self._links = {}, Links()  # of this session alone
        self.certificate_ends = certificate_ends(self._folder).timestamp()
        abandoned = threading.Event()

        def start() -> zenoh.Session:
            session = zenoh.open(self._config)
            if not abandoned.is_set():
                self._declare(session, messages, queries)
            if abandoned.is_set():  # too late: it would keep the address
                session.close()
            return session

        try:
            self._session = await in_thread(start, timeout_s=_OPEN_S)
        except (zenoh.ZError, TimeoutError) as error:
            reason = " ".join(str(error).split()) or "timed out"
            raise ConfigError(f"listen={','.join(self._listen)}: {reason}") from error
        finally:
            if self._session is None:
                abandoned.set()

    async def _reopen(self) -> None:
        """Connects anew under a fresh id; tries until it succeeds."""
        await self._close_session()
        while self._session is None:
            try:
                await self._open_session()
            except ConfigError as error:
                data = {"reason": str(error)}
                _log.error("not connected again", extra={"data": data})
                await asyncio.sleep(_REOPEN_S)

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        self._publisher = None
        if session is None:
            return
        try:
            await in_thread(session.close, timeout_s=_CLOSE_S)
        except (zenoh.ZError, TimeoutError) as error:
            _log.warning("zenoh did not close cleanly: %r", error)

    def publish(self, raw: bytes) -> bool:
        """Sends to every reachable peer without waiting; may drop."""
        if self._publisher is None or not self.reachable():
            return False
        try:
            self._publisher.put(raw, attachment=self._hello or None)
        except zenoh.ZError as error:
            _log.warning("zenoh did not publish: %s", error)
            return False
        return True

    async def query(self, peer: str, raw: bytes, timeout_s: float) -> list[bytes]:
        """Queries one peer; returns the replies that came in time."""
        session = self._session
        if session is None:
            return []
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        replies: list[bytes] = []
        free = _REPLY_BYTES

        def take(reply: zenoh.Reply) -> None:
            nonlocal free
            sample = reply.ok
            if sample is None or self._sender(sample, "pull") != peer:
                return
            self._greet(peer, sample.attachment)
            raw = _read(sample.payload)
            if raw and free >= len(raw):
                free -= len(raw)
                replies.append(raw)

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        def ask() -> None:
            session.get(
                pull_key(self._network, peer, self.name),
                zenoh.handlers.Callback(take, end, indirect=False),
                target=zenoh.QueryTarget.ALL,
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout_s,
                priority=zenoh.Priority.DATA_LOW,
                payload=raw,
                attachment=self._hello or None,
                allowed_destination=_REMOTE,
            )

        try:
            async with asyncio.timeout(timeout_s + 0.5):
                await in_thread(ask, timeout_s=timeout_s)
                await done.wait()
        except (zenoh.ZError, TimeoutError) as error:
            _log.warning("%s did not reply to a query: %r", peer, error)
        return list(replies)

    def reachable(self) -> dict[str, str]:
        """Peers that are connected now and their hellos, in the roster's order."""
        if self._session is None:
            return {}
        alive = (name for name in self._others if self._alive[name])
        return {name: self._hellos.get(name, "") for name in alive}

    def receivers(self) -> list[str]:
        """Peers that a published message goes to, by their certificates."""
        names = self._links.names() if self._session is not None else ()
        return [name for name in self._others if name in names]

    def _away(self) -> list[str]:
        return [name for name in self._others if not self._alive[name]]

    def _declare(
        self,
        session: zenoh.Session,
        messages: Inbox[bytes],
        queries: Inbox[zenoh.Query],
    ) -> None:
        """Registers zenoh's callbacks, which run in its threads and fill inboxes."""

        def on_sample(sample: zenoh.Sample) -> None:
            source = self._sender(sample, "insight")
            if source and sample.kind == zenoh.SampleKind.PUT:
                self._greet(source, sample.attachment)
                raw = _read(sample.payload)
                messages.push(source, raw, len(raw))

        def on_query(query: zenoh.Query) -> None:
            source = str(query.key_expr).rpartition("/")[2]
            if source in self._alive:
                self._greet(source, query.attachment)
            if not queries.push(source, query, len(query.payload or b"")):
                query.drop()

        def on_liveliness(sample: zenoh.Sample) -> None:
            if name := self._sender(sample, "alive"):
                self._alive[name] = sample.kind == zenoh.SampleKind.PUT
                if not self._alive[name]:  # it may come back with another one
                    self._hellos.pop(name, None)

        network = self._network
        self._publisher = session.declare_publisher(
            insight_key(network, self.name),
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.DATA,
            allowed_destination=_REMOTE,
        )
        session.info.declare_link_events_listener(
            _direct(self._links.take), history=True
        )
        liveliness = session.liveliness()
        for name in self._others:
            session.declare_subscriber(
                insight_key(network, name), _direct(on_sample), allowed_origin=_REMOTE
            )
            session.declare_queryable(
                pull_key(network, self.name, name),
                _direct(on_query),
                allowed_origin=_REMOTE,
            )
            liveliness.declare_subscriber(
                alive_key(network, name), _direct(on_liveliness), history=True
            )
        self._token = liveliness.declare_token(alive_key(network, self.name))

    def _reply(self, source: str, query: zenoh.Query, on_query: OnQuery) -> None:
        """On the event loop: finds the replies, which a thread sends."""
        if source in self._replying:  # one at a time bounds the threads
            self._dropped += 1
            query.drop()
            return
        loop = asyncio.get_running_loop()
        key = pull_key(self._network, self.name, source)

        def send() -> None:
            try:
                if hello:
                    query.reply(key, b"", attachment=hello)
                for raw in replies:
                    query.reply(key, raw)
            except zenoh.ZError as error:
                _log.warning("zenoh did not reply to %s: %s", source, error)
            finally:
                query.drop()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._replying.discard, source)

        # What a requester of another hello needs to know, though it is refused.
        hello = self._hello if self._hellos.get(source) != self._hello else ""
        try:
            replies = on_query(source, _read(query.payload))
        except Exception:
            query.drop()
            raise
        self._replying.add(source)
        threading.Thread(target=send, name=f"reply to {source}", daemon=True).start()

    def _greet(self, source: str, hello: zenoh.ZBytes | None) -> None:
        """Takes the hello that came with a message, query or reply."""
        if hello is not None and len(hello) <= MAX_HELLO:
            self._hellos[source] = bytes(hello).decode("ascii", "replace")

    def _sender(self, sample: zenoh.Sample, space: str) -> str:
        """The sender, by the key that access control guards; "" for other keys."""
        prefix, _, rest = str(sample.key_expr).partition(f"/{space}/")
        name = rest.partition("/")[0]
        known = prefix == f"p2p/{self._network}" and name in self._others
        return name if known else ""


def _direct(callback: Callable[[T], None]) -> zenoh.handlers.Callback[T]:
    """A callback in zenoh's own thread; an indirect one has an unbounded queue."""
    return zenoh.handlers.Callback(callback, indirect=False)


def _read(payload: zenoh.ZBytes | None) -> bytes:
    """The bytes, cut just above the largest message, so that they are refused."""
    return b"" if payload is None else bytes(payload)[: MAX_BYTES + 1]
