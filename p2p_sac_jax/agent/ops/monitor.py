"""A peer's metrics for Prometheus, and its log as lines of JSON.

The endpoint is off by default and listens on loopback by default: it has no password,
and its metrics include the peer's profit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from p2p_sac_jax.agent.protocol.base import Status
from p2p_sac_jax.config import ConfigError

PREFIX = "p2p_sac"
_HEALTH = {"alone": 0.0, "degraded": 1.0, "connected": 2.0}


class PeerCollector(Collector):
    """Reads the metrics of a peer at every scrape; stateless.

    Args:
      status: of the network.
      metrics: of the peer by name: steps, rewards and the like.
    """

    def __init__(
        self, status: Callable[[], Status], metrics: Callable[[], Mapping[str, float]]
    ) -> None:
        self._status, self._metrics = status, metrics

    def collect(self) -> Iterator[Metric]:
        """All metrics; copied first, since a thread of the endpoint calls this."""
        for name, value in dict(self._metrics()).items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", f"{name} of the peer", value)
        status = self._status()
        yield GaugeMetricFamily(
            f"{PREFIX}_health",
            "0 alone, 1 degraded, 2 connected",
            _HEALTH[status.health],
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_peers", "other peers reachable now", len(status.peers)
        )
        up = GaugeMetricFamily(
            f"{PREFIX}_peer_up", "1 if the peer is reachable", labels=["peer"]
        )
        for name in sorted((*status.peers, *status.away)):
            up.add_metric([name], float(name in status.peers))
        yield up
        if status.last_sync_s is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_last_sync_seconds", "since the last sync", status.last_sync_s
            )
        counters = status.counters._asdict()
        refused = counters.pop("refused")
        del counters["refused_from"]
        for name, value in counters.items():
            make = GaugeMetricFamily if name.startswith("log_") else CounterMetricFamily
            yield make(f"{PREFIX}_{name}", f"{name} since the start", value=value)
        reasons = CounterMetricFamily(
            f"{PREFIX}_refused", "messages refused", labels=["reason"]
        )
        for reason, count in refused.items():
            reasons.add_metric([reason], count)
        yield reasons


class Endpoint:
    """The HTTP endpoint of a collector, from construction to ``close``.

    Args:
      address: PORT on loopback, or HOST:PORT.
      collector: of the peer.

    Raises:
      ConfigError: the address is invalid or in use.
    """

    def __init__(self, address: str, collector: PeerCollector) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"metrics={address!r} must be PORT or HOST:PORT")
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            self._server, self._thread = start_http_server(
                int(port), host or "127.0.0.1", registry
            )
        except OSError as error:
            raise ConfigError(f"metrics={address!r}: {error.strerror}") from error

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event and its data.

    The data of an event is passed as ``extra={"data": {...}}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "data", {})
        if record.exc_info:
            line.setdefault("error", " ".join(repr(record.exc_info[1]).split()))
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
