"""Liars in the network: nothing of theirs gets in, and nobody else pays for it."""

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
    Listener,
    forge,
    hub_of,
    outsider,
    peer,
    peers_of,
    run,
)


@run
async def test_thousands_of_hostile_messages_among_honest_ones():
    hub = hub_of(4, loss=0.1)
    networks, listeners = await peers_of(hub, rate_per_s=200.0, burst=400.0)
    await networks["peer3"].disconnect()
    is_byzantine, stranger = (
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
        lambda: draw.choice(captured),  # replays, of all that was ever said
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
            draw.choice((is_byzantine, stranger)).publish(attack())
        hub.advance(0.1)
    for _ in range(8):
        for name in ("peer0", "peer1", "peer2"):
            await networks[name].sync()
    honest = {"peer0", "peer1", "peer2"}
    for name in honest:
        listener = listeners[name]
        for other in honest - {name}:
            assert sorted(listener.sequences(other)) == list(range(1, rounds + 1))
        assert listener.sequences("peer3") == []
        assert len(listener.heard) == 2 * rounds
        refused = networks[name].status().counters.refused_from
        assert honest.isdisjoint(refused)
        assert sum(refused["peer3"].values()) > rounds
        assert sum(refused[""].values()) > rounds


@run
async def test_lies_in_answers_are_refused_and_hold_up_nobody():
    hub = hub_of(3)
    networks, listeners = await peers_of(hub)
    await networks["peer2"].disconnect()
    asked, epoch = [], int(hub.now_s() * 1000) + 9000

    def lies(source, raw):
        asked.append(raw)
        forged = [
            forge(hub, "peer0", "peer2", sequence=n, epoch=epoch) for n in range(1, 5)
        ]
        return [*forged * 5000, b"", bytes(MAX_BYTES + 1)]

    is_byzantine = InProcessTransport(hub, "peer2")
    await is_byzantine.open(lambda source, raw: None, lies)
    hub.loss = 1.0
    for _ in range(3 * REPLY_MESSAGES):
        await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert await networks["peer1"].sync() == 3 * REPLY_MESSAGES
    expected = list(range(1, 3 * REPLY_MESSAGES + 1))
    assert listeners["peer1"].sequences("peer0") == expected
    # One lie for each question: after it, nothing else of the answer is looked at.
    refused = networks["peer1"].status().counters.refused_from
    assert refused == {"peer2": {"bad_signature": len(asked)}}


@run
async def test_who_always_has_something_new_keeps_nobody_for_ever(monkeypatch):
    hub = hub_of(3)
    networks, listeners = await peers_of(hub, log_messages=100)
    await networks["peer2"].disconnect()
    sequence = itertools.count(1)

    def endless(source, raw):
        return [forge(hub, "peer2", sequence=next(sequence), epoch=7)]

    is_byzantine = InProcessTransport(hub, "peer2")
    await is_byzantine.open(lambda source, raw: None, endless)
    assert await networks["peer1"].sync() == 300  # as many as honest logs could hold
    monkeypatch.setattr("p2p_sac_jax.agent.protocol.peer_network.SYNC_S", 0.0)
    assert await networks["peer1"].sync() == 0
    assert listeners["peer1"].sequences("peer2") == list(range(1, 301))


@run
async def test_who_always_has_something_new_keeps_nobody_from_the_others():
    """Neither by gaps that fill the first pages, nor by an answer to every question."""
    hub = hub_of(3, loss=1.0)
    networks, listeners = await peers_of(hub, log_messages=100)
    await networks["peer0"].disconnect()
    sequence = itertools.count(10_001)

    def endless(source, raw):
        return [forge(hub, "peer0", sequence=next(sequence), epoch=7)]

    is_byzantine = InProcessTransport(hub, "peer0")
    await is_byzantine.open(lambda source, raw: None, endless)
    for number in range(1, 2 * MAX_GAPS + 1):
        hub.loss = 0.0
        is_byzantine.publish(forge(hub, "peer0", sequence=2 * number, epoch=7))
        hub.loss = number % 2
        await networks["peer2"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert len(listeners["peer1"].sequences("peer2")) == MAX_GAPS  # torn, too
    assert await networks["peer1"].sync() == 300
    missing = set(range(2 * MAX_GAPS - 99, 2 * MAX_GAPS, 2))  # as far as they are kept
    assert missing < set(listeners["peer1"].sequences("peer2"))


@run
async def test_no_number_and_no_start_spoils_the_questions_of_others():
    hub = hub_of(3)
    networks, listeners = await peers_of(hub)
    await networks["peer2"].disconnect()
    is_byzantine = await outsider(hub, "peer2")
    now_ms = int(hub.now_s() * 1000)
    for raw in (
        forge(hub, "peer2", sequence=LAST),
        forge(hub, "peer2", sequence=LAST - 1),
        forge(hub, "peer2", epoch=now_ms + FUTURE_MS + 1),
    ):
        is_byzantine.publish(raw)
    hub.loss = 1.0
    await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    assert await networks["peer1"].sync() == 1
    assert listeners["peer1"].sequences("peer2") == [LAST - 1]
    assert listeners["peer1"].sequences("peer0") == [1]
    refused = {"garbage": 1, "future": 1}
    for name in ("peer0", "peer1"):
        refused_from = networks[name].status().counters.refused_from
        assert refused_from == {"peer2": refused}


@run
async def test_questions_are_answered_at_a_bounded_rate_for_each_asker():
    hub = hub_of(3)
    networks, _ = await peers_of(hub)
    await networks["peer2"].disconnect()
    is_byzantine, stranger = (
        await outsider(hub, "peer2"),
        await outsider(hub, "mallory"),
    )
    await networks["peer0"].broadcast(KIND, FIELDS)
    (question,) = make_digests(hub.roster, ["peer0"], {})
    answers = [len(await is_byzantine.query(question, 1.0)) for _ in range(700)]
    assert sum(answers) == 2 * 500  # of peer0 and peer1, until both had enough
    assert await stranger.query(question, 1.0) == []
    assert await is_byzantine.query(b"\xff", 1.0) == []
    late = await peer(hub, "peer2", listener := Listener())
    hub.advance(1.0)
    assert await late.sync() == 1
    assert listener.sequences("peer0") == [1]
    refused = networks["peer0"].status().counters.refused_from
    assert refused["peer2"]["rate"] >= 200
    assert refused[""] == {"unknown_sender": 1}


@run
async def test_the_flood_of_one_is_not_the_silence_of_another():
    hub = hub_of(3)
    networks, listeners = await peers_of(hub, rate_per_s=10.0, burst=20.0)
    await networks["peer2"].disconnect()
    is_byzantine = await outsider(hub, "peer2")
    for number in range(1, 501):
        is_byzantine.publish(forge(hub, "peer2", sequence=number, epoch=7))
        if number % 10 == 0:
            hub.advance(0.1)
            await networks["peer0"].broadcast(KIND, FIELDS)
    assert listeners["peer1"].sequences("peer0") == list(range(1, 51))
    flood = listeners["peer1"].sequences("peer2")
    assert 20 <= len(flood) <= 20 + 10.0 * 5.0 + 1
    counters = networks["peer1"].status().counters
    assert counters.refused == {"rate": 500 - len(flood)}


@run
async def test_memory_is_bounded_against_a_member_who_fills_it():
    hub = hub_of(3)
    bounds = {"log_messages": 64, "log_bytes": 600_000, "burst": 1e9}
    networks = {name: await peer(hub, name, **bounds) for name in ("peer0", "peer1")}
    is_byzantine = await outsider(hub, "peer2")
    trend = np.zeros(4000)
    large = encode_body("public", KIND, {"trend": trend, "entropy": 0.0, "time": 0.0})

    def flood(first, last):
        for number in range(first, last):  # large, with a gap before each
            raw = forge(hub, "peer2", sequence=2 * number, epoch=7, body=large)
            is_byzantine.publish(raw)
            for refused in (Refusal.garbage, Refusal.shape):
                networks["peer0"].refuse(f"stranger{number}", refused)

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
    # The windows are torn to the utmost; syncs go through all pages, and end.
    await networks["peer1"].broadcast(KIND, FIELDS)
    assert await networks["peer0"].sync() == 0
    late = await peer(hub, "peer2", **bounds)
    assert await late.sync() == 1
