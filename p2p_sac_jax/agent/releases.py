"""What an agent has told under the noise of its mode, remembered across crashes.

The noise of a round is drawn from its number. Told twice with different data it
would cancel out, and a budget forgotten is a budget overspent; so both are written
down before anything leaves, apart from the state, which may be older.
"""

from __future__ import annotations

from pathlib import Path

from p2p_sac_jax.agent.storage import write_json
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import load_json
from p2p_sac_jax.privacy.accountant import UNLIMITED, PrivacyAccountant

_FILE = "releases.json"


class Releases:
    """The round used last, and how many messages have left."""

    def __init__(
        self,
        config: TrainConfig,
        accountant: PrivacyAccountant,
        folder: Path | None,
        connected: bool,
    ) -> None:
        """Reads what earlier lives of the agent have told.

        Args:
          config: ``exchange`` and ``steps``, for which noise is made.
          accountant: of the agent.
          folder: of the agent; None remembers nothing.
          connected: whether there is anybody to tell.

        Raises:
          ConfigError: noise without a folder, or a file that cannot be read.
        """
        self.noised = config.exchange.mode != "private"
        if self.noised and connected and folder is None:
            raise ConfigError(
                f"folder=None must be a folder with exchange.mode="
                f"{config.exchange.mode!r}: noise must not be used twice"
            )
        self.allowed = min(accountant.allowed, UNLIMITED)
        self._rounds = config.steps // config.exchange.interval
        self._connected = connected
        self._path = None if folder is None else folder / _FILE
        self._last, self.spent = -1, 0
        if self.noised and self._path is not None and self._path.exists():
            told = load_json(self._path)
            if not all(type(told.get(key)) is int for key in ("round", "releases")):
                raise ConfigError(f"{str(self._path)!r} must hold round and releases")
            self._last, self.spent = told["round"], told["releases"]

    def may_send(self, round_index: int) -> bool:
        """Whether the noise of this round exists and was never used."""
        if not self.noised:
            return self._connected
        return self._connected and self._last < round_index < self._rounds

    def use(self, round_index: int, releases: int) -> None:
        """Writes down that this round is used; only then may the message leave.

        Raises:
          OSError: the disk does not take it: nothing may leave.
        """
        if self.noised:
            self._last, self.spent = round_index, releases
            if self._path is not None:
                content = {"round": round_index, "releases": releases}
                write_json(self._path, content)
