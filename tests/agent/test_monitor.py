"""What a peer shows of itself: its audit log, its figures, its log lines."""

import asyncio
import json
import logging
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.loopback import free_ports
from p2p_sac_jax.agent.ops.audit import AuditLog
from p2p_sac_jax.agent.ops.monitor import Endpoint, JsonLines, PeerCollector
from p2p_sac_jax.agent.protocol.refusals import Refusal
from p2p_sac_jax.agent.protocol.sequence_set import make_digests
from p2p_sac_jax.agent.transport.in_process import (
    Hub,
    InProcessTransport,
    in_process_network,
)
from p2p_sac_jax.config import ConfigError

FIELDS = {"trend": np.ones(4), "entropy": 1.5, "time": 3.0}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_hub():
    return Hub(["anna", "bela"], "public")


async def pair(folder, hub=None, **options):
    """An audited peer, and a receiver."""
    hub = hub or make_hub()
    log = AuditLog(folder / "audit.jsonl", clock=hub.now_s, **options)
    log.budget = lambda: {"left": 3}
    anna = in_process_network(hub, "anna", audit=log)
    bela, received = in_process_network(hub, "bela"), []
    bela.register_message_handler("model_insight", received.append)
    await anna.connect()
    await bela.connect()
    return anna, bela, received


def test_the_audit_log_records_what_left_and_no_values(tmp_path):
    async def send():
        anna, bela, received = await pair(tmp_path)
        assert await anna.broadcast("model_insight", FIELDS)
        sent = anna.status().counters.bytes_sent
        await bela.disconnect()
        for _ in range(2):
            assert not await anna.broadcast("model_insight", FIELDS)
        await bela.connect()
        assert await bela.sync() == 2
        await anna.disconnect()
        await anna.connect()
        assert await anna.broadcast("model_insight", FIELDS)
        await anna.disconnect()
        assert len(received) == 4
        return sent

    sent = asyncio.run(send())
    first, *kept, pulled, last = lines(tmp_path / "audit.jsonl")
    assert first["fields"] == {"trend": 4, "entropy": 1, "time": 1}
    assert first["bytes"] == sent > 0
    assert (first["to"], first["pulled"], first["messages"]) == (["bela"], False, 1)
    assert [line["to"] for line in kept] == [[], []]  # no peer was reachable
    assert (pulled["to"], pulled["pulled"], pulled["messages"]) == (["bela"], True, 2)
    assert pulled["kind"] == first["kind"] == "model_insight"
    assert pulled["fields"] == {"trend": 8, "entropy": 2, "time": 2}
    assert pulled["bytes"] == kept[0]["bytes"] + kept[1]["bytes"]
    assert last["to"] == ["bela"]
    assert first["mode"] == "public"
    assert first["budget"] == {"left": 3}
    text = (tmp_path / "audit.jsonl").read_text()
    assert "1.5" not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_repeated_pulls_are_recorded_once_and_messages_of_others_never(tmp_path):
    async def ask():
        hub = make_hub()
        anna, bela, _ = await pair(tmp_path, hub)
        await bela.broadcast("model_insight", FIELDS)
        await bela.disconnect()
        await anna.broadcast("model_insight", FIELDS)
        (everything,) = make_digests(hub.roster, ["anna", "bela"], {})
        byzantine_peer = InProcessTransport(hub, "bela")
        await byzantine_peer.open(lambda source, raw: None, lambda source, raw: [])
        for _ in range(3):
            assert len(await byzantine_peer.query("anna", everything, 1.0)) == 2

    asyncio.run(ask())
    kept, pulled = lines(tmp_path / "audit.jsonl")
    assert (kept["pulled"], pulled["pulled"], pulled["messages"]) == (False, True, 1)


def test_a_message_that_cannot_be_recorded_does_not_leave(tmp_path, caplog):
    async def talk():
        anna, bela, received = await pair(tmp_path)
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()  # as a full disk, for every user
        assert not await anna.broadcast("model_insight", FIELDS)
        assert await bela.sync() == 0
        assert received == []
        counters = anna.status().counters
        assert (counters.sent, counters.kept, counters.bytes_sent) == (0, 1, 0)
        (tmp_path / "audit.jsonl").rmdir()
        assert await bela.sync() == 1
        assert await anna.broadcast("model_insight", FIELDS)
        assert [delivery.sequence for delivery in received] == [1, 2]

    asyncio.run(talk())
    assert [line["pulled"] for line in lines(tmp_path / "audit.jsonl")] == [True, False]
    assert "message withheld, audit log failed" in caplog.text


def test_a_full_audit_log_is_rotated_and_two_files_are_kept(tmp_path):
    async def talk():
        anna, _, _ = await pair(tmp_path, max_bytes=400)
        for _ in range(12):
            assert await anna.broadcast("model_insight", FIELDS)
        await anna.disconnect()

    asyncio.run(talk())
    kept = sorted(path.name for path in tmp_path.glob("audit*"))
    assert kept == ["audit.jsonl", "audit.old.jsonl"]
    assert all(path.stat().st_size < 800 for path in tmp_path.glob("audit*"))
    assert lines(tmp_path / "audit.old.jsonl")


def test_an_audit_log_that_cannot_be_rotated_grows(tmp_path):
    (tmp_path / "audit.old.jsonl").mkdir()

    async def talk():
        anna, _, received = await pair(tmp_path, max_bytes=400)
        for _ in range(12):
            assert await anna.broadcast("model_insight", FIELDS)
        assert len(received) == 12

    asyncio.run(talk())
    assert len(lines(tmp_path / "audit.jsonl")) == 12


def test_an_audit_log_that_cannot_be_written_is_a_user_error(tmp_path):
    with pytest.raises(ConfigError, match="audit"):
        AuditLog(tmp_path / "nowhere" / "audit.jsonl")


def test_a_scrape_shows_the_counters_of_that_moment(tmp_path):
    async def watch():
        anna, bela, _ = await pair(tmp_path)
        await anna.broadcast("model_insight", FIELDS)
        bela.refuse("anna", Refusal.shape)
        collector = PeerCollector(bela.status, lambda: {"week": 7.0})
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        await anna.disconnect()
        return found

    shown = asyncio.run(watch())
    assert shown[("p2p_sac_week",)] == 7.0
    assert shown[("p2p_sac_health",)] == 2.0
    assert shown[("p2p_sac_peers",)] == 1.0
    assert shown[("p2p_sac_peer_up", "anna")] == 1.0
    assert shown[("p2p_sac_delivered_total",)] == 1.0
    assert shown[("p2p_sac_refused_total", "shape")] == 1.0
    assert shown[("p2p_sac_log_messages",)] == 1.0


def test_metrics_may_change_during_a_scrape():
    figures, network = {"week": 7.0}, in_process_network(make_hub(), "anna")
    families = PeerCollector(network.status, lambda: figures).collect()
    shown = [next(families).name]
    figures["late"] = 1.0
    shown += [family.name for family in families]
    assert shown[:2] == ["p2p_sac_week", "p2p_sac_health"]


def test_the_endpoint_serves_prometheus_on_loopback(tmp_path):
    (free_port,) = free_ports(1)

    async def serve():
        anna, _, _ = await pair(tmp_path)
        collector = PeerCollector(anna.status, lambda: {"week": 2.0})
        endpoint = Endpoint(str(free_port), collector)
        try:
            with pytest.raises(ConfigError, match="metrics="):
                Endpoint(str(free_port), collector)  # taken
            url = f"http://127.0.0.1:{free_port}/metrics"
            read = await asyncio.to_thread(urllib.request.urlopen, url)
            with read as answer:
                return answer.read().decode()
        finally:
            endpoint.close()
            await anna.disconnect()

    text = asyncio.run(serve())
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert families["p2p_sac_week"].samples[0].value == 2.0
    assert families["p2p_sac_sent"].type == "counter"


@pytest.mark.parametrize("address", ["", "x", "host:", "0", "70000", "host:0"])
def test_an_invalid_address_is_refused(address):
    with pytest.raises(ConfigError, match="metrics="):
        Endpoint(address, PeerCollector(None, dict))


def test_log_lines_are_json_with_their_data():
    record = logging.LogRecord("x", logging.INFO, "", 0, "week %d", (3,), None)
    record.data = {"reward": 1.25}
    line = json.loads(JsonLines().format(record))
    assert line["event"] == "week 3"
    assert (line["level"], line["reward"]) == ("info", 1.25)
    assert line["time"] > 0
