"""An agent as arrays by name: what it is itself, and row by row what others are to it.

Rosters change while agents live on. What is about others is therefore found again by
the names of the peers, never by their numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from p2p_sac_jax.agent.core import AgentState
from p2p_sac_jax.agent.storage import flatten, unflatten

OTHERS = "others."  # arrays whose first axis are the peers of the roster, J


class Progress(NamedTuple):
    """Where an agent is between two calls; NumPy, saved with the rest."""

    listened: np.ndarray  # [] last round it listened in, -1 before the first
    send_result: np.ndarray  # [] last round it had its turn to speak in
    studied: np.ndarray  # [] calls of ``train`` since the last step
    waiting: np.ndarray  # [] bool: an action was chosen and not yet observed
    obs: np.ndarray  # [D] in which it was chosen


class Saved(NamedTuple):
    """All that an agent carries."""

    agent_state: AgentState
    progress: Progress
    heard: dict[str, Any]  # of its mailbox, leaves [J, ...]

    def arrays(self, peers: Sequence[str]) -> dict[str, np.ndarray]:
        """Everything by name; ``peers`` are the J names of the roster."""
        names = [hashlib.sha256(peer.encode()).digest() for peer in peers]
        others = {
            "names": np.frombuffer(b"".join(names), np.uint8).reshape(len(peers), -1),
            "trust": self.agent_state.peer.trust,
            "heard": self.heard,
        }
        itself = self._replace(agent_state=_trusting(self.agent_state, ()), heard={})
        return flatten(itself._asdict() | {"others": others})

    def restored(self, arrays: Mapping[str, np.ndarray], peers: Sequence[str]) -> Saved:
        """What ``arrays`` of an earlier roster are in that of now.

        Who is new keeps what stands here, who is gone is dropped. Trust in those who
        stay keeps its size relative to an equal share of it, 1/J.

        Args:
          arrays: made by ``arrays``, rows under ``OTHERS`` of any peers.
          peers: the J names of now, in the order of the rows here.
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
        others = {"trust": self.agent_state.peer.trust, "heard": self.heard}
        like = self._replace(agent_state=_trusting(self.agent_state, ()), heard={})
        found = unflatten(like._asdict() | {"others": others}, mapped)
        agent_state = _trusting(found["agent_state"], found["others"]["trust"])
        return Saved(agent_state, found["progress"], found["others"]["heard"])


def _trusting(agent_state: AgentState, trust: Any) -> AgentState:
    return agent_state._replace(peer=agent_state.peer._replace(trust=trust))
