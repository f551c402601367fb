"""An agent's state as arrays by name, including one row for each other peer.

The roster may change between two starts of an agent. Rows of other peers are therefore
matched by the peers' names, never by their numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from p2p_sac_jax.agent.core import AgentState

OTHERS = "others."  # prefix of arrays whose first axis is the roster, J


class Progress(NamedTuple):
    """Position of an agent between two calls; NumPy, saved with the rest."""

    obs: np.ndarray  # [D] observation of the last action
    # [] last round whose messages were read, and whose own was due; -1: none yet
    exchanged: np.ndarray = np.array(-1)
    shared: np.ndarray = np.array(-1)
    train_calls: np.ndarray = np.array(0)  # [] since the last step
    # [] whether an action was selected and not yet observed
    pending: np.ndarray = np.array(False)

    def moved(self, round_index: int) -> Progress:
        """In another round, where the clock was set on or back."""
        shared = np.array(min(int(self.shared), round_index))
        return self._replace(pending=np.array(False), shared=shared)


class SavedState(NamedTuple):
    """Everything that an agent saves."""

    agent_state: AgentState
    progress: Progress
    messages: dict[str, Any]  # ``LatestMessages.content``, leaves [J, ...]

    def arrays(self, peers: Sequence[str]) -> dict[str, np.ndarray]:
        """All arrays by name; ``peers`` are the J names of the roster."""
        names = [hashlib.sha256(peer.encode()).digest() for peer in peers]
        hashes = np.frombuffer(b"".join(names), np.uint8).reshape(len(peers), -1)
        return _flatten(self._tree() | {"others": self._others() | {"names": hashes}})

    def restored(
        self, arrays: Mapping[str, np.ndarray], peers: Sequence[str]
    ) -> SavedState:
        """A saved state, its rows rearranged for the present roster.

        New peers keep the rows of ``self``, removed peers are dropped. Trust in the
        remaining ones keeps its size relative to an equal share, 1/J.

        Args:
          arrays: from ``arrays``, with any rows under ``OTHERS``.
          peers: the J present names, in the order of the rows of ``self``.
        """
        here = self.arrays(peers)
        then = [row.tobytes() for row in arrays[OTHERS + "names"]]
        now = [row.tobytes() for row in here[OTHERS + "names"]]
        stay = [row for row, name in enumerate(now) if name in then]
        old = [then.index(now[row]) for row in stay]
        mapped = dict(arrays)
        for name in here:
            if name.startswith(OTHERS):
                here[name][stay] = arrays[name][old]
                mapped[name] = here[name]
        mapped[OTHERS + "trust"][stay] *= np.float32(len(then) / len(now))
        like = self._tree() | {"others": self._others()}
        leaves = [mapped[name] for name in _flatten(like)]
        found = jax.tree.unflatten(jax.tree.structure(like), leaves)
        agent_state = _with_trust(found["agent_state"], found["others"]["trust"])
        return SavedState(agent_state, found["progress"], found["others"]["messages"])

    def _tree(self) -> dict[str, Any]:
        agent_state = _with_trust(self.agent_state, ())
        return {"agent_state": agent_state, "progress": self.progress}

    def _others(self) -> dict[str, Any]:
        return {"trust": self.agent_state.peer.trust, "messages": self.messages}


def _with_trust(agent_state: AgentState, trust: Any) -> AgentState:
    return agent_state._replace(peer=agent_state.peer._replace(trust=trust))


def _flatten(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all leaves by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.array(leaf)
        for path, leaf in leaves
    }
