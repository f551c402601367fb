"""Makes keys and certificates for a network of peers, or adds peers to one.

    python -m launch.make_identity --folder=DIR --network=NAME --mode=consortium
                                   --names=a,b,c [--hosts=a=a.example.org,b=10.0.0.7]
                                   [--days=365]

Writes DIR/authority (the certificate authority: keep it off the peers' machines),
DIR/roster.json (who may speak) and a folder of each peer, DIR/a and so on, to be
copied to its machine. --hosts is where others reach them: NAME=HOST is one peer's, a
plain HOST is for all of --names. Nothing is ever overwritten but the roster, which
grows: copy it again to peers that have moved. --network and --mode may be left out
where DIR has them.
Exits 0 if done, 2 with one line on stderr after a user error.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags

from p2p_sac_jax.commands import flags
from p2p_sac_jax.config import ConfigError

_FOLDER = absl_flags.DEFINE_string("folder", "", "folder of the network")
_NETWORK = absl_flags.DEFINE_string("network", "", "name of the network")
_MODE = absl_flags.DEFINE_string("mode", "", "private, consortium or public")
_NAMES = absl_flags.DEFINE_list("names", [], "names of the new peers, by comma")
_HOSTS = absl_flags.DEFINE_list(
    "hosts",
    [],
    "NAME=HOST or HOST (for all), names and addresses beside localhost, by comma",
)
_DAYS = absl_flags.DEFINE_float("days", 365.0, "for which the certificates are good")


def main(argv: list[str]) -> None:
    """Writes the folders and says who is in the roster."""
    del argv
    from p2p_sac_jax.agent.ops.authority import write_network

    for flag in (_FOLDER, _NAMES):
        if not flag.value:
            raise ConfigError(f"--{flag.name} is missing")
    if not 0 < _DAYS.value <= 3650:
        raise ConfigError(f"--days={_DAYS.value:g} must be in (0, 3650]")
    roster = write_network(
        Path(_FOLDER.value),
        _NETWORK.value,
        _MODE.value,
        _NAMES.value,
        hosts=_HOSTS.value,
        days=_DAYS.value,
    )
    print(f"{roster.network} ({roster.mode}): {', '.join(roster.keys)}")


if __name__ == "__main__":
    flags.run(main)
