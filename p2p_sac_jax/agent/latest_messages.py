"""The latest word of every peer, and how a message falls into kinds and fields.

What a mode writes is one pytree; on the wire its demand travels as "market_insight"
and the rest as "model_insight".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.agent.protocol.envelope import Refusal
from p2p_sac_jax.agent.protocol.payloads import KINDS, MARKET, MODEL
from p2p_sac_jax.agent.protocol.peer_network import Delivery

_TIMES = ("timestamp", "time")  # fields that say when


class _Slot(NamedTuple):
    """Where one leaf of a message travels."""

    kind: str
    field: str
    shape: tuple[int, ...]


class LatestMessages:
    """Holds the newest message of each kind from each peer; memory is constant."""

    def __init__(self, wire: Any, peers: Sequence[str], name: str) -> None:
        """Opens an empty box.

        Args:
          wire: shapes of one peer's message.
          peers: the roster, J names.
          name: of its owner, whose own slot stays empty.
        """
        self._row = {peer: row for row, peer in enumerate(peers) if peer != name}
        flat, self._structure = jax.tree_util.tree_flatten_with_path(wire)
        self._slots = [_slot(path, leaf.shape) for path, leaf in flat]
        self._held = [
            np.zeros((len(peers), *slot.shape), np.float32) for slot in self._slots
        ]
        # Epoch and sequence of what is held; older messages may arrive later.
        self._stamps = np.full((len(peers), len(KINDS), 2), -1, np.int64)

    def take(self, delivery: Delivery, latest_s: float = math.inf) -> Refusal | None:
        """Keeps a message if it is the newest of its sender.

        Args:
          delivery: an authentic one, its content not yet looked at.
          latest_s: no time it claims counts as later than this, shared clock.

        Returns:
          None, or why the message cannot be used; then nothing has changed.
        """
        row = self._row.get(delivery.sender)
        if row is None:
            return Refusal.unknown_sender
        fields: dict[int, np.ndarray] = {}
        for index, slot in enumerate(self._slots):
            if slot.kind != delivery.kind:
                continue
            values = np.asarray(delivery.fields.get(slot.field, ()), np.float32)
            if values.size != math.prod(slot.shape):
                return Refusal.shape
            if slot.field in _TIMES:
                values = np.minimum(values, np.float32(latest_s))
            fields[index] = values.reshape(slot.shape)
        stamp = self._stamps[row, KINDS.index(delivery.kind)]
        if (delivery.epoch, delivery.sequence) > tuple(stamp):
            stamp[:] = delivery.epoch, delivery.sequence
            for index, values in fields.items():
                self._held[index][row] = values
        return None

    def wires(self) -> Any:
        """What is held, leaves [J, ...]; zeros from whom nothing was heard. A copy."""
        copies = [held.copy() for held in self._held]
        return jax.tree.unflatten(self._structure, copies)

    def split(self, wire: Any) -> dict[str, dict[str, np.ndarray]]:
        """One own message by kind and field; kinds without fields are left out."""
        kinds: dict[str, dict[str, np.ndarray]] = {}
        for slot, leaf in zip(self._slots, jax.tree.leaves(wire), strict=True):
            kinds.setdefault(slot.kind, {})[slot.field] = np.asarray(leaf)
        return kinds

    @property
    def content(self) -> dict[str, Any]:
        """All it holds, to be saved; views."""
        return {"held": dict(enumerate_names(self._held)), "stamps": self._stamps}

    def restore(self, content: Mapping[str, Any]) -> None:
        """Takes ``content`` back, from a box of the same shapes."""
        for name, held in enumerate_names(self._held):
            held[...] = content["held"][name]
        self._stamps[...] = content["stamps"]


def enumerate_names(leaves: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Leaves with a name each, for a checkpoint."""
    return [(str(index), leaf) for index, leaf in enumerate(leaves)]


def _slot(path: Any, shape: tuple[int, ...]) -> _Slot:
    """``demand.shift`` and ``demand_mean`` are of the market, all else of the model."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    if name.startswith("demand"):
        return _Slot(MARKET, name.removeprefix("demand")[1:], shape)
    return _Slot(MODEL, name.removeprefix("insight."), shape)
