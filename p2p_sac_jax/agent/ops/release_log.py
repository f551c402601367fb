"""Record of the messages that an agent has sent with the noise of its mode.

The noise of a round follows from the round's number. Two messages of one round with
different data would cancel the noise, and a forgotten budget would be overspent. Both
are therefore recorded before a message leaves, apart from the state, which may be
older.
"""

from __future__ import annotations

import json
from pathlib import Path

from p2p_sac_jax.agent.ops.state_file import write_durable
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.files import load_json
from p2p_sac_jax.privacy.accountant import UNLIMITED, PrivacyAccountant

_FILE = "releases.json"


class ReleaseLog:
    """The last round used, and the number of messages sent."""

    def __init__(
        self,
        config: TrainConfig,
        accountant: PrivacyAccountant,
        folder: Path | None,
        connected: bool,
    ) -> None:
        """Reads what earlier processes of the agent have recorded.

        Args:
          config: ``exchange.mode`` is read.
          accountant: of the agent.
          folder: of the agent; None records nothing.
          connected: whether the agent has any receivers.

        Raises:
          ConfigError: noise without a folder, or an unreadable file.
        """
        self.noised = config.exchange.mode != "private"
        if self.noised and connected and folder is None:
            raise ConfigError(
                f"folder=None must be a folder with exchange.mode="
                f"{config.exchange.mode!r}: noise must not be used twice"
            )
        self.allowed = min(accountant.allowed, UNLIMITED)
        self._connected = connected
        self._path = None if folder is None else folder / _FILE
        self._last, self.spent = -1, 0
        if self.noised and self._path is not None and self._path.exists():
            used = load_json(self._path)
            if not all(type(used.get(key)) is int for key in ("round", "releases")):
                raise ConfigError(f"{str(self._path)!r} must hold round and releases")
            self._last, self.spent = used["round"], used["releases"]

    def may_send(self, round_index: int) -> bool:
        """Whether there are receivers and the noise of this round was never used."""
        return self._connected and (not self.noised or self._last < round_index)

    def record(self, round_index: int, releases: int) -> None:
        """Records that this round is used; only then may its message leave.

        Raises:
          OSError: the write failed; the message must not leave.
        """
        if self.noised:
            self._last, self.spent = round_index, releases
            if self._path is not None:
                content = {"round": round_index, "releases": releases}
                write_durable(self._path, json.dumps(content).encode() + b"\n")
