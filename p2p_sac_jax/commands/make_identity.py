"""Makes keys and certificates for a network of peers, or adds peers to a network.

    p2p-sac-make-identity --folder=DIR --network=NAME --mode=MODE --names=a,b,c
                          [--hosts=a=a.example.org,b=10.0.0.7] [--days=365]
    p2p-sac-make-identity --folder=DIR --renew=a,b | --renew-all | --remove=c

Writes DIR/authority (the certificate authority: keep it off the peers' machines),
DIR/roster.json (the members) and a folder for each peer, DIR/a and so on, to be copied
to its machine. --network and --mode may be left out where DIR has them. Nothing but the
roster is overwritten: copy it again to the peers when peers are added or removed.

--renew issues new certificates under the same names and keys, before the old ones end:
copy DIR/a over the folder on the machine of a; a peer that runs takes it.
"""

from __future__ import annotations

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

PROGRAM = Program(__doc__)
_FOLDER = PROGRAM.path("folder", "", "folder of the network")
_NETWORK = PROGRAM.string("network", "", "name of the network")
_MODE = PROGRAM.string("mode", "", "private, consortium or public")
_NAMES = PROGRAM.strings("names", "names of the new peers, separated by commas")
_HOSTS = PROGRAM.strings(
    "hosts", "addresses beside localhost: NAME=HOST for one peer, HOST for all"
)
_DAYS = PROGRAM.number("days", 365.0, "days for which the certificates are valid")
_RENEW = PROGRAM.strings("renew", "names of peers that get a new certificate")
_RENEW_ALL = PROGRAM.boolean("renew-all", False, "new certificates for all peers")
_REMOVE = PROGRAM.strings("remove", "names of peers to remove from the roster")


@PROGRAM.main
def main() -> None:
    """Writes the folders and prints what is in them."""
    from p2p_sac_jax.agent.ops import identity as files
    from p2p_sac_jax.agent.ops.authority import remove, renew, write_network
    from p2p_sac_jax.exchange.messages import MODES

    if not _FOLDER.value:
        raise ConfigError("--folder is missing")
    chosen = [flag for flag in (_NAMES, _RENEW, _RENEW_ALL, _REMOVE) if flag.value]
    if len(chosen) != 1:
        flags = " and ".join(f"--{flag.name}" for flag in chosen)
        what = f"{flags} must not be given together" if flags else "--names is missing"
        raise ConfigError(what)
    if not 0 < _DAYS.value <= 3650:
        raise ConfigError(f"--days={_DAYS.value:g} must be in (0, 3650]")
    folder, validity = _FOLDER.value, {"hosts": _HOSTS.value, "days": _DAYS.value}
    if _RENEW.value or _RENEW_ALL.value:
        names = renew(folder, _RENEW.value, **validity)
        print(f"renewed for {_DAYS.value:g} days: {', '.join(names)}")
        return
    if _REMOVE.value:
        roster = remove(folder, _REMOVE.value)
    else:
        network, mode = _NETWORK.value, _MODE.value
        if not (folder / files.ROSTER).exists():  # a new network
            if not network:
                raise ConfigError("--network is missing: the name of the network")
            if not mode:
                raise ConfigError(f"--mode is missing: one of {', '.join(MODES)}")
        roster = write_network(folder, network, mode, _NAMES.value, **validity)
    print(f"{roster.network} ({roster.mode}): {', '.join(roster.keys)}")


if __name__ == "__main__":
    main()
