"""A network in one process: what is sent, kept, pulled and values to the user."""

import asyncio

import numpy as np
import pytest

from p2p_sac_jax.agent.protocol import delivery
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.protocol.refusals import Refusal
from p2p_sac_jax.agent.transport.in_process import (
    InProcessTransport,
    in_process_network,
)
from p2p_sac_jax.config import ConfigError
from tests.helpers.hub_peers import (
    FIELDS,
    KIND,
    Recorder,
    forge,
    hub_of,
    peer,
    peers_of,
    run,
)


@run
async def test_a_broadcast_has_arrived_when_it_returns():
    hub = hub_of()
    networks, recorders = await peers_of(hub)
    assert await networks["peer0"].broadcast(KIND, FIELDS)
    for name in ("peer1", "peer2"):
        (delivery,) = recorders[name].received
        assert (delivery.sender, delivery.kind, delivery.sequence) == ("peer0", KIND, 1)
        assert delivery.time_ms == int(hub.now_s() * 1000)
        assert set(delivery.fields) == set(FIELDS)
        np.testing.assert_array_equal(delivery.fields["trend"], FIELDS["trend"])
        assert delivery.fields["entropy"].shape == (1,)
    assert recorders["peer0"].received == []
    assert networks["peer0"].peers == ("peer0", "peer1", "peer2")
    assert await networks["peer1"].sync() == 0


@run
async def test_status_reports_peers_health_and_counters():
    hub = hub_of()
    networks = {name: in_process_network(hub, name) for name in hub.roster.keys}
    first = networks["peer0"]
    status = first.status()
    assert (status.connected, status.health, status.peers) == (False, "alone", ())
    assert status.last_sync_s is None
    await first.connect()
    await first.connect()
    assert not await first.broadcast(KIND, FIELDS)
    assert await first.sync() == 0
    status = first.status()
    assert (status.connected, status.health) == (True, "alone")
    assert status.last_sync_s is None  # no peer was reachable
    assert (status.counters.kept, status.counters.sent) == (1, 0)
    await networks["peer1"].connect()
    assert (first.status().health, first.status().peers) == ("degraded", ("peer1",))
    await networks["peer2"].connect()
    assert first.status().health == "connected"
    assert await networks["peer2"].sync() == 1
    hub.advance(7.0)
    status = networks["peer2"].status()
    assert status.last_sync_s == pytest.approx(7.0)
    assert (status.counters.delivered, status.counters.pulled) == (1, 1)
    await first.disconnect()
    await first.disconnect()
    assert first.status().health == "alone"
    assert not await first.broadcast(KIND, FIELDS)
    assert await first.sync() == 0
    assert first.status().counters.bytes_sent == 0


@run
async def test_unsent_messages_are_pulled_later_even_through_others():
    hub = hub_of()
    first = in_process_network(hub, "peer0")
    assert not await first.broadcast(KIND, FIELDS)  # not even connected
    await first.connect()
    assert not await first.broadcast(KIND, FIELDS)  # no peer is reachable
    received = {name: Recorder() for name in ("peer1", "peer2")}
    second = await peer(hub, "peer1", received["peer1"])
    assert await second.sync() == 2
    await first.disconnect()
    third = await peer(hub, "peer2", received["peer2"])  # never met the first
    assert await third.sync() == 2
    await first.connect()
    assert await first.broadcast(KIND, FIELDS)
    for recorder in received.values():
        assert recorder.sequences("peer0") == [1, 2, 3]
    assert await third.sync() == 0


@run
async def test_late_messages_of_a_closed_transport_are_not_delivered(tmp_path):
    hub = hub_of()
    transport = InProcessTransport(hub, "peer1")
    options = {"folder": tmp_path, "clock": hub.now_s}
    identity, recorder = hub.identity("peer1"), Recorder()
    network = PeerNetwork(transport, identity, hub.roster, **options)
    network.register_message_handler(KIND, recorder)
    await network.connect()
    await network.disconnect()
    transport.receive("peer0", raw := forge(hub, "peer0"))
    assert recorder.received == []
    again = PeerNetwork(transport, identity, hub.roster, **options)
    again.register_message_handler(KIND, recorder)
    await again.connect()
    transport.receive("peer0", raw)
    assert recorder.sequences("peer0") == [1]
    await again.disconnect()


@run
async def test_a_transport_that_cannot_open_releases_the_folder(tmp_path):
    class Closed(InProcessTransport):
        async def open(self, on_message, on_query):
            raise ConfigError("listen='here' is taken")

    hub = hub_of()
    for _ in range(2):
        network = PeerNetwork(
            Closed(hub, "peer0"), hub.identity("peer0"), hub.roster, folder=tmp_path
        )
        with pytest.raises(ConfigError, match="is taken"):
            await network.connect()
        assert not network.status().connected


@run
async def test_a_restarted_peer_delivers_nothing_twice(tmp_path):
    hub = hub_of()
    sender = await peer(hub, "peer0")
    helper = await peer(hub, "peer1")
    recorder = Recorder()
    for start in range(4):
        receiver = await peer(hub, "peer2", recorder, folder=tmp_path)
        assert await receiver.sync() == (start > 0)
        for _ in range(5):
            await sender.broadcast(KIND, FIELDS)
        assert await receiver.sync() == 0
        await receiver.disconnect()
        await sender.broadcast(KIND, FIELDS)  # while it is away
    again = await peer(hub, "peer2", recorder, folder=tmp_path)
    assert await again.sync() == 1
    assert recorder.sequences("peer0") == list(range(1, 25))
    await again.disconnect()
    assert await helper.sync() == 0


@run
async def test_a_folder_belongs_to_one_peer_at_a_time(tmp_path):
    hub = hub_of()
    network = await peer(hub, "peer0", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"is in use by process \d+"):
        in_process_network(hub, "peer0", folder=tmp_path)
    await network.disconnect()
    receiver = await peer(hub, "peer1", recorder := Recorder())
    other = await peer(hub, "peer0", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"is in use by process \d+"):
        await network.connect()
    await other.broadcast(KIND, FIELDS)
    await other.disconnect()
    await network.connect()  # as a start after that one, or it would be refused
    await network.broadcast(KIND, FIELDS)
    assert recorder.sequences("peer0") == [1, 1]
    await receiver.disconnect()
    await network.disconnect()


@run
async def test_a_failing_or_hanging_handler_affects_no_other(monkeypatch, caplog):
    monkeypatch.setattr(delivery, "MAX_PENDING", 8)
    hub = hub_of()
    sender, receiver = await peer(hub, "peer0"), await peer(hub, "peer1")
    release, order = asyncio.Event(), Recorder()

    async def slow(delivery):
        await release.wait()
        order(delivery)
        raise RuntimeError("late")

    def broken(delivery):
        raise RuntimeError("at once")

    received = Recorder()
    for handler in (broken, slow, received):
        receiver.register_message_handler(KIND, handler)
    for _ in range(20):
        assert await sender.broadcast(KIND, FIELDS)
    assert received.sequences("peer0") == list(range(1, 9))  # the rest has to wait
    assert receiver.status().counters.refused == {"busy": 12}
    release.set()
    while order.sequences("peer0") != list(range(1, 9)):
        await asyncio.sleep(0)
    for _ in range(40):
        await receiver.sync()
        await asyncio.sleep(0)
    assert received.sequences("peer0") == list(range(1, 21))
    assert order.sequences("peer0") == list(range(1, 21))
    assert receiver.status().counters.handler_errors == 40
    assert len(caplog.records) < 30
    release.clear()
    await sender.broadcast(KIND, FIELDS)
    await receiver.disconnect()  # a handler that hangs does not hold it up


@run
async def test_user_errors_get_one_line():
    hub = hub_of()
    network = await peer(hub, "peer0")
    with pytest.raises(ConfigError, match=r"kind='gossip' must be one of: model_in"):
        network.register_message_handler("gossip", print)
    with pytest.raises(ConfigError, match=r"name='eve' must be one of: peer0, peer1"):
        in_process_network(hub, "eve")
    with pytest.raises(ConfigError, match=r"action_mean.* must be, in mode public"):
        await network.broadcast(KIND, FIELDS | {"action_mean": np.ones(2)})
    imposter = hub.identities["peer1"]._replace(name="peer0")
    with pytest.raises(ConfigError, match="name='peer0' must be in the roster"):
        PeerNetwork(InProcessTransport(hub, "peer0"), imposter, hub.roster)
    assert not await network.broadcast(KIND, FIELDS | {"entropy": np.nan})
    network.refuse("peer1", Refusal.shape)
    assert network.status().counters.refused_from == {
        "peer0": {"bad_number": 1},
        "peer1": {"shape": 1},
    }


@run
async def test_a_sync_ends_where_its_peer_disconnects():
    hub = hub_of(3)
    networks, recorders = await peers_of(hub)
    hub.loss = 1.0
    for _ in range(200):
        await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    sync = asyncio.create_task(networks["peer1"].sync())
    while not recorders["peer1"].received:
        await asyncio.sleep(0)
    await networks["peer1"].disconnect()
    assert await sync == len(recorders["peer1"].received) < 200


@run
async def test_a_slow_transport_drops_and_what_was_dropped_is_pulled():
    hub = hub_of(delay_s=1.0)
    hub.max_in_flight = 10
    networks, recorders = await peers_of(hub)
    for _ in range(30):
        await networks["peer0"].broadcast(KIND, FIELDS)
    hub.advance(2.0)
    assert len(recorders["peer1"].received) == 10
    assert networks["peer1"].status().counters.dropped == 20
    assert await networks["peer1"].sync() == 20
    assert sorted(recorders["peer1"].sequences("peer0")) == list(range(1, 31))


@run
async def test_handlers_may_send_and_partitions_stop_messages_in_flight():
    hub = hub_of(delay_s=1.0)
    networks, recorders = await peers_of(hub)

    async def thank(delivery):
        if delivery.sender == "peer0":
            await networks["peer1"].broadcast(KIND, FIELDS)

    networks["peer1"].register_message_handler(KIND, thank)
    await networks["peer0"].broadcast(KIND, FIELDS)
    hub.advance(1.0)
    await asyncio.sleep(0)
    hub.advance(1.0)
    assert recorders["peer0"].sequences("peer1") == [1]
    await networks["peer0"].broadcast(KIND, FIELDS)
    hub.partition(["peer0"], ["peer1"])
    hub.advance(5.0)
    hub.partition()
    hub.advance(5.0)
    assert recorders["peer1"].sequences("peer0") == [1]
    assert await networks["peer1"].sync() == 1
    assert recorders["peer1"].sequences("peer0") == [1, 2]


@run
async def test_a_peer_that_answers_late_delays_no_other(monkeypatch):
    hub = hub_of(3)
    networks, recorders = await peers_of(hub)
    hub.loss = 1.0
    await networks["peer0"].broadcast(KIND, FIELDS)
    hub.loss = 0.0
    release, query = asyncio.Event(), InProcessTransport.query

    async def late(transport, name, raw, timeout_s):
        if name == "peer2":
            await release.wait()
        return await query(transport, name, raw, timeout_s)

    monkeypatch.setattr(InProcessTransport, "query", late)
    sync = asyncio.create_task(networks["peer1"].sync())
    while not recorders["peer1"].received:
        await asyncio.sleep(0)
    assert not sync.done()
    release.set()
    assert await sync == 1
