"""Identity of a peer: its signing key, and the roster of the network.

A peer's folder holds ``signing.key`` (Ed25519), ``tls.key`` and ``tls.crt`` (P-256,
the common name is the peer's name), ``ca.crt`` and ``roster.json``;
``launch.make_identity`` writes it. A peer that is not in the roster is
unknown: removing its name from every roster excludes it.

Nobody else may read the keys, or write what says who is trusted.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import ssl
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey, VerifyKey

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.messages import MODES

SIGNING_KEY = "signing.key"
TLS_KEY = "tls.key"
CERTIFICATE = "tls.crt"
AUTHORITY = "ca.crt"
ROSTER = "roster.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_DIGEST = "sha256"  # entry of a roster, over all others in their order
_MAX_BYTES = 1 << 20  # of a file in an identity's folder


class Identity(NamedTuple):
    """Name and key of a peer."""

    name: str
    signing_key: SigningKey  # Ed25519


class Roster(NamedTuple):
    """The peers of a network; all others are unknown."""

    network: str
    mode: str  # of ``exchange.messages.MODES``
    keys: Mapping[str, VerifyKey]  # by name, in the order of the peers' numbers


def check_name(field: str, name: str) -> str:
    """Returns a valid name of a peer or network.

    Raises:
      ConfigError: the name is not valid.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{field}={name!r} must be 1 to 32 of a-z, 0-9, _ and -, the first"
            " a letter or digit"
        )
    return name


def make_identity(name: str) -> Identity:
    """A new identity with a fresh key.

    Raises:
      ConfigError: the name is not valid.
    """
    return Identity(check_name("name", name), SigningKey.generate())


def make_roster(network: str, mode: str, identities: Iterable[Identity]) -> Roster:
    """The roster of a network of these peers, in this order.

    Raises:
      ConfigError: a name or the mode is not valid, or two peers have one name.
    """
    keys: dict[str, VerifyKey] = {}
    for name, signing_key in identities:
        if name in keys:
            raise ConfigError(f"name={name!r} is given twice")
        keys[check_name("name", name)] = signing_key.verify_key
    return check_roster(Roster(network, mode, keys))


def check_roster(roster: Roster) -> Roster:
    """Returns a valid roster.

    Raises:
      ConfigError: a name or the mode is not valid, or the roster is empty.
    """
    check_name("network", roster.network)
    if roster.mode not in MODES:
        raise ConfigError(f"mode={roster.mode!r} must be one of {', '.join(MODES)}")
    if not roster.keys:
        raise ConfigError("keys={} must name at least one peer")
    for name in roster.keys:
        check_name("name", name)
    return roster


def dump_roster(roster: Roster) -> str:
    """The roster as text of ``roster.json``, with a digest over its content."""
    keys = {name: bytes(key).hex() for name, key in roster.keys.items()}
    fields = {"network": roster.network, "mode": roster.mode, "keys": keys}
    return json.dumps(fields | {_DIGEST: _digest(fields)}, indent=1) + "\n"


def load_roster(folder: str | Path) -> Roster:
    """The roster in a folder; files of 0.1 have no digest.

    Raises:
      ConfigError: the file is missing, is not a roster, was damaged or changed by
        hand, or may be written by other users.
    """
    path = Path(folder) / ROSTER
    check_unwritable(path)
    try:
        fields = json.loads(_read(path))
        digest = fields.pop(_DIGEST, None)
        keys = {
            name: VerifyKey(bytes.fromhex(key)) for name, key in fields["keys"].items()
        }
        roster = Roster(fields["network"], fields["mode"], keys)
        check_roster(roster)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:  # errors of json, hex and key share no base class
        raise ConfigError(f"{path} is not a roster: {error!r}") from error
    old = digest is None and fields.keys() == {"network", "mode", "keys"}
    if not old and digest != _digest(fields):
        raise ConfigError(
            f"{path} does not fit its {_DIGEST}: it is damaged, or was changed by hand"
            " and not by make_identity; copy it from the folder of the network"
        )
    return roster


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def load_identity(folder: str | Path) -> Identity:
    """The identity in a folder, after a check of all its files.

    Raises:
      ConfigError: a file is unreadable or malformed, other users may read a key or
        write a file, roster, signing key and certificate are not of one peer, or the
        certificate is not valid now.
    """
    folder = Path(folder)
    for path in (folder, folder / AUTHORITY, folder / CERTIFICATE):
        check_unwritable(path)
    roster = load_roster(folder)
    signing_key = _load_signing_key(folder / SIGNING_KEY)
    certificate = load_certificate(folder / CERTIFICATE)
    name = _common_name(folder / CERTIFICATE, certificate)
    check_private(folder / TLS_KEY)
    if roster.keys.get(name) != signing_key.verify_key:
        raise ConfigError(
            f"{folder}: {ROSTER} has no {name!r}, the name in {CERTIFICATE}, with the"
            f" key in {SIGNING_KEY}"
        )
    now = datetime.datetime.now(datetime.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        raise ConfigError(
            f"{folder / CERTIFICATE} is valid from {begin:%Y-%m-%d %H:%M} to"
            f" {end:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}: renew it"
            " (make_identity --renew), or set the clock"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(folder / CERTIFICATE, folder / TLS_KEY)
        context.load_verify_locations(folder / AUTHORITY)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{folder}: {TLS_KEY}, {CERTIFICATE} and {AUTHORITY} must be PEM files of"
            f" one certificate: {error}"
        ) from error
    return Identity(name, signing_key)


def certificate_ends(folder: str | Path) -> datetime.datetime:
    """End of validity of the certificate in a peer's folder, in UTC.

    Raises:
      ConfigError: there is no certificate.
    """
    return load_certificate(Path(folder) / CERTIFICATE).not_valid_after_utc


def dump_signing_key(signing_key: SigningKey) -> bytes:
    """The key as text of ``signing.key``: PKCS 8 in PEM, as openssl writes it."""
    return Ed25519PrivateKey.from_private_bytes(bytes(signing_key)).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def check_private(path: Path) -> None:
    """Checks that only its owner can access a key.

    Raises:
      ConfigError: other users have access, or the file is missing.
    """
    _check_mode(path, 0o077, "must be 0600 or less: other users may have read the key")


def check_unwritable(path: Path) -> None:
    """Checks that no other user can change a file or folder.

    Raises:
      ConfigError: other users can write to it or own it, or it is missing.
    """
    _check_mode(path, 0o022, "must not be writable by others: it says whom to trust")


def _check_mode(path: Path, forbidden: int, reason: str) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        raise ConfigError(
            f"{path} has mode {mode:04o}, {reason}; check it, then chmod"
            f" {mode & ~forbidden:04o} it"
        )
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path} belongs to user {found.st_uid}, {reason}")


def _load_signing_key(path: Path) -> SigningKey:
    check_private(path)
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds a {type(key).__name__}, must be Ed25519")
    return SigningKey(key.private_bytes_raw())


def load_certificate(path: Path) -> x509.Certificate:
    """A certificate from a PEM file.

    Raises:
      ConfigError: the file is missing or is not one.
    """
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise ConfigError(f"{path} is not a certificate in PEM") from error


def _common_name(path: Path, certificate: x509.Certificate) -> str:
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise ConfigError(f"{path} has no readable names") from error
    if len(names) != 1:
        raise ConfigError(f"{path} has {len(names)} common names, must have one")
    return str(names[0].value)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
