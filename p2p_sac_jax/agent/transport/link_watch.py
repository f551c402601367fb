"""Who is connected by certificate, why others are not, and what can be done.

zenoh does not bind the random id of a session to a certificate: a member that connects
first under another's id keeps it from connecting. A peer that is refused so for longer
than zenoh waits between two attempts, though its certificate is accepted, takes a fresh
id.

zenoh checks certificates when a connection opens, and no later. A peer therefore
reopens its connections when its own certificate ends, and every day.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import zenoh

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.protocol.delivery import in_thread
from p2p_sac_jax.config import ConfigError

WARN_DAYS = 30  # before a certificate ends
LOOK_S = 2.0
PATIENCE_S, MAX_PAUSE_S = 12.0, 600.0  # before the first look at a peer, and the next
RETRY_S = 6.0  # in which zenoh has tried again
_PROBE_S = 3.0
_DAY_S = 86_400.0
_NAME = "commonName"

_log = logging.getLogger(__name__)


class Links:
    """Names in the certificates at the other ends of the open connections."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, str], str] = {}
        self._lock = threading.Lock()

    def take(self, event: zenoh.LinkEvent) -> None:
        """Takes an event, in zenoh's thread."""
        link = event.link
        place = str(link.zid), link.src, link.dst
        with self._lock:
            if event.kind == zenoh.SampleKind.PUT:
                self._names[place] = link.auth_identifier or ""
            else:
                self._names.pop(place, None)

    def names(self) -> set[str]:
        """All names."""
        with self._lock:
            return set(self._names.values())


class Answer(NamedTuple):
    """What a probe found at an endpoint."""

    name: str  # in the certificate; "" if there is none that is valid
    reason: str  # why there is no connection; "" if TLS accepts both certificates


def probe(folder: Path, endpoint: str) -> Answer:
    """Opens and closes a TLS connection to HOST:PORT, as zenoh would."""
    host, _, port = endpoint.rpartition(":")
    host, name = host.strip("[]"), ""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(folder / files.CERTIFICATE, folder / files.TLS_KEY)
        context.load_verify_locations(folder / files.AUTHORITY)
        with (
            socket.create_connection((host, int(port)), _PROBE_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secure,
        ):
            subject = (secure.getpeercert() or {}).get("subject", ())
            name = next(str(v) for part in subject for k, v in part if k == _NAME)
            secure.settimeout(_PROBE_S / 2)
            secure.recv(1)  # a refusal of the own certificate comes now
            return Answer(name, "the connection was closed")
    except TimeoutError:
        return Answer(name, "" if name else "no answer")
    except ssl.SSLCertVerificationError as error:
        return Answer(name, f"its certificate is refused: {error.verify_message}")
    except ssl.SSLError as error:
        return Answer(name, f"it refuses the own certificate, or TLS: {error.reason}")
    except OSError as error:
        return Answer(name, error.strerror or str(error))


class _Look(NamedTuple):
    """When to look at a peer that is away, and the pause before."""

    due_s: float
    pause_s: float


class LinkWatch:
    """Looks after the connections of one peer until it is cancelled.

    Args:
      folder: of the peer's identity.
      connect: HOST:PORT of the others.
      away: names of peers that are not reachable now.
      linked: names of peers with an open connection.
      reopen: closes all connections and connects under a fresh id.
    """

    def __init__(
        self,
        folder: Path,
        connect: Sequence[str],
        away: Callable[[], Sequence[str]],
        linked: Callable[[], Sequence[str]],
        reopen: Callable[[], Awaitable[None]],
    ) -> None:
        self._folder, self._connect = folder, connect
        self._away, self._linked, self._reopen = away, linked, reopen
        self._looks: dict[str, _Look] = {}  # by name of a peer that is away
        self._accepted: set[str] = set()  # by a probe at the last look
        self._reasons: dict[str, str] = {}  # by endpoint
        self._ends = files.certificate_ends(folder)
        self._warned_of = -1  # days left

    async def run(self) -> None:
        """Looks every few seconds."""
        _log.info("certificate", extra={"data": {"until": str(self._ends)}})
        reopen_s = time.monotonic() + _DAY_S
        while True:
            try:
                await self._look_at_certificate()
                await self._look_at_peers()
                if time.monotonic() > reopen_s:
                    reopen_s = time.monotonic() + _DAY_S * random.uniform(0.9, 1.1)
                    await self._reopen()
            except Exception:
                _log.exception("connections could not be looked after")
            await asyncio.sleep(LOOK_S)

    async def _look_at_certificate(self) -> None:
        try:
            ends = files.certificate_ends(self._folder)
            if ends != self._ends:
                files.load_identity(self._folder)  # complete and valid
                _log.info("certificate renewed", extra={"data": {"until": str(ends)}})
                self._ends, self._warned_of = ends, -1
                await self._reopen()
        except ConfigError:
            pass  # files are being replaced, or of no use: the old certificate counts
        left_s = (self._ends - datetime.now(UTC)).total_seconds()
        days = math.ceil(left_s / _DAY_S)  # 0 or less once it has ended
        if days <= WARN_DAYS and max(0, days) != self._warned_of:
            self._warned_of = max(0, days)
            data = {"until": str(self._ends), "days": self._warned_of}
            if days > 0:
                _log.warning("certificate ends soon", extra={"data": data})
            else:
                _log.error("certificate has ended", extra={"data": data})
                await self._reopen()  # the others refuse it from now on

    async def _look_at_peers(self) -> None:
        now_s = time.monotonic()
        first = _Look(now_s + PATIENCE_S, PATIENCE_S)
        self._looks = {name: self._looks.get(name, first) for name in self._away()}
        self._accepted &= self._looks.keys()
        late = {name for name, look in self._looks.items() if look.due_s <= now_s}
        if not late:
            return
        for name in late:
            pause_s = min(2 * self._looks[name].pause_s, MAX_PAUSE_S)
            due_s = now_s + pause_s * random.uniform(0.5, 1.0)
            self._looks[name] = _Look(due_s, pause_s)
        accepted = set()
        for endpoint in self._connect:
            answer = await in_thread(probe, self._folder, endpoint)
            if not answer.reason:
                accepted.add(answer.name)
            self._say(endpoint, answer)
        accepted &= late & (set(self._away()) - set(self._linked()))
        refused = accepted & self._accepted
        self._accepted = (self._accepted - late) | (accepted - refused)
        for name in accepted - refused:  # it may have started just now
            pause_s = self._looks[name].pause_s
            self._looks[name] = _Look(time.monotonic() + RETRY_S, pause_s)
        if refused:
            data = {"peers": sorted(refused)}
            _log.warning("connecting under a fresh id", extra={"data": data})
            await self._reopen()

    def _say(self, endpoint: str, answer: Answer) -> None:
        """Logs the reason of an endpoint, once."""
        if answer.reason and self._reasons.get(endpoint) != answer.reason:
            data = {"peer": answer.name, "endpoint": endpoint, "reason": answer.reason}
            subject = "certificate" if "certificate" in answer.reason else "address"
            _log.warning("no connection: %s", subject, extra={"data": data})
        self._reasons[endpoint] = answer.reason
