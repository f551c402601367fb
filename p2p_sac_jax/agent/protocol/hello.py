"""The hello of a peer: the protocol's version and digests of what peers must agree on.

It is text, such as ``1-interval.8f14e4-week.c9f0f8``, and comes with every message and
query, so also with the query that follows a connection, and with the reply to a query
of another hello. What only one of two peers states is not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from p2p_sac_jax.agent.protocol.envelope import VERSION

MAX_HELLO = 256  # characters


def make_hello(fields: Mapping[str, object]) -> str:
    """The hello of a peer with these settings, read by their ``repr``.

    Args:
      fields: settings by name, of letters and ``_``.
    """
    digests = {
        name: hashlib.sha256(repr(value).encode()).hexdigest()[:6]
        for name, value in sorted(fields.items())
    }
    return "-".join([str(VERSION), *(f"{name}.{x}" for name, x in digests.items())])


def differences(own: str, other: str) -> list[str]:
    """What two hellos do not agree on: ``protocol``, or names of fields.

    An empty hello agrees with every other one.
    """
    if not (own and other):
        return []
    version, mine = _parse(own)
    theirs_version, theirs = _parse(other)
    if version != theirs_version:
        return ["protocol"]
    return [name for name in mine if theirs.get(name, mine[name]) != mine[name]]


def _parse(hello: str) -> tuple[str, dict[str, str]]:
    version, *fields = hello.split("-")
    pairs = (field.partition(".") for field in fields)
    return version, {name: digest for name, _, digest in pairs}
