"""Byzantine peers: their messages are refused, and no other peer is affected."""

import functools
import itertools
import random
import tracemalloc

import numpy as np

from p2p_sac_jax.agent.protocol.envelope import FUTURE_MS, LAST, MAX_BYTES
from p2p_sac_jax.agent.protocol.message_log import REPLY_MESSAGES
from p2p_sac_jax.agent.protocol.payloads import encode_body
from p2p_sac_jax.agent.protocol.refusals import Refusal
from p2p_sac_jax.agent.protocol.sequence_set import MAX_GAPS, make_digests
from p2p_sac_jax.agent.transport.in_process import InProcessTransport
from tests.helpers.hub_peers import (
    BODY,
    FIELDS,
    KIND,
    Recorder,
    forge,
    hub_of,
    outsider,
    peer,
    peers_of,
    run,
)


@run
async def test_thousands_of_byzantine_messages_among_honest_ones():
    hub = hub_of(4, loss=0.1)
    networks, recorders = await peers_of(hub, rate_per_s=200.0, burst=400.0)
    await networks["peer3"].disconnect()
    byzantine_peer, unknown = (
        await outsider(hub, "peer3"),
        await outsider(hub, "mallory"),
    )
    draw = random.Random(0)
    captured = []
    spy = await outsider(hub, "spy")
    await spy.open(lambda source, raw: captured.append(raw), lambda source, raw: [])
    future = int(hub.now_s() * 1000) + 10**9
    byzantine = [
        lambda: draw.randbytes(draw.randrange(400)),
        lambda: bytes(MAX_BYTES + 1),
        lambda: draw.choice(captured),  # replays, of all that was ever sent
        lambda: draw.choice(captured)[:-1],
        lambda: forge(hub, "peer0", "peer3", epoch=future, sequence=10**6),
        lambda: forge(hub, "peer3", time_ms=future),
        lambda: forge(hub, "peer3", mode="private"),
        lambda: forge(hub, "peer3", network="elsewhere"),
        lambda: forge(hub, "peer3", body=BODY[:-4] + b"\x00\x00\xc0\x7f"),
        lambda: forge(hub, "peer3", body=b"\x81\xa6action\xc4\x00"),
    ]
    rounds = 100
    for _ in range(rounds):
        for name in ("peer0", "peer1", "peer2"):
            await networks[name].broadcast(KIND, FIELDS)
        for attack in byzantine * 2:
            draw.choice((byzantine_peer, unknown)).publish(attack())
        hub.advance(0.1)
    for _ in range(8):
        for name in ("peer0", "peer1", "peer2"):
            await networks[name].sync()
    honest = {"peer0", "peer1", "peer2"}
    for name in honest:
        recorder = recorders[name]
        for other in honest - {name}:
            assert sorted(recorder.sequences(other)) == list(range(1, rounds + 1))
        assert recorder.sequences("peer3") == []
        assert len(recorder.received) == 2 * rounds
        refused = networks[name].status().counters.refused_from
        assert honest.isdisjoint(refused)
        assert sum(refused["peer3"].values()) > rounds
        assert sum(refused[""].values()) > rounds


@run
async def test_forged_replies_are_refused_and_delay_no_peer():
    hub = hub_of(3)
    networks, recorders = await peers_of(hub)
    await networks["peer2"].disconnect()
    asked, epoch = [], int(hub.now_s() * 1000) + 9000

    def forged_replies(source, raw):
        asked.append(raw)
        forged = [
            forge(hub, "peer0", "peer2", sequence=n, epoch=epoch) for n in range(1, 5)
        ]
        return [*forged * 5000, b"", bytes(MAX_BYTES + 1)]

    byzantine_peer = InProcessTransport(hub, "peer2")
    await byzantine_peer.open(lambda source, raw: None, forged_replies)
    hub.loss = 1.0
    for _ in range(3 * REPLY_MESSAGES):
        await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert await networks["peer1"].sync() == 3 * REPLY_MESSAGES
    expected = list(range(1, 3 * REPLY_MESSAGES + 1))
    assert recorders["peer1"].sequences("peer0") == expected
    # One refusal for each digest: the rest of the reply is ignored.
    refused = networks["peer1"].status().counters.refused_from
    assert refused == {"peer2": {"bad_signature": len(asked)}}


@run
async def test_a_peer_with_endless_news_does_not_prolong_a_sync(monkeypatch):
    hub = hub_of(3)
    networks, recorders = await peers_of(hub, log_messages=100)
    await networks["peer2"].disconnect()
    sequence = itertools.count(1)

    def endless(source, raw):
        return [forge(hub, "peer2", sequence=next(sequence), epoch=7)]

    byzantine_peer = InProcessTransport(hub, "peer2")
    await byzantine_peer.open(lambda source, raw: None, endless)
    assert await networks["peer1"].sync() == 300  # as many as honest logs could hold
    monkeypatch.setattr("p2p_sac_jax.agent.protocol.peer_network.SYNC_S", 0.0)
    assert await networks["peer1"].sync() == 0
    assert recorders["peer1"].sequences("peer2") == list(range(1, 301))


@run
async def test_a_peer_with_endless_news_does_not_displace_others():
    """Neither by gaps that fill the first pages, nor by an answer to every question."""
    hub = hub_of(3, loss=1.0)
    networks, recorders = await peers_of(hub, log_messages=100)
    await networks["peer0"].disconnect()
    sequence = itertools.count(10_001)

    def endless(source, raw):
        return [forge(hub, "peer0", sequence=next(sequence), epoch=7)]

    byzantine_peer = InProcessTransport(hub, "peer0")
    await byzantine_peer.open(lambda source, raw: None, endless)
    for number in range(1, 2 * MAX_GAPS + 1):
        hub.loss = 0.0
        byzantine_peer.publish(forge(hub, "peer0", sequence=2 * number, epoch=7))
        hub.loss = number % 2
        await networks["peer2"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert len(recorders["peer1"].sequences("peer2")) == MAX_GAPS  # with gaps, too
    assert await networks["peer1"].sync() == 300 + 50  # of peer0, and of peer2
    missing = set(range(2 * MAX_GAPS - 99, 2 * MAX_GAPS, 2))  # as far as they are kept
    assert missing < set(recorders["peer1"].sequences("peer2"))


@run
async def test_no_sequence_and_no_epoch_spoils_the_digests_of_others():
    hub = hub_of(3)
    networks, recorders = await peers_of(hub)
    await networks["peer2"].disconnect()
    byzantine_peer = await outsider(hub, "peer2")
    now_ms = int(hub.now_s() * 1000)
    for raw in (
        forge(hub, "peer2", sequence=LAST),
        forge(hub, "peer2", sequence=LAST - 1),
        forge(hub, "peer2", epoch=now_ms + FUTURE_MS + 1),
    ):
        byzantine_peer.publish(raw)
    hub.loss = 1.0
    await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert await networks["peer1"].sync() == 1
    assert recorders["peer1"].sequences("peer2") == [LAST - 1]
    assert recorders["peer1"].sequences("peer0") == [1]
    refused = {"garbage": 1, "future": 1}
    for name in ("peer0", "peer1"):
        refused_from = networks[name].status().counters.refused_from
        assert refused_from == {"peer2": refused}


@run
async def test_queries_are_answered_at_a_bounded_rate_for_each_requester():
    hub = hub_of(3)
    networks, _ = await peers_of(hub)
    await networks["peer2"].disconnect()
    byzantine_peer, unknown = (
        await outsider(hub, "peer2"),
        await outsider(hub, "mallory"),
    )
    await networks["peer0"].broadcast(KIND, FIELDS)
    (question,) = make_digests(hub.roster, ["peer0"], {})
    ask = functools.partial(byzantine_peer.query, "peer0")
    answers = [len(await ask(question, 1.0)) for _ in range(700)]
    assert sum(answers) == 500  # until peer0 had enough
    assert await unknown.query("peer0", question, 1.0) == []
    assert await ask(b"\xff", 1.0) == []
    late = await peer(hub, "peer2", recorder := Recorder())
    hub.advance(1.0)
    assert await late.sync() == 1
    assert recorder.sequences("peer0") == [1]
    refused = networks["peer0"].status().counters.refused_from
    assert refused["peer2"]["rate"] >= 200
    assert refused[""] == {"unknown_sender": 1}


@run
async def test_a_flood_of_one_peer_does_not_silence_another():
    hub = hub_of(3)
    networks, recorders = await peers_of(hub, rate_per_s=10.0, burst=20.0)
    await networks["peer2"].disconnect()
    byzantine_peer = await outsider(hub, "peer2")
    for number in range(1, 501):
        byzantine_peer.publish(forge(hub, "peer2", sequence=number, epoch=7))
        if number % 10 == 0:
            hub.advance(0.1)
            await networks["peer0"].broadcast(KIND, FIELDS)
    assert recorders["peer1"].sequences("peer0") == list(range(1, 51))
    flood = recorders["peer1"].sequences("peer2")
    assert 20 <= len(flood) <= 20 + 10.0 * 5.0 + 1
    counters = networks["peer1"].status().counters
    assert counters.refused == {"rate": 500 - len(flood)}


@run
async def test_memory_is_bounded_under_a_flood_of_a_member():
    hub = hub_of(3)
    bounds = {"log_messages": 64, "log_bytes": 600_000, "burst": 1e9}
    networks = {name: await peer(hub, name, **bounds) for name in ("peer0", "peer1")}
    byzantine_peer = await outsider(hub, "peer2")
    trend = np.zeros(4000)
    large = encode_body("public", KIND, {"trend": trend, "entropy": 0.0, "time": 0.0})

    def flood(first, last):
        for number in range(first, last):  # large, with a gap before each
            raw = forge(hub, "peer2", sequence=2 * number, epoch=7, body=large)
            byzantine_peer.publish(raw)
            for refused in (Refusal.garbage, Refusal.shape):
                networks["peer0"].refuse(f"unknown{number}", refused)

    flood(1, 300)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        flood(300, 2500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 2200 * len(large) > 30e6  # what came in
    assert after - before < 1e6  # what was kept of it
    counters = networks["peer0"].status().counters
    assert counters.delivered == 2499
    assert counters.log_bytes <= 200_000
    assert counters.log_messages <= 64
    assert set(counters.refused_from) == {""}
    # The sets have as many gaps as possible; syncs go through all pages, and end.
    await networks["peer1"].broadcast(KIND, FIELDS)
    assert await networks["peer0"].sync() == 0
    late = await peer(hub, "peer2", **bounds)
    assert await late.sync() == 1
