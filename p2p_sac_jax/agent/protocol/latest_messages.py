"""The latest message of every peer, as arrays that the exchange reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.payloads import KINDS, TIMES, split_path
from p2p_sac_jax.agent.protocol.refusals import Refusal


class _Slot(NamedTuple):
    """Kind, field and shape of one leaf of a message."""

    kind: str
    field: str
    shape: tuple[int, ...]


class LatestMessages:
    """Holds the newest message of each kind from each peer; memory is constant.

    Attributes:
      layout: kind, field and shape of the leaves of a message.
    """

    def __init__(self, message: Any, peers: Sequence[str], name: str) -> None:
        """Starts with zeros for every peer.

        Args:
          message: shapes of one peer's message.
          peers: the roster, J names.
          name: of the owner, whose own row stays zero.
        """
        self._row = {peer: row for row, peer in enumerate(peers) if peer != name}
        flat, self._structure = jax.tree_util.tree_flatten_with_path(message)
        keystr = jax.tree_util.keystr
        self.layout = [
            _Slot(*split_path(keystr(path, simple=True, separator=".")), leaf.shape)
            for path, leaf in flat
        ]
        self._latest = [
            np.zeros((len(peers), *slot.shape), np.float32) for slot in self.layout
        ]
        # Epoch and sequence of the stored messages; older ones may arrive later.
        self._stamps = np.full((len(peers), len(KINDS), 2), -1, np.int64)

    def take(self, delivery: Delivery, latest_s: float = math.inf) -> Refusal | None:
        """Stores a message if it is the newest of its sender's start.

        Args:
          delivery: an authentic message with unchecked content.
          latest_s: times in the message count as at most this, shared clock.

        Returns:
          None, or why the message cannot be used; then nothing has changed.
        """
        row = self._row.get(delivery.sender)
        if row is None:
            return Refusal.unknown_sender
        fields: dict[int, np.ndarray] = {}
        for index, slot in enumerate(self.layout):
            if slot.kind != delivery.kind:
                continue
            values = np.asarray(delivery.fields.get(slot.field, ()), np.float32)
            if values.size != math.prod(slot.shape):
                return Refusal.shape
            if slot.field in TIMES:
                values = np.minimum(values, np.float32(latest_s))
            fields[index] = values.reshape(slot.shape)
        stamp = self._stamps[row, KINDS.index(delivery.kind)]
        if delivery.epoch != stamp[0] or delivery.sequence > stamp[1]:
            stamp[:] = delivery.epoch, delivery.sequence
            for index, values in fields.items():
                self._latest[index][row] = values
        return None

    def messages(self) -> Any:
        """Copies of the messages, leaves [J, ...]; zeros for peers without one."""
        copies = [leaf.copy() for leaf in self._latest]
        return jax.tree.unflatten(self._structure, copies)

    def split(self, message: Any) -> dict[str, dict[str, np.ndarray]]:
        """One own message by kind and field; kinds without fields are left out."""
        kinds: dict[str, dict[str, np.ndarray]] = {}
        for slot, leaf in zip(self.layout, jax.tree.leaves(message), strict=True):
            kinds.setdefault(slot.kind, {})[slot.field] = np.asarray(leaf)
        return kinds

    @property
    def content(self) -> dict[str, np.ndarray]:
        """All arrays by name, leaves [J, ...], to be saved; views."""
        return {str(index): leaf for index, leaf in enumerate(self._latest)} | {
            "stamps": self._stamps
        }

    def restore(self, content: Mapping[str, np.ndarray]) -> None:
        """Takes over the ``content`` of an object of the same shapes."""
        for name, leaf in self.content.items():
            leaf[...] = content[name]
