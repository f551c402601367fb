"""The signed messages of every sender that other peers may still request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice, zip_longest

from p2p_sac_jax.agent.protocol.sequence_set import Want

REPLY_MESSAGES = 512
REPLY_BYTES = 1 << 20


class _SenderLog:
    """Messages of one sender's newest epoch, first in, first out."""

    def __init__(self) -> None:
        self.epoch = 0
        self.raw: OrderedDict[int, bytes] = OrderedDict()  # by sequence
        self.size = 0  # bytes

    def clear(self, epoch: int) -> None:
        self.epoch, self.size = epoch, 0
        self.raw.clear()

    def drop_oldest(self) -> None:
        _, raw = self.raw.popitem(last=False)
        self.size -= len(raw)

    def missing(self, want: Want) -> Iterator[bytes]:
        """Stored messages that ``want`` asks for, oldest first."""
        if self.epoch < want.epoch:
            return
        ascending = sorted(self.raw)
        if self.epoch > want.epoch:
            yield from (self.raw[sequence] for sequence in ascending)
            return
        gaps = iter(want.gaps)
        first, last = next(gaps, (1, 0))
        for sequence in ascending:
            while sequence > last:
                gap = next(gaps, None)
                if gap is None:
                    return
                first, last = gap
            if sequence >= first:
                yield self.raw[sequence]


class MessageLog:
    """A bounded log for each sender, so that no sender displaces another's messages.

    Args:
      senders: whose messages are kept.
      messages: kept of each sender.
      size: bytes kept in all, an equal share for each sender.
    """

    def __init__(self, senders: Collection[str], messages: int, size: int) -> None:
        self._logs = {sender: _SenderLog() for sender in senders}
        self._messages = messages
        self._share = size // max(1, len(senders))

    def add(self, sender: str, epoch: int, sequence: int, raw: bytes) -> None:
        """Stores an authentic message; another epoch drops those of the last one."""
        log = self._logs[sender]
        if epoch != log.epoch:
            log.clear(epoch)
        if sequence in log.raw:
            return
        log.raw[sequence] = raw
        log.size += len(raw)
        while len(log.raw) > self._messages or log.size > self._share:
            log.drop_oldest()

    def missing(self, wants: Iterable[Want]) -> list[bytes]:
        """Stored messages that are wanted, senders in turn, each oldest first.

        Returns:
          At most ``REPLY_MESSAGES`` messages and ``REPLY_BYTES`` bytes; another
          request gets the rest.
        """
        each = [
            islice(self._logs[want.sender].missing(want), REPLY_MESSAGES)
            for want in {want.sender: want for want in wants}.values()
            if want.sender in self._logs
        ]
        found, size = [], 0
        for raw in chain.from_iterable(zip_longest(*each)):
            if raw is None:
                continue
            size += len(raw)
            if size > REPLY_BYTES or len(found) == REPLY_MESSAGES:
                break
            found.append(raw)
        return found

    def messages(self) -> int:
        """Number of messages stored."""
        return sum(len(log.raw) for log in self._logs.values())

    def size(self) -> int:
        """Bytes of messages stored."""
        return sum(log.size for log in self._logs.values())
