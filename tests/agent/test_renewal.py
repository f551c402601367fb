"""Files of an identity over time: renewed, removed, damaged, changed by others."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import shutil

import pytest

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.authority import remove, renew, write_network
from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
from p2p_sac_jax.config import ConfigError
from tests.helpers.certificates import handshake, own_hosts
from tests.helpers.damage import damaged

NAMES = ("ada", "bob", "cyd")


@pytest.fixture
def network(tmp_path):
    folder = tmp_path / "network"
    write_network(folder, "shops", "consortium", NAMES)
    return folder


def open_folder(folder):
    folder.chmod(0o777)


def open_roster(folder):
    (folder / files.ROSTER).chmod(0o664)


def open_authority_file(folder):
    (folder / files.AUTHORITY).chmod(0o646)


@pytest.mark.parametrize("harm", [open_folder, open_roster, open_authority_file])
def test_what_says_whom_to_trust_is_not_writable_by_others(network, harm):
    harm(network / "ada")
    with pytest.raises(ConfigError, match="must not be writable by others"):
        load_identity(network / "ada")


def test_every_file_keeps_its_mode_when_it_is_written_anew(network):
    def modes():
        return {path: path.stat().st_mode for path in network.rglob("*.*")}

    before = modes()
    renew(network)
    write_network(network, "", "", ["dan"])
    remove(network, ["dan"])
    after = modes()
    assert {path: after[path] for path in before} == before


def test_no_damage_to_a_roster_is_read_as_something_else(network):
    path, rng = network / "ada" / files.ROSTER, random.Random(0)
    content, expected = path.read_bytes(), load_roster(network / "ada")
    for _ in range(500):
        path.write_bytes(damaged(content, rng))
        with contextlib.suppress(ConfigError):
            assert load_roster(network / "ada") == expected
    fields = json.loads(content)
    fields["keys"]["bob"] = fields["keys"]["cyd"]
    path.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="does not fit its sha256"):
        load_roster(network / "ada")


def test_a_certificate_is_renewed_under_the_same_name_and_keys(network):
    write_network(network, "", "", ["dan"], hosts=["dan.example.org"], days=1)
    keep = [p for p in network.rglob("*") if p.is_file() and p.name != "tls.crt"]
    before = {path: path.read_bytes() for path in keep}
    assert renew(network, ["dan"], days=30) == ["dan"]
    assert {path: path.read_bytes() for path in keep} == before
    day = datetime.timedelta(1)
    left = files.certificate_ends(network / "dan") - datetime.datetime.now(datetime.UTC)
    assert 29.9 * day < left < 30 * day
    assert own_hosts(network / "dan") == {"dan.example.org"}
    load_identity(network / "dan")
    handshake(network / "ada", network / "dan")
    # A folder that is on its machine only: all but the signing key comes from there.
    signing_key = (network / "bob" / files.SIGNING_KEY).read_bytes()
    shutil.rmtree(network / "bob")
    assert renew(network) == [*NAMES, "dan"]
    with (network / "bob" / files.SIGNING_KEY).open("xb") as file:
        (network / "bob" / files.SIGNING_KEY).chmod(0o600)
        file.write(signing_key)
    load_identity(network / "bob")
    with pytest.raises(ConfigError, match="name='eve' must be one of ada, bob"):
        renew(network, ["eve"])


def test_a_certificate_of_another_peer_is_not_renewed(network):
    """Its key would get a second name."""
    shutil.copy(network / "ada" / files.CERTIFICATE, network / "bob")
    with pytest.raises(ConfigError, match="must be that of 'bob'"):
        renew(network, ["bob"])


def test_a_removed_peer_is_in_no_roster(network):
    remove(network, ["bob"])
    for folder in (network, network / "ada", network / "cyd"):
        assert list(load_roster(folder).keys) == ["ada", "cyd"]
    with pytest.raises(ConfigError, match="name='bob' must be one of ada, cyd"):
        remove(network, ["bob"])
    with pytest.raises(ConfigError, match="at least one peer"):
        remove(network, ["ada", "cyd"])
