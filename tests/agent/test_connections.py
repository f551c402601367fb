"""Connections over TLS: who receives, whose id is taken, whose certificate ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
import threading
from types import SimpleNamespace

import pytest
import zenoh

from examples.loopback import free_addresses
from p2p_sac_jax.agent.ops.audit import AuditLog
from p2p_sac_jax.agent.ops.authority import renew, write_network
from p2p_sac_jax.agent.ops.identity import certificate_ends, load_identity, load_roster
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.transport import link_watch, zenoh_transport
from p2p_sac_jax.agent.transport.link_watch import probe
from p2p_sac_jax.agent.transport.zenoh_settings import make_settings
from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
from p2p_sac_jax.config import ConfigError
from tests.helpers.hub_peers import FIELDS, KIND, run
from tests.helpers.zenoh_peers import copy_folder

NAMES = ("a", "b", "m")
PATIENCE_S = 30.0


@pytest.fixture
def folder(tmp_path):
    write_network(tmp_path / "network", "test", "public", NAMES)
    return tmp_path / "network"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(link_watch, "LOOK_S", 0.1)
    monkeypatch.setattr(link_watch, "PATIENCE_S", 1.0)
    monkeypatch.setattr(link_watch, "MAX_PAUSE_S", 2.0)
    monkeypatch.setattr(link_watch, "RETRY_S", 5.0)


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def transport(folder, name, places, *connect):
    opened = ZenohTransport(
        folder / name, listen=[places[name]], connect=[places[c] for c in connect]
    )
    await opened.open(lambda *_: None, lambda *_: [])
    try:
        yield opened
    finally:
        await opened.close()


def raw_session(folder, name, connect, **settings):
    """A member that does not follow the rules: no access control of its own."""
    config = make_settings(folder / name, name, load_roster(folder / name), [], connect)
    config.insert_json5("access_control", '{"enabled": false}')
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


@run
async def test_who_receives_is_in_the_audit_log_without_saying_so(folder, tmp_path):
    places = free_addresses(NAMES)
    listener = ZenohTransport(folder / "a", listen=[places["a"]])
    network = PeerNetwork(
        listener,
        load_identity(folder / "a"),
        load_roster(folder / "a"),
        audit=AuditLog(tmp_path / "audit.jsonl"),
    )
    await network.connect()
    received = []
    async with transport(folder, "b", places, "a"):
        silent = raw_session(folder, "m", [places["a"]])  # no liveliness token
        silent.declare_subscriber("p2p/test/insight/a", received.append)
        await until(lambda: listener.receivers() == ["b", "m"])
        await until(lambda: network.status().peers == ("b",))
        for _ in range(100):
            await network.broadcast(KIND, FIELDS)
            await asyncio.sleep(0.05)
            if received:
                break
        silent.close()
    await network.disconnect()
    assert received
    for line in (tmp_path / "audit.jsonl").read_text().splitlines():
        assert json.loads(line)["to"] == ["b", "m"]


@pytest.mark.thorough
@run
async def test_a_peer_whose_id_is_taken_connects_under_a_fresh_one(
    folder, caplog, monkeypatch
):
    places = free_addresses(NAMES)
    taken = "1234567890abcdef1234567890abcdef"
    ids = [json.dumps(taken)]
    real = zenoh.open

    def first_with_the_taken_id(config):
        if ids:
            config = zenoh.Config.from_json5(str(config))
            config.insert_json5("id", ids.pop())
        return real(config)

    async with transport(folder, "b", places) as b:
        thief = raw_session(folder, "m", [places["b"]], id=taken)
        token = thief.liveliness().declare_token("p2p/test/alive/m")
        await until(lambda: list(b.reachable()) == ["m"])
        monkeypatch.setattr(zenoh, "open", first_with_the_taken_id)
        with caplog.at_level(logging.WARNING):
            async with transport(folder, "a", places, "b") as a:
                assert str(a._session.info.zid()) == taken
                await until(lambda: list(a.reachable()) == ["b"])
                assert str(a._session.info.zid()) != taken
        del token
        thief.close()
    assert "connecting under a fresh id" in caplog.text


@pytest.mark.thorough
@run
async def test_a_peer_that_leaves_after_a_reopening_is_no_receiver_and_causes_no_other(
    folder, monkeypatch, caplog
):
    """Nor does one that starts late, or whose certificate has ended."""
    places = free_addresses(NAMES)
    sessions = []
    real = ZenohTransport._open_session

    async def count(transport):
        sessions.append(transport.name)
        await real(transport)

    monkeypatch.setattr(ZenohTransport, "_open_session", count)
    monkeypatch.setattr(link_watch, "RETRY_S", PATIENCE_S)  # of a busy machine
    monkeypatch.setattr(link_watch, "RETRY_S", PATIENCE_S)  # of a busy machine
    renew(folder, ["m"], days=5 / 86_400)
    async with (
        transport(folder, "m", places),
        transport(folder, "a", places, "b", "m") as a,
    ):
        async with transport(folder, "b", places):
            await until(lambda: "b" in a.receivers())
            renew(folder, ["a"], days=100)
            await until(lambda: sessions.count("a") == 2 and "b" in a.receivers())
        await until(lambda: not a.reachable())
        await until(lambda: a.receivers() == [])
        await asyncio.sleep(2 * link_watch.PATIENCE_S + 2 * link_watch.MAX_PAUSE_S)
        async with transport(folder, "b", places):
            await until(lambda: a.receivers() == ["b"])
    assert sessions.count("a") == 2
    assert "connecting under a fresh id" not in caplog.text


@run
async def test_other_settings_are_known_on_both_sides_though_one_is_silent(folder):
    """The newcomer is queried at once, and then queries nobody itself."""
    places = free_addresses(NAMES)
    networks = {}
    for name, interval in (("a", 4), ("b", 2)):
        identity, roster = load_identity(folder / name), load_roster(folder / name)
        connect = [places["a"]] if name == "b" else []
        opened = ZenohTransport(folder / name, listen=[places[name]], connect=connect)
        networks[name] = PeerNetwork(opened, identity, roster)
        networks[name].must_agree(interval=interval)
        await networks[name].connect()
    running, newcomer = networks.values()
    await until(lambda: running.status().peers == ("b",))
    await running.sync()
    why = "its settings differ in interval"
    await until(lambda: running.status().away.get("b") == why)
    assert newcomer.status().away["a"] == why
    assert await newcomer.sync() == 0
    for network in networks.values():
        assert not network.status().peers
        await network.disconnect()


@run
async def test_a_member_cannot_declare_without_bounds(folder):
    """A peer takes declarations of exact keys only, and none for others."""
    config = make_settings(folder / "a", "a", load_roster(folder / "a"), [], [])
    rules = json.loads(config.get_json("access_control"))["rules"]
    taken = [rule for rule in rules if "ingress" in rule["flows"]]
    keys = {
        key
        for rule in taken
        for key in rule["key_exprs"]
        if {"query", "reply", "put"}.isdisjoint(rule["messages"])
    }
    assert len(keys) == 2 + 2 * 2  # insight and alive of a; alive and pull of b and m
    assert not any("*" in key for key in keys)
    places = free_addresses(NAMES)
    async with transport(folder, "a", places) as a:
        member = raw_session(folder, "m", [places["a"]])
        tokens = [
            member.liveliness().declare_token(f"p2p/test/alive/{name}")
            for name in ("m1", "b", "*", "m")
        ]
        await until(lambda: "m" in a.reachable())
        assert list(a.reachable()) == ["m"]
        del tokens
        member.close()


@pytest.mark.thorough
@run
async def test_a_certificate_that_ends_disconnects_and_a_new_one_reconnects(
    folder, caplog
):
    places = free_addresses(NAMES)
    renew(folder, ["b"], days=6 / 86_400)
    with caplog.at_level(logging.INFO):
        async with (
            transport(folder, "a", places, "b") as a,
            transport(folder, "b", places) as b,
        ):
            assert probe(folder / "a", places["b"]).name == "b"
            await until(lambda: list(a.reachable()) == ["b"])
            await until(lambda: a.reachable() == {} == b.reachable())
            assert a.receivers() == []
            await until(lambda: "its certificate is refused" in str(reasons(caplog)))
            renew(folder, ["b"], days=5)
            ends = certificate_ends(folder / "b").timestamp()
            await until(lambda: b.certificate_ends == ends)
            await until(
                lambda: list(a.reachable()) == ["b"] and list(b.reachable()) == ["a"]
            )
    events = [record.getMessage() for record in caplog.records]
    assert "certificate ends soon" in events
    assert "certificate has ended" in events
    assert "certificate renewed" in events


def reasons(caplog):
    records = [r for r in caplog.records if "no connection" in r.getMessage()]
    return [record.data["reason"] for record in records]


@run
async def test_the_log_says_why_another_authority_is_not_connected(
    folder, tmp_path, caplog
):
    write_network(tmp_path / "other", "test", "public", NAMES)
    places = free_addresses(NAMES)
    async with (
        transport(folder, "a", places, "b"),
        transport(tmp_path / "other", "b", places, "a"),
    ):
        await until(lambda: len(reasons(caplog)) >= 2)
    assert all("its certificate is refused" in reason for reason in reasons(caplog))


@run
async def test_the_end_of_a_certificate_is_told_though_its_file_is_damaged(
    folder, caplog
):
    async def stay():
        pass

    renew(folder, ["a"], days=3)
    watch = link_watch.LinkWatch(folder / "a", [], list, list, stay)
    (folder / "a" / "tls.crt").write_text("half a certificate")
    await watch._look_at_certificate()
    assert "certificate ends soon" in caplog.text


@run
async def test_a_session_that_opens_too_late_is_closed(folder, monkeypatch):
    """It would keep the address that the next attempt needs."""
    opened, closed = threading.Event(), threading.Event()

    def open_late(_):
        opened.wait(PATIENCE_S)
        return SimpleNamespace(close=closed.set)

    monkeypatch.setattr(zenoh, "open", open_late)
    monkeypatch.setattr(zenoh_transport, "_OPEN_S", 0.05)
    with pytest.raises(ConfigError, match="timed out"):
        async with transport(folder, "a", free_addresses(NAMES)):
            pass
    opened.set()
    await until(closed.is_set)


@run
async def test_locks_of_identities_lie_where_nobody_else_writes(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    locks = tmp_path / f"p2p_sac_jax-{os.geteuid()}"
    locks.mkdir()
    locks.chmod(0o777)
    with pytest.raises(ConfigError, match="must belong to this user"):
        async with transport(folder, "a", free_addresses(NAMES)):
            pass


@run
async def test_one_process_runs_an_identity(folder, tmp_path):
    places = free_addresses(NAMES)
    async with transport(folder, "a", places):
        for place in (folder / "a", copy_folder(folder / "a", tmp_path / "a")):
            second = ZenohTransport(place, listen=[places["b"]])
            with pytest.raises(ConfigError, match="peer 'a' already runs on this"):
                await second.open(lambda *_: None, lambda *_: [])
            await second.close()
