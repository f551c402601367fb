"""Transport: raw bytes between peers, without any opinion of what they mean.

A transport may lose, delay, repeat and reorder. What a message has to satisfy, and how
the lost ones are found, stands above it, in ``network``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnMessage = Callable[[str, bytes], None]  # (source, raw)
OnQuery = Callable[[str, bytes], list[bytes]]  # (source or "", digest) -> raw messages


class Transport(Protocol):
    """What carries bytes between peers; every method on the event loop's thread.

    A ``source`` is the id of the peer that the transport vouches for: it comes from
    the connection (the common name of its certificate), never from the message.
    """

    name: str  # own peer id

    @property
    def dropped(self) -> int:
        """Inbound messages dropped because the consumer was slow."""
        ...

    async def open(self, on_message: OnMessage, on_query: OnQuery) -> None:
        """Starts to listen and to connect; returns whether or not others are there.

        Args:
          on_message: takes what others publish: the source, and the bytes.
          on_query: answers what others ask. Its source is "" where the transport
            does not know who asks.
        """
        ...

    async def close(self) -> None:
        """Stops for good or until the next ``open``; idempotent, never hangs."""
        ...

    def publish(self, raw: bytes) -> bool:
        """Sends to every reachable peer without ever blocking; may drop.

        Returns:
          False if nothing could be sent.
        """
        ...

    async def query(self, raw: bytes, timeout_s: float) -> list[tuple[str, bytes]]:
        """Asks every reachable peer.

        Args:
          raw: the question.
          timeout_s: answers that take longer are given up.

        Returns:
          All answers as (source, raw message), a pair for each message.
        """
        ...

    def reachable(self) -> list[str]:
        """Peers that are connected now, own name left out."""
        ...
