"""Keys, rosters and certificates: valid ones fit together, others get one line."""

from __future__ import annotations

import datetime
import json
import ssl
import stat
import subprocess
import sys
from collections import Counter

import pytest
from nacl.signing import SigningKey

from p2p_sac_jax.agent.ops import authority
from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.authority import (
    FOLDER,
    Authority,
    dump_certificate,
    dump_key,
    issue,
    make_authority,
    open_authority,
    write_network,
)
from p2p_sac_jax.agent.ops.identity import (
    Identity,
    load_identity,
    load_roster,
    make_identity,
    make_roster,
)
from p2p_sac_jax.config import ConfigError
from tests.helpers.certificates import handshake, own_hosts
from tests.helpers.commands import run_each

NAMES = ("ada", "bob", "cyd")


@pytest.fixture
def network(tmp_path):
    folder = tmp_path / "network"
    write_network(folder, "shops", "consortium", NAMES)
    return folder


def test_a_network_fits_together(network):
    roster = load_roster(network)
    assert (roster.network, roster.mode, tuple(roster.keys)) == (
        "shops",
        "consortium",
        NAMES,
    )
    for name in NAMES:
        identity = load_identity(network / name)
        assert identity.name == name
        signed = identity.signing_key.sign(b"message")
        assert roster.keys[name].verify(signed) == b"message"
        assert load_roster(network / name) == roster
    ada, bob = handshake(network / "ada", network / "bob")
    assert (ada, bob) == ({"commonName": "bob"}, {"commonName": "ada"})


def test_keys_are_their_owners_alone(network):
    folders = [network, network / FOLDER, *(network / name for name in NAMES)]
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    keys = list(network.rglob("*.key"))
    assert len(keys) == 1 + 2 * len(NAMES)
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in path.read_bytes()
    for path in network.rglob("*.[!k]*"):
        assert b"PRIVATE" not in path.read_bytes()


@pytest.mark.parametrize("kind", ["expired", "another authority"])
def test_openssl_refuses_expired_and_foreign_certificates(network, kind):
    """What the transport's tests are refused with is refused by OpenSSL, too."""
    ours = open_authority(network)
    signer: Authority = ours if kind == "expired" else make_authority("shops", 1)
    key, certificate = issue(signer, "bob", days=-1 if kind == "expired" else 1)
    (network / "bob" / files.TLS_KEY).write_bytes(dump_key(key))
    (network / "bob" / files.CERTIFICATE).write_bytes(dump_certificate(certificate))
    reason = "expired" if kind == "expired" else "verify failed"
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        handshake(network / "bob", network / "ada")


def test_peers_can_be_added_and_nothing_is_overwritten(network):
    before = {
        path: path.read_bytes()
        for path in network.rglob("*")
        if path.is_file() and path.name != files.ROSTER
    }
    old = load_roster(network)
    write_network(network, "", "", ["dan"], hosts=["peer.example.org", "10.0.0.7"])
    roster = load_roster(network)
    assert list(roster.keys) == [*NAMES, "dan"]
    assert roster.keys.items() >= old.keys.items()
    for name in roster.keys:
        assert load_roster(network / name) == roster
        load_identity(network / name)
    handshake(network / "ada", network / "dan")
    for names in (["ada"], ["eve", "bob"], [FOLDER]):
        with pytest.raises(ConfigError, match=r"is taken in .*; nothing is changed"):
            write_network(network, "", "", names)
    assert load_roster(network) == roster
    assert not (network / "eve").exists()
    assert {path: path.read_bytes() for path in before} == before
    assert not list(network.rglob(".*"))


def test_each_certificate_has_the_hosts_of_its_peer(network):
    hosts = ["dan=dan.example.org", "eve=10.0.0.7", "eve=fe80::7", "all.example.org"]
    write_network(network, "", "", ["dan", "eve"], hosts=hosts)
    assert own_hosts(network / "dan") == {"dan.example.org", "all.example.org"}
    assert own_hosts(network / "eve") == {"10.0.0.7", "fe80::7", "all.example.org"}
    for hosts, message in {
        "ada=h": r"'ada=h' must be HOST or NAME=HOST, NAME one of fay",
        "fay=": "hosts='' must be a host name",
    }.items():
        with pytest.raises(ConfigError, match=message):
            write_network(network, "", "", ["fay"], hosts=[hosts])
    assert not (network / "fay").exists()


# Adds dan to copies of a network, and dies before the first, second, ... thing it does
# to files, until one call completes.
KILLED = """
import itertools, os, shutil, sys
from pathlib import Path
from p2p_sac_jax.agent.ops.authority import write_network

for number in itertools.count():
    folder = Path(sys.argv[2], str(number))
    shutil.copytree(sys.argv[1], folder)
    if (child := os.fork()) == 0:
        left = itertools.count(number, -1)

        def hook(event, _):
            touches = event.startswith("os.") or event in ("open", "shutil.rmtree")
            if touches and next(left) == 0:
                os._exit(9)

        sys.addaudithook(hook)
        write_network(folder, "", "", ["dan"])
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_after_a_crash_a_name_is_whole_or_free(network, tmp_path):
    """What the next call finds is as if the first had never begun, or a whole peer."""
    copies = tmp_path / "copies"
    copies.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, network, copies], check=True)
    counted = Counter()
    for folder in copies.iterdir():
        added = "dan" in load_roster(folder).keys
        counted[added] += 1
        if added:
            with pytest.raises(ConfigError, match="'dan' is taken"):
                write_network(folder, "", "", ["dan"])
        write_network(folder, "", "", ["eve"] if added else ["dan"])
        roster = load_roster(folder)
        assert set(roster.keys) == {*NAMES, "dan"} | ({"eve"} if added else set())
        for name in roster.keys:
            assert load_identity(folder / name).name == name
            assert load_roster(folder / name) == roster
        assert not list(folder.rglob(".*"))
    assert counted[False] > 5
    assert counted[True] > 2


@pytest.mark.parametrize("days", [-1, 2])
def test_a_certificate_that_is_not_valid_now_is_a_user_error(
    network, monkeypatch, days
):
    now = datetime.datetime.now(datetime.UTC)
    rest = files.certificate_ends(network / "ada") - now
    assert datetime.timedelta(364.9) < rest < datetime.timedelta(365)
    if days > 0:  # valid from the day after tomorrow
        monkeypatch.setattr(authority, "_CLOCK_SKEW", -datetime.timedelta(days))
    write_network(network, "", "", ["dan"], days=-1 if days < 0 else 365)
    with pytest.raises(ConfigError, match=r"dan.*is valid from .* to ") as error:
        load_identity(network / "dan")
    date = f"{now + datetime.timedelta(days):%Y-%m-%d}"
    assert date in str(error.value)
    assert "\n" not in str(error.value)


def break_mode(folder):
    (folder / files.SIGNING_KEY).chmod(0o640)


def break_tls_mode(folder):
    (folder / files.TLS_KEY).chmod(0o604)


def break_signing_key(folder):
    (folder / files.SIGNING_KEY).write_text("nothing")


def wrong_kind_of_key(folder):
    text = (folder / files.TLS_KEY).read_bytes()
    (folder / files.SIGNING_KEY).write_bytes(text)


def other_signing_key(folder):
    text = files.dump_signing_key(SigningKey.generate())
    (folder / files.SIGNING_KEY).write_bytes(text)


def other_certificate(folder):
    text = (folder.parent / "bob" / files.CERTIFICATE).read_bytes()
    (folder / files.CERTIFICATE).write_bytes(text)


def other_tls_key(folder):
    text = (folder.parent / "bob" / files.TLS_KEY).read_bytes()
    (folder / files.TLS_KEY).write_bytes(text)


def break_authority(folder):
    (folder / files.AUTHORITY).write_text("nothing")


def break_roster(folder):
    (folder / files.ROSTER).write_text('{"network": "shops"}')


def no_roster(folder):
    (folder / files.ROSTER).unlink()


def bad_name_in_roster(folder):
    fields = json.loads((folder / files.ROSTER).read_text())
    fields["keys"]["../x"] = fields["keys"].pop("bob")
    (folder / files.ROSTER).write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_mode, "signing.key has mode 0640, must be 0600"),
        (break_tls_mode, "tls.key has mode 0604, must be 0600"),
        (break_signing_key, "signing.key is not a private key"),
        (wrong_kind_of_key, "must be Ed25519"),
        (other_signing_key, "roster.json has no 'ada'.* with the key in signing.key"),
        (other_certificate, "roster.json has no 'bob'.* with the key in signing.key"),
        (other_tls_key, "must be PEM files of one certificate"),
        (break_authority, "must be PEM files of one certificate"),
        (break_roster, "roster.json is not a roster"),
        (no_roster, "roster.json: No such file"),
        (bad_name_in_roster, "'../x' must be 1 to 32 of"),
    ],
)
def test_files_that_do_not_fit_get_one_line(network, harm, message):
    load_identity(network / "ada")
    harm(network / "ada")
    with pytest.raises(ConfigError, match=message) as error:
        load_identity(network / "ada")
    assert "\n" not in str(error.value)
    assert "ada" in str(error.value)


@pytest.mark.parametrize("name", ["", "A", "-a", "a" * 33, "a/b", "a*", "a b", "é"])
def test_names_are_plain(name):
    with pytest.raises(ConfigError, match="must be 1 to 32 of a-z"):
        make_identity(name)
    with pytest.raises(ConfigError, match="must be 1 to 32 of a-z"):
        make_roster("shops", "public", [Identity(name, SigningKey.generate())])
    with pytest.raises(ConfigError, match="must be 1 to 32 of a-z"):
        make_roster(name, "public", [make_identity("ada")])


def test_rosters_name_each_peer_once():
    ada = make_identity("ada")
    with pytest.raises(ConfigError, match="'ada' is given twice"):
        make_roster("shops", "public", [ada, make_identity("ada")])
    with pytest.raises(ConfigError, match="mode='secret' must be one of private"):
        make_roster("shops", "secret", [ada])
    with pytest.raises(ConfigError, match="at least one peer"):
        make_roster("shops", "public", [])


def test_the_command_line(tmp_path):
    folder = tmp_path / "network"
    first = f"--folder={folder} --network=shops --mode=public --names=ada,bob"
    again = f"--folder={folder} --names=bob"
    wrong = {
        f"--folder={folder}": "--names is missing",
        "--names=ada": "--folder is missing",
        f"--folder={tmp_path}/x --names=a --network=n": (
            "--mode is missing: one of private, consortium, public"
        ),
        f"--folder={tmp_path}/x --names=a --mode=public": "--network is missing",
        f"--folder={tmp_path}/x --names=A --network=n --mode=public": (
            "name='A' must be 1 to 32 of"
        ),
        f"--folder={folder} --names=c --days=0": "--days=0 must be in (0, 3650]",
        f"--folder={folder} --names=c --network=n": "network='n' must be 'shops'",
        f"--folder={folder} --names=c --hosts=ü": "hosts='ü' must be a host name",
        again: "name='bob' is taken",
        f"--folder={folder} --renew=c": "name='c' must be one of ada, bob",
        f"--folder={folder} --renew-all --remove=ada": "--renew-all and --remove must",
    }
    done = run_each("launch.make_identity", [first, *wrong], tmp_path)
    assert done[first].returncode == 0, done[first].stderr
    assert done[first].stdout == "shops (public): ada, bob\n"
    for command, message in wrong.items():
        assert done[command].returncode == 2, command
        assert done[command].stderr.startswith(f"error: {message}")
        assert done[command].stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
    assert list(load_roster(folder).keys) == ["ada", "bob"]
