"""What a peer shows of itself: its audit log, its figures, its log lines."""

import asyncio
import json
import logging
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from launch.ports import free_ports
from p2p_sac_jax.agent.audit import AuditedNetwork, AuditLog
from p2p_sac_jax.agent.in_process import Hub, in_process_network
from p2p_sac_jax.agent.monitor import Endpoint, JsonLines, PeerCollector
from p2p_sac_jax.agent.wire import Refusal
from p2p_sac_jax.config import ConfigError

FIELDS = {"trend": np.ones(4), "entropy": 1.5, "time": 3.0}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def pair(folder, **options):
    """An audited peer, and one that hears it."""
    hub = Hub(["anna", "bela"], "public")
    log = AuditLog(folder / "audit.jsonl", **options)
    anna = AuditedNetwork(
        in_process_network(hub, "anna"), log, lambda: {"left": 3}, hub.now_s
    )
    bela, heard = in_process_network(hub, "bela"), []
    bela.register_message_handler("model_insight", heard.append)
    await anna.connect()
    await bela.connect()
    return anna, bela, heard


def test_the_audit_log_tells_what_left_and_holds_no_value(tmp_path):
    async def tell():
        anna, bela, heard = await pair(tmp_path)
        assert await anna.broadcast("model_insight", FIELDS)
        await bela.disconnect()
        assert not await anna.broadcast("model_insight", FIELDS)
        await anna.disconnect()
        return heard, anna.status()

    heard, status = asyncio.run(tell())
    first, second = lines(tmp_path / "audit.jsonl")
    assert len(heard) == 1
    assert first["fields"] == {"trend": 4, "entropy": 1, "time": 1}
    assert first["bytes"] == status.counters.bytes_sent > 0
    assert (first["left"], second["left"]) == (True, False)
    assert second["bytes"] == 0
    assert first["mode"] == "public"
    assert first["budget"] == {"left": 3}
    text = (tmp_path / "audit.jsonl").read_text()
    assert "1.5" not in text


def test_a_full_audit_log_makes_room_and_two_files_are_kept(tmp_path):
    async def talk():
        anna, _, _ = await pair(tmp_path, max_bytes=400)
        for _ in range(12):
            await anna.broadcast("model_insight", FIELDS)
        await anna.disconnect()

    asyncio.run(talk())
    kept = sorted(path.name for path in tmp_path.glob("audit*"))
    assert kept == ["audit.jsonl", "audit.old.jsonl"]
    assert all(path.stat().st_size < 800 for path in tmp_path.glob("audit*"))
    assert lines(tmp_path / "audit.old.jsonl")


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
    assert shown[("p2p_sac_delivered_total",)] == 1.0
    assert shown[("p2p_sac_refused_total", "shape")] == 1.0
    assert shown[("p2p_sac_log_messages",)] == 1.0


def test_the_endpoint_listens_on_loopback_and_speaks_prometheus(tmp_path):
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
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="metrics="):
        Endpoint(address, PeerCollector(None, dict))


def test_log_lines_are_json_with_what_belongs_to_them():
    record = logging.LogRecord("x", logging.INFO, "", 0, "week %d", (3,), None)
    record.data = {"reward": 1.25}
    line = json.loads(JsonLines().format(record))
    assert line["event"] == "week 3"
    assert (line["level"], line["reward"]) == ("info", 1.25)
    assert line["time"] > 0
