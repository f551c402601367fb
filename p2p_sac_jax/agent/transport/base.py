"""Interface of a transport: raw bytes between peers, without knowledge of content.

A transport may lose, delay, repeat and reorder messages. ``protocol`` checks them and
finds the lost ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnMessage = Callable[[str, bytes], None]  # (source, raw)
OnQuery = Callable[[str, bytes], list[bytes]]  # (source or "", digest) -> raw messages


class Transport(Protocol):
    """Carries bytes between peers; every method runs on the event loop's thread.

    A ``source`` is the peer id that the transport authenticates: it comes from the
    connection (the common name of its certificate), never from the message.
    """

    name: str  # own peer id

    @property
    def dropped(self) -> int:
        """Inbound messages dropped because the consumer was slow."""
        ...

    def announce(self, hello: str) -> None:
        """States the hello: what others learn of this peer; it may change."""
        ...

    async def open(self, on_message: OnMessage, on_query: OnQuery) -> None:
        """Starts to accept and make connections; other peers may come later.

        Args:
          on_message: takes published messages: the source, and the bytes.
          on_query: replies to queries. The source is "" if the transport does not
            know it.
        """
        ...

    async def close(self) -> None:
        """Stops for good or until the next ``open``; idempotent, never hangs."""
        ...

    def publish(self, raw: bytes) -> bool:
        """Sends to every reachable peer without blocking; may drop.

        Returns:
          False if nothing could be sent.
        """
        ...

    async def query(self, peer: str, raw: bytes, timeout_s: float) -> list[bytes]:
        """Queries one peer.

        Args:
          peer: that replies.
          raw: the query.
          timeout_s: later replies are ignored.

        Returns:
          Its replies, raw messages.
        """
        ...

    def reachable(self) -> dict[str, str]:
        """Peers that are connected now and their hellos, own name left out.

        A hello is "" where none has come.
        """
        ...

    def receivers(self) -> list[str]:
        """Peers that a published message may reach, whether they say so or not."""
        ...
