"""A certificate authority for test networks, and the folders of the peers it knows.

    DIR/authority/{ca.key, ca.crt}      the authority: keep it off the peers' machines
    DIR/roster.json                     the peers of the network
    DIR/NAME/{signing.key, tls.key, tls.crt, ca.crt, roster.json}

Certificates are P-256 with the peer's name as their common name, good for both ends
of mutual TLS. Keys have mode 0600, folders 0700.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.identity import Identity, Roster
from p2p_sac_jax.agent.ops.state_file import write_durable
from p2p_sac_jax.config import ConfigError

FOLDER = "authority"
HOSTS = ("localhost", "127.0.0.1", "::1")

_STAGED = ".new-"  # prefix of a folder that is not complete
_AUTHORITY_KEY = "ca.key"
_replace = functools.partial(write_durable, mode=0o644)  # certificates and rosters
_AUTHORITY_DAYS = 3650.0
_CLOCK_SKEW = datetime.timedelta(hours=1)  # between the machines of a network


class Authority(NamedTuple):
    """The issuer of TLS certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_authority(network: str, days: float) -> Authority:
    """A new authority with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{network} authority")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Authority(key, builder.sign(key, hashes.SHA256()))


def issue(
    authority: Authority, name: str, hosts: Sequence[str] = (), days: float = 365.0
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new TLS key and its certificate; see ``certify``."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certify(authority, key.public_key(), name, hosts, days)


def certify(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    name: str,
    hosts: Sequence[str] = (),
    days: float = 365.0,
) -> x509.Certificate:
    """A certificate of a TLS key.

    Args:
      authority: the issuer.
      key: of the peer.
      name: of the peer, becomes the common name.
      hosts: names and addresses of its machine, in addition to ``HOSTS``.
      days: of validity; zero or less gives an expired certificate.
    """
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    where = [_general_name(host) for host in dict.fromkeys((*HOSTS, *hosts))]
    issuer = authority.certificate.subject
    builder = (
        _builder(_name(name), issuer, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(where), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256())


def dump_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A TLS key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def dump_certificate(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def open_authority(folder: Path) -> Authority:
    """The authority of a network's folder.

    Raises:
      ConfigError: other users may read its key, or key or certificate is missing.
    """
    place = folder / FOLDER
    files.check_private(place / _AUTHORITY_KEY)
    try:
        text = (place / _AUTHORITY_KEY).read_bytes()
        key = serialization.load_pem_private_key(text, None)
        text = (place / files.AUTHORITY).read_bytes()
        certificate = x509.load_pem_x509_certificate(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place} holds no key and certificate in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{place / _AUTHORITY_KEY} must be of an elliptic curve")
    return Authority(key, certificate)


def write_network(
    folder: Path,
    network: str,
    mode: str,
    names: Sequence[str],
    *,
    hosts: Sequence[str] = (),
    days: float = 365.0,
) -> Roster:
    """Creates a network of peers, or adds peers to one.

    Args:
      folder: of the network, new or written earlier.
      network: its name; may be empty for an existing network.
      mode: private, consortium or public; may be empty for an existing network.
      names: of the new peers.
      hosts: names and addresses of their machines: HOST for all of them, NAME=HOST
        for one.
      days: of validity of the certificates.

    Returns:
      The new roster, which is in the folder of every peer.

    Raises:
      ConfigError: a name is taken or invalid, the network has another name or mode, or
        the folder is not writable.
    """
    try:
        identities = [files.make_identity(name) for name in names]
        known: Mapping = {}
        if (folder / files.ROSTER).exists():
            old = files.load_roster(folder)
            network, mode = _same("network", network, old), _same("mode", mode, old)
            known = old.keys
        added = files.make_roster(network, mode, identities)
        _settle(folder, known)  # after an interrupted call
        for name in names:
            if name in known or (folder / name).exists() or name == FOLDER:
                raise ConfigError(
                    f"name={name!r} is taken in {folder}; nothing is changed"
                )
        places = {name: _hosts_of(name, names, hosts) for name in names}
        roster = files.check_roster(Roster(network, mode, {**known, **added.keys}))
        text = files.dump_roster(roster).encode()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / FOLDER).exists():
            _write_authority(folder, make_authority(network, _AUTHORITY_DAYS))
        authority = open_authority(folder)
        try:
            for identity in identities:
                issued = issue(authority, identity.name, places[identity.name], days)
                _stage_peer(folder, identity, authority, issued, text)
            _replace(folder / files.ROSTER, text)  # the step that makes the change
        except BaseException:
            _settle(folder, known)
            raise
        _settle(folder, roster.keys)
        _write_roster(folder, roster, known)
        return roster
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error


def renew(
    folder: Path,
    names: Sequence[str] = (),
    *,
    hosts: Sequence[str] = (),
    days: float = 365.0,
) -> list[str]:
    """Issues new certificates to peers of a network; all else stays as it is.

    A peer whose certificate is in the folder keeps its TLS key, and its hosts unless
    new ones are given. Another one, whose folder is on its machine only, gets a folder
    with a new TLS key to copy there.

    Args:
      folder: of the network.
      names: of the peers; all of them if empty.
      hosts: as in ``write_network``.
      days: of validity of the certificates.

    Returns:
      The names.

    Raises:
      ConfigError: a name is not in the roster, or the folder is not usable.
    """
    try:
        roster, authority = files.load_roster(folder), open_authority(folder)
        names = list(names or roster.keys)
        for name in names:
            _check_known(name, roster)
        text = files.dump_roster(roster).encode()
        for name in names:
            place, where = folder / name, _hosts_of(name, names, hosts)
            if (place / files.CERTIFICATE).exists():
                old = files.load_certificate(place / files.CERTIFICATE)
                key = old.public_key()
                assert isinstance(key, ec.EllipticCurvePublicKey)
                if old.subject != _name(name):
                    certificate = place / files.CERTIFICATE
                    raise ConfigError(f"{certificate} must be that of {name!r}")
                where = where or _names_in(old)
            else:
                private = ec.generate_private_key(ec.SECP256R1())
                key = private.public_key()
                write_durable(place / files.TLS_KEY, dump_key(private))
            issued = certify(authority, key, name, where, days)
            _replace(place / files.AUTHORITY, dump_certificate(authority.certificate))
            _replace(place / files.ROSTER, text)
            _replace(place / files.CERTIFICATE, dump_certificate(issued))
        return names
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error


def remove(folder: Path, names: Collection[str]) -> Roster:
    """Removes peers from the roster of a network; returns the new one.

    Raises:
      ConfigError: a name is not in the roster, or the folder is not usable.
    """
    try:
        old = files.load_roster(folder)
        for name in names:
            _check_known(name, old)
        left = {name: key for name, key in old.keys.items() if name not in names}
        roster = files.check_roster(Roster(old.network, old.mode, left))
        _write_roster(folder, roster, left)
        return roster
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error


def _write_roster(folder: Path, roster: Roster, names: Collection[str]) -> None:
    """Writes the roster of a network, then its copies in the peers' folders."""
    text = files.dump_roster(roster).encode()
    _replace(folder / files.ROSTER, text)
    for name in names:
        if (folder / name).is_dir():  # it may be on the peer's machine only
            _replace(folder / name / files.ROSTER, text)


def _check_known(name: str, roster: Roster) -> None:
    if name not in roster.keys:
        raise ConfigError(f"name={name!r} must be one of {', '.join(roster.keys)}")


def _names_in(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return [str(name.value) for name in extension.value]


def _settle(folder: Path, names: Collection[str]) -> None:
    """Renames staged folders of peers in the roster; removes the others."""
    for staged in folder.glob(f"{_STAGED}*"):
        name = staged.name.removeprefix(_STAGED)
        if name in names:
            staged.rename(folder / name)
        else:
            shutil.rmtree(staged)


def _hosts_of(name: str, names: Collection[str], hosts: Sequence[str]) -> list[str]:
    """The hosts of one peer."""
    found = []
    for place in hosts:
        owner, given, host = place.rpartition("=")
        if given and owner not in names:
            raise ConfigError(
                f"hosts={place!r} must be HOST or NAME=HOST, NAME one of"
                f" {', '.join(names)}"
            )
        if owner in ("", name):
            _general_name(host)
            found.append(host)
    return found


def _same(field: str, value: str, roster: Roster) -> str:
    old = getattr(roster, field)
    if value and value != old:
        raise ConfigError(f"{field}={value!r} must be {old!r}, as in the roster")
    return old


def _write_authority(folder: Path, authority: Authority) -> None:
    staged = _stage(folder, FOLDER)
    _write(staged / _AUTHORITY_KEY, dump_key(authority.key), 0o600)
    _write(staged / files.AUTHORITY, dump_certificate(authority.certificate))
    staged.rename(folder / FOLDER)


def _stage_peer(
    folder: Path,
    identity: Identity,
    authority: Authority,
    issued: tuple[ec.EllipticCurvePrivateKey, x509.Certificate],
    roster: bytes,
) -> None:
    key, certificate = issued
    staged = _stage(folder, identity.name)
    signing_key = files.dump_signing_key(identity.signing_key)
    _write(staged / files.SIGNING_KEY, signing_key, 0o600)
    _write(staged / files.TLS_KEY, dump_key(key), 0o600)
    _write(staged / files.CERTIFICATE, dump_certificate(certificate))
    _write(staged / files.AUTHORITY, dump_certificate(authority.certificate))
    _write(staged / files.ROSTER, roster)


def _stage(folder: Path, name: str) -> Path:
    """A new folder under a temporary name, to be renamed when it is complete."""
    staged = folder / f"{_STAGED}{name}"
    staged.mkdir(mode=0o700)
    return staged


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _CLOCK_SKEW)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        if host:
            return x509.DNSName(host)
    except ValueError:
        pass
    raise ConfigError(f"hosts={host!r} must be a host name or address")


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a new file with its mode set from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
