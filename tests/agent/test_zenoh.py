"""The zenoh transport between real processes: delivery, doors, kills and stops.

Each refused peer is shown beside a valid one of the same construction.
"""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
import zenoh

from examples.loopback import free_addresses
from p2p_sac_jax.agent.ops.authority import (
    Authority,
    dump_certificate,
    dump_key,
    issue,
    make_authority,
    open_authority,
    write_network,
)
from p2p_sac_jax.agent.protocol.envelope import MAX_BYTES
from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
from p2p_sac_jax.config import ConfigError
from tests.helpers.zenoh_peers import (
    Attacker,
    Peer,
    copy_folder,
    running,
    wait_until,
)

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    write_network(folder, "test", "consortium", (*NAMES, "absent"))
    return folder


@pytest.fixture
def other_network(tmp_path):
    """Identities that no peer of ``pair`` runs."""
    write_network(tmp_path / "other", "test", "consortium", NAMES)
    return tmp_path / "other"


@pytest.fixture(scope="module")
def places():
    return free_addresses(NAMES)


@pytest.fixture(scope="module")
def pair(network, places):
    """Peers a and b, connected; c's place is free for attackers."""
    with running(network, places, "a", "b") as peers:
        peers["a"].wait_for("b")
        peers["b"].wait_for("a")
        yield peers["a"], peers["b"]


def unknown(network, folder, kind):
    """The folder of c with a certificate that ought not to open any checks."""
    ours = open_authority(network)
    foreign = make_authority("test", 10)
    authority: Authority = foreign if kind == "another authority" else ours
    key, certificate = issue(
        authority,
        "mallory" if kind == "a name not in the list" else "c",
        days=-1 if kind == "expired" else 1,
    )
    trusted = dump_certificate(ours.certificate) + dump_certificate(foreign.certificate)
    return copy_folder(
        network / "c",
        folder,
        tls_key=dump_key(key),
        tls_crt=dump_certificate(certificate),
        ca_crt=trusted,  # it would talk to anybody
    )


def test_messages_go_both_ways_and_never_back(pair):
    a, b = pair
    a.publish("one", "two")
    b.publish("three")
    wait_until(lambda: b.received("a") == ["one", "two"], "b to receive from a")
    wait_until(lambda: a.received("b") == ["three"], "a to receive from b")
    assert not a.received("a")
    assert not b.received("b")


def test_queries_are_answered_by_others_and_the_requester_is_known(pair):
    a, b = pair
    assert a.ask("why?") == [["b", "b 0 why?"], ["b", "b 1 why?"]]
    assert b.requesters() == ["a"]
    assert not a.requesters()


@pytest.mark.parametrize(
    "kind", ["a valid one", "another authority", "expired", "a name not in the list"]
)
def test_only_a_name_of_the_roster_with_a_valid_certificate_exchanges(
    pair, network, places, tmp_path, kind
):
    a, _ = pair
    before, requesters = len(a.received("c")), len(a.requesters())
    with Attacker(unknown(network, tmp_path / "c", kind), "c", places) as c:
        if kind in ("a valid one", "a name not in the list"):
            wait_until(c.session.info.links, "a connection")

        def exchange(number):
            c.put(f"from {kind} {number}")
            a.publish(f"to {kind} {number}")
            replies = c.ask("p2p/test/pull/a/c", timeout_s=0.3)
            received = [text for text in c.received if kind in text]
            return a.received("c")[before:], received, replies

        for number in range(20):  # a second is what the first peers need to connect
            found = exchange(number)
            if all(found):
                break
            time.sleep(0.1)
        if kind == "a valid one":
            assert all(found)
            assert "c" in a.reachable()
            assert "c" in a.requesters()[requesters:]
        else:
            assert found == ([], [], [])
            assert "c" not in a.reachable()
            assert "c" not in a.requesters()[requesters:]
            connected = bool(c.session.info.links())
            assert connected == (kind == "a name not in the list")


def test_a_peer_can_send_under_its_own_name_only(pair, network, places):
    a, _ = pair
    requesters, before = len(a.requesters()), len(a.received("c"))
    with Attacker(network / "c", "c", places) as c:
        wait_until(lambda: "c" in a.reachable(), "a to reach c")
        tokens = [
            c.session.liveliness().declare_token(f"p2p/test/alive/{name}")
            for name in ("absent", "*", "mallory")
        ]
        for number, key in enumerate(
            (
                "p2p/test/insight/b",
                "p2p/test/insight/*",
                "p2p/test/insight/**",
                "p2p/**",
                "p2p/test/insight/c/b",
                "p2p/test/insight/mallory",
                "p2p/other/insight/c",
                "p2p/test/pull/b/a",
            )
        ):
            c.put(f"forged {number}", key)
        c.session.delete("p2p/test/insight/c")
        c.put(b"x" * (MAX_BYTES + 2048))
        c.put(b"x" * 10_000_000)
        assert not c.ask("p2p/test/pull/a/b", timeout_s=0.3)
        assert not c.ask("p2p/test/pull/**", timeout_s=0.3)
        wait_until(lambda: c.ask("p2p/test/pull/a/c"), "a to answer c")
        wait_until(
            lambda: (c.put("true"), "true" in a.received("c")[before:])[1],
            "a to receive from c",
        )
        # What is a little too long is cut, and stays too long; ten million are dropped.
        longest = "x" * (MAX_BYTES + 1)
        assert set(a.received("c")[before:]) == {longest, "true"}
        assert not [text for text in a.received("b") if "forged" in text]
        assert set(a.requesters()[requesters:]) == {"c"}
        assert set(a.reachable()) == {"b", "c"}  # and not the one that is absent
        del tokens
        assert not c.ask("p2p/test/pull/b/a", timeout_s=0.3)
    a.wait_for("b")
    assert a.ask("still there?") == [
        ["b", "b 0 still there?"],
        ["b", "b 1 still there?"],
    ]


def test_no_peer_replies_for_another(pair, network, places):
    a, _ = pair
    with Attacker(network / "c", "c", places) as c:

        def reply(query):
            with query:
                for name in ("b", "c"):
                    try:
                        query.reply(f"p2p/test/pull/{name}/a", f"{name} by c")
                    except zenoh.ZError:
                        continue

        for name, requester in (("c", "a"), ("c", "*"), ("b", "a"), ("b", "*")):
            key = f"p2p/test/pull/{name}/{requester}"
            c.session.declare_queryable(key, reply)
        wait_until(lambda: "c" in a.reachable(), "a to reach c")
        found = wait_until(
            lambda: [r for r in a.ask("?") if r[0] == "c"] and a.ask("?"), "c's reply"
        )
        assert ["c", "c by c"] in found
        assert ["b", "b by c"] not in found
    a.wait_for("b")


def test_a_killed_peer_reconnects(other_network):
    places = free_addresses(NAMES)
    with running(other_network, places, "a", "b") as peers:
        a, b = peers.values()
        a.wait_for("b")
        b.end(signal.SIGKILL)
        a.wait_for()
        with Peer(other_network / "b", places) as b:
            a.wait_for("b")
            b.wait_for("a")
            b.publish("back")
            wait_until(lambda: a.received("b") == ["back"], "a to receive from b")
            a.publish("welcome")
            wait_until(lambda: b.received("a") == ["welcome"], "b to receive from a")
            assert b.end() == (0, "")
        a.wait_for()
        assert a.end() == (0, "")


def test_a_hello_comes_with_messages_and_queries(network):
    """And is forgotten with the connection: the peer may come back upgraded."""
    places = free_addresses(NAMES)

    async def meet():
        a = ZenohTransport(network / "absent", listen=[places["a"]])
        b = ZenohTransport(network / "c", connect=[places["a"]])
        a.announce("1-interval.aaaaaa")
        for transport in (a, b):
            await transport.open(lambda *_: None, lambda *_: [b"known"])

        async def until(condition):
            async with asyncio.timeout(30.0):
                while not condition():
                    await asyncio.sleep(0.02)

        try:
            await until(lambda: a.reachable() and b.reachable())
            assert b.reachable() == {"absent": ""}
            assert await a.query("c", b"?", 5.0) == [b"known"]
            assert b.reachable() == {"absent": "1-interval.aaaaaa"}
            a.announce("1-interval.bbbbbb")
            a.publish(b"news")
            await until(lambda: b.reachable() == {"absent": "1-interval.bbbbbb"})
            assert a.reachable() == {"c": ""}  # b has stated nothing
            await a.close()
            await until(lambda: not b.reachable())
            a.announce("")
            await a.open(lambda *_: None, lambda *_: [])
            await until(b.reachable)
            assert b.reachable() == {"absent": ""}
        finally:
            await a.close()
            await b.close()

    asyncio.run(meet())


@pytest.mark.slow
@pytest.mark.thorough
def test_a_stopped_peer_delays_no_other(other_network):
    places = free_addresses(NAMES)
    with running(other_network, places, *NAMES) as peers:
        a, b, c = peers.values()
        for peer in peers.values():
            peer.wait_for(*peers.keys() - {peer.name})
        b.process.send_signal(signal.SIGSTOP)
        a.wait_for("c")  # a silent peer is disconnected
        b.process.send_signal(signal.SIGCONT)
        a.wait_for("b", "c")

        # More than sockets hold: b's are full soon, and it reads none.
        b.process.send_signal(signal.SIGSTOP)
        texts = [f"{number} {'x' * 8000}" for number in range(1500)]
        for first in range(0, len(texts), 50):
            last = texts[first : first + 50][-1]
            a.publish(*texts[first : first + 50])
            wait_until(
                lambda last=last: last in c.received("a")[-1:], "c to receive from a"
            )
        assert c.received("a") == texts
        assert a.ask("hello?", 1.0) == [
            ["c", "c 0 hello?"],
            ["c", "c 1 hello?"],
        ]
        b.process.send_signal(signal.SIGCONT)
        wait_until(
            lambda: (a.publish("awake?"), "awake?" in b.received("a"))[1],
            "b to receive from a again",
        )

        b.process.send_signal(signal.SIGSTOP)
        for _ in range(10):
            a.publish(*texts[:150])
        wait_until(
            lambda: len(c.received("a")) > len(texts) + 150, "c to receive from a"
        )
        for peer in (a, c):
            assert peer.end()[0] == 0


def test_what_cannot_be_opened_is_one_line(other_network):
    places = free_addresses(NAMES)

    async def clash():
        first = ZenohTransport(other_network / "a", listen=[places["a"]])
        second = ZenohTransport(other_network / "b", listen=[places["a"]])
        await first.open(lambda *_: None, lambda *_: [])
        try:
            await second.open(lambda *_: None, lambda *_: [])
        finally:
            await second.close()
            await first.close()

    with pytest.raises(ConfigError, match=f"^listen={places['a']}: .*") as error:
        asyncio.run(clash())
    assert "\n" not in str(error.value)
    for place in ("7447", "tcp/x:1", "x:1#root_ca_certificate=/x", "x:65536", ""):
        with pytest.raises(ConfigError, match="must be HOST:PORT"):
            ZenohTransport(other_network / "a", connect=[place])
