"""Makes keys and certificates for a network of peers, or adds peers to a network.

    p2p-sac-make-identity --folder=DIR --network=NAME --mode=MODE --names=a,b,c
                          [--hosts=a=a.example.org,b=10.0.0.7] [--days=365]

Writes DIR/authority (the certificate authority: keep it off the peers' machines),
DIR/roster.json (the members) and a folder for each peer, DIR/a and so on, to be copied
to its machine. Only the roster is ever overwritten, when it grows: copy it again to
the peers. --network and --mode may be left out where DIR has them.
"""

from __future__ import annotations

from pathlib import Path

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

PROGRAM = Program(__doc__)
_FOLDER = PROGRAM.string("folder", "", "folder of the network")
_NETWORK = PROGRAM.string("network", "", "name of the network")
_MODE = PROGRAM.string("mode", "", "private, consortium or public")
_NAMES = PROGRAM.strings("names", "names of the new peers, separated by commas")
_HOSTS = PROGRAM.strings(
    "hosts", "addresses beside localhost: NAME=HOST for one peer, HOST for all"
)
_DAYS = PROGRAM.number("days", 365.0, "days for which the certificates are valid")


@PROGRAM.main
def main() -> None:
    """Writes the folders and prints the roster."""
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
    main()
