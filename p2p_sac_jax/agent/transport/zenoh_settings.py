"""The settings of a zenoh session: peers only, mutual TLS, access control.

Key expressions, for peer ``p`` and requester ``q`` of one network:

    p2p/NETWORK/insight/p    p alone may put
    p2p/NETWORK/pull/p/q     q alone may query, p alone may reply
    p2p/NETWORK/alive/p      p alone may hold the liveliness token

Each peer enforces this for every connection, by the common name in the certificate at
the other end. What no rule allows is denied, so TLS authenticates the name in a key.
A peer takes declarations for its own exchange with the other end only, key by key, so
their number is bounded. zenoh refuses unknown settings.

Source: https://zenoh.io/docs/manual/access-control and .../manual/tls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zenoh

from p2p_sac_jax.agent.ops import identity as files
from p2p_sac_jax.agent.ops.identity import Roster
from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES
from p2p_sac_jax.config import ConfigError

LEASE_S = 2.0  # a peer that sends nothing for this long is disconnected

_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")
_BOTH = ["ingress", "egress"]


def insight_key(network: str, name: str) -> str:
    """Key for the messages of peer ``name``."""
    return f"p2p/{network}/insight/{name}"


def pull_key(network: str, name: str, requester: str) -> str:
    """Key for queries of ``requester`` to peer ``name``, and for the replies."""
    return f"p2p/{network}/pull/{name}/{requester}"


def alive_key(network: str, name: str) -> str:
    """The liveliness token of peer ``name``."""
    return f"p2p/{network}/alive/{name}"


def make_settings(
    folder: Path,
    name: str,
    roster: Roster,
    listen: Sequence[str],
    connect: Sequence[str],
) -> zenoh.Config:
    """The settings of a session of peer ``name``.

    Args:
      folder: with the TLS key, certificate and authority.
      name: the peer's own.
      roster: peers that may connect.
      listen: HOST:PORT to accept connections at; may be empty.
      connect: HOST:PORT of the others.

    Raises:
      ConfigError: an endpoint is not HOST:PORT.
    """
    config = zenoh.Config()
    settings = _settings(folder, name, roster)
    settings["listen/endpoints"] = _endpoints("listen", listen)
    settings["connect/endpoints"] = _endpoints("connect", connect)
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return config


def _settings(folder: Path, name: str, roster: Roster) -> dict[str, Any]:
    key, certificate = str(folder / files.TLS_KEY), str(folder / files.CERTIFICATE)
    tls = "transport/link/tls"
    return {
        "mode": "peer",
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "adminspace/enabled": False,
        "transport/shared_memory/enabled": False,
        "listen/exit_on_failure": True,
        "listen/timeout_ms": 0,
        "connect/exit_on_failure": False,
        "connect/timeout_ms": -1,  # without end; 0 would try once
        "connect/retry": {
            "period_init_ms": 500,
            "period_max_ms": 4000,
            "period_increase_factor": 2.0,
        },
        "open/return_conditions/connect_scouted": False,
        "open/return_conditions/declares": False,
        "transport/link/protocols": ["tls"],
        f"{tls}/root_ca_certificate": str(folder / files.AUTHORITY),
        f"{tls}/enable_mtls": True,
        f"{tls}/listen_private_key": key,
        f"{tls}/listen_certificate": certificate,
        f"{tls}/connect_private_key": key,
        f"{tls}/connect_certificate": certificate,
        f"{tls}/verify_name_on_connect": True,
        f"{tls}/close_link_on_expiration": True,
        "transport/unicast/accept_timeout": 5000,
        "transport/unicast/open_timeout": 5000,
        "transport/unicast/max_sessions": 4 * len(roster.keys),
        "transport/link/rx/max_message_size": 2 * MAX_BYTES,  # zenoh's own is 1 GiB
        "transport/link/tx/lease": int(1000 * LEASE_S),
        # Queue bursts, then drop: waiting for one peer would delay all others.
        "transport/link/tx/queue/size/data": 16,
        "transport/link/tx/queue/congestion_control/drop/wait_before_drop": 100,
        "transport/link/tx/queue/congestion_control/drop"
        "/max_wait_before_drop_fragments": 1000,
        "transport/link/tx/queue/congestion_control/block/wait_before_close": 1_000_000,
        "access_control": _access_control(name, roster),
    }


def _access_control(name: str, roster: Roster) -> dict[str, Any]:
    """Every other peer of the roster under its own name, and no one else."""
    rules, policies = [], []
    others = [other for other in roster.keys if other != name]
    for other in others:
        both = _rules("egress", roster.network, name, other)
        both += _rules("ingress", roster.network, other, name)
        policies.append({"rules": [rule["id"] for rule in both], "subjects": [other]})
        rules += both
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [{"id": other, "cert_common_names": [other]} for other in others],
        "policies": policies,
    }


def _rules(flow: str, network: str, sender: str, receiver: str) -> list[dict[str, Any]]:
    """Messages that ``sender`` may send to ``receiver``."""
    keys = {
        "put": insight_key(network, sender),
        "declare_subscriber": insight_key(network, receiver),
        "query": pull_key(network, "*", sender),
        "declare_queryable": pull_key(network, sender, receiver),
        "reply": pull_key(network, sender, receiver),
        "liveliness_token": alive_key(network, sender),
        "declare_liveliness_subscriber": alive_key(network, receiver),
        "liveliness_query": alive_key(network, receiver),
    }
    return [
        {
            "id": f"{flow}/{sender}/{receiver}/{message}",
            "permission": "allow",
            "flows": [flow],
            "messages": [message],
            "key_exprs": [key],
        }
        for message, key in keys.items()
    ]


def _endpoints(field: str, places: Sequence[str]) -> list[str]:
    """``HOST:PORT`` in zenoh's form; anything else could smuggle in settings."""
    for place in places:
        match = _ENDPOINT.fullmatch(place)
        if not match or int(match[2]) > 65_535:
            raise ConfigError(f"{field}={place!r} must be HOST:PORT")
    return [f"tls/{place}" for place in places]
