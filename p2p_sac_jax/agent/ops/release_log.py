"""Record of the messages that an agent has sent with the noise of its mode.

The noise of a round follows from the round's number. Two messages of one round with
different data would cancel the noise, and a forgotten budget would be overspent. Both
are therefore recorded before a message leaves, apart from the state, which may be
older. So is what the noise is made with: later messages of a stream hold the draws of
earlier ones, and only one factor and one size of them make the guarantee.
"""

from __future__ import annotations

from pathlib import Path

from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.exchange.messages.base import rounds
from p2p_sac_jax.files import load_json, save_json
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
          config: ``exchange.mode`` and what noise is made with are read.
          accountant: of the agent.
          folder: of the agent; None records nothing.
          connected: whether the agent has any receivers.

        Raises:
          ConfigError: noise without a folder, an unreadable file, or a stream of
            noise that would go on with other settings.
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
        self._noise = _noise(config)
        self._last, self.spent = -1, 0
        if self.noised and self._path is not None and self._path.exists():
            used = load_json(self._path)
            if not all(type(used.get(key)) is int for key in ("round", "releases")):
                raise ConfigError(f"{str(self._path)!r} must hold round and releases")
            before = used.get("noise", self._noise)
            if before != self._noise:
                raise ConfigError(
                    f"{str(self._path)!r}: earlier messages were noised with {before},"
                    f" now {self._noise}; their noise goes on in later ones, so this"
                    " must not change"
                )
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
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = {"round": round_index, "releases": releases}
                save_json(self._path, content | {"noise": self._noise}, 0o600)


def _noise(config: TrainConfig) -> str:
    """What must stay as it is while noise of earlier messages is in later ones."""
    privacy = config.privacy
    if privacy.release != "matrix":
        return f"privacy.release={privacy.release}"
    return (
        f"privacy.release=matrix, privacy.demand_noise={privacy.demand_noise:g},"
        f" steps // exchange.interval={rounds(config)}"
    )
