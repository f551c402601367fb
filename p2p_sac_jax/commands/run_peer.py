"""Runs one peer on a real network: one store, one process.

    p2p-sac-run-peer --config=peer --identity=DIR --workdir=DIR
                     --listen=HOST:PORT --connect=HOST:PORT,HOST:PORT

The identity comes from p2p-sac-make-identity. Logs are lines of JSON on stderr, and
audit.jsonl in --workdir lists what left the peer. SIGTERM and SIGINT end the peer
at once with its state saved; the same command resumes.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError, TrainConfig

LOG = logging.getLogger("p2p_sac_jax")


def _report(line: str) -> None:
    _log_as_json()
    LOG.error("refused", extra={"data": {"reason": line}})


PROGRAM = Program(__doc__, config=True, report=_report)
_IDENTITY = PROGRAM.path("identity", "", "folder of the peer's identity")
_NAME = PROGRAM.string("name", "", "expected name of the peer; empty accepts any")
_WORKDIR = PROGRAM.path("workdir", "", "folder of state, audit and message logs")
_LISTEN = PROGRAM.strings("listen", "HOST:PORT to accept peers at")
_CONNECT = PROGRAM.strings("connect", "HOST:PORT of other peers, separated by commas")
_STORE = PROGRAM.integer(
    "store", -1, "store of the simulated market; -1 is the peer's index in the roster"
)
_WEEK_S = PROGRAM.number("week_s", 604_800.0, "seconds of a week")
_WEEKS = PROGRAM.integer("weeks", 0, "number of weeks to run; 0 is no end")
_ORIGIN = PROGRAM.string(
    "origin",
    "1970-01-05",
    "start of the network's week 0 in UTC, such as 2026-11-23T08:00; the same for all"
    " peers",
)
_SYNC_S = PROGRAM.number(
    "sync_s", 60.0, "seconds between two requests for missing messages"
)
_METRICS = PROGRAM.string(
    "metrics", "", "PORT on loopback, or HOST:PORT, for Prometheus; empty is off"
)
_MARKET = PROGRAM.string(
    "market", "", "MODULE:FACTORY, a factory (config, name) -> Market of your own"
)


@PROGRAM.main
def main() -> int:
    """Checks the flags, builds the peer and runs it."""
    _log_as_json()
    config = PROGRAM.get_config()
    for flag in (_IDENTITY, _WORKDIR):
        if not flag.value:
            raise ConfigError(f"--{flag.name} is missing")
    for flag in (_SYNC_S, _WEEKS):
        if not 0 <= flag.value < float("inf"):
            raise ConfigError(f"--{flag.name}={flag.value} must be at least 0")
    if not 0.0 < _WEEK_S.value < float("inf"):
        raise ConfigError(f"--week_s={_WEEK_S.value} must be above 0")
    try:
        asyncio.run(_serve(config))
    except (ConfigError, OSError):
        raise  # one line
    except Exception as error:
        _log_failure(error)
        return 1
    return 0


async def _serve(config: TrainConfig) -> None:
    from p2p_sac_jax.agent.ops.audit import AuditLog
    from p2p_sac_jax.agent.ops.clock import SteadyClock
    from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
    from p2p_sac_jax.agent.ops.monitor import Endpoint, PeerCollector
    from p2p_sac_jax.agent.protocol.envelope import VERSION
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.service import Service
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
    from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    use_compilation_cache()
    folder = _make_folder()
    identity, roster = load_identity(_IDENTITY.value), load_roster(_IDENTITY.value)
    origin_s, week_s, seconds = _origin_s(), _WEEK_S.value, SteadyClock()

    def clock() -> float:
        return (seconds() - origin_s) / week_s

    _check_network(identity, clock())
    audit = AuditLog(folder / "audit.jsonl", clock=seconds)
    transport = ZenohTransport(
        _IDENTITY.value, listen=_LISTEN.value, connect=_CONNECT.value
    )
    network = PeerNetwork(
        transport,
        identity,
        roster,
        folder=folder / "network",
        audit=audit,
        clock=seconds,
    )
    network.must_agree(week=(week_s, origin_s))
    index = list(roster.keys).index(identity.name)
    market = _make_market(config, identity.name, index)
    agent = _make_agent(config, market, network, index, int(clock()))
    audit.budget = lambda: agent.budget
    service = Service(agent, market, network, clock=clock, week_s=week_s)
    endpoint = None
    if _METRICS.value:
        collector = PeerCollector(
            network.status,
            lambda: service.metrics | {"certificate_ends": transport.certificate_ends},
        )
        endpoint = Endpoint(_METRICS.value, collector)
    data = {
        "name": identity.name,
        "network": roster.network,
        "mode": roster.mode,
        "peers": list(roster.keys),
        "protocol": VERSION,
        "workdir": str(folder.absolute()),
        "clock": int(clock()),
        "pid": os.getpid(),
    }
    LOG.info("started", extra={"data": data})
    try:
        await service.run(stop, _WEEKS.value)
    finally:
        if endpoint is not None:
            endpoint.close()


def _make_folder() -> Path:
    os.umask(0o077)  # state and logs are private to the peer
    folder: Path = _WORKDIR.value
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir={str(folder)!r}: {error.strerror}") from error
    return folder


def _check_network(identity: Any, week: float) -> None:
    """Refuses an identity or a clock that does not fit the flags."""
    from p2p_sac_jax.arguments import LAST_CLOCK

    if _NAME.value not in ("", identity.name):
        raise ConfigError(
            f"--name={_NAME.value!r} must be {identity.name!r}, the name in"
            f" --identity={str(_IDENTITY.value)!r}"
        )
    if week < 0:
        raise ConfigError(
            f"--origin={_ORIGIN.value} lies in the future, must be now or earlier (UTC)"
        )
    if week > LAST_CLOCK:
        raise ConfigError(
            f"--origin={_ORIGIN.value} with --week_s={_WEEK_S.value:g} makes this week"
            f" {week:.0f} of the network, must be 0 to {LAST_CLOCK}"
        )


def _make_agent(
    config: TrainConfig, market: Any, network: Any, index: int, week: int
) -> Any:
    """The agent, with its saved state if there is one."""
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.ops.state_file import has_state

    folder = _WORKDIR.value / "state"
    agent = P2PSACAgent(
        market.observation_dim,
        market.action_dim,
        config,
        network=network,
        sync_interval=_SYNC_S.value,
        params=market.params,
        environment=market.environment,
        peer_id=index,
        start_clock=week,
        folder=folder,
    )
    if has_state(folder):
        agent.load()
    return agent


def _origin_s() -> float:
    """Start of the network's week 0, seconds since 1970."""
    try:
        origin = datetime.fromisoformat(_ORIGIN.value)
    except ValueError as error:
        raise ConfigError(
            f"--origin={_ORIGIN.value!r} must be a date, such as 2026-11-23"
        ) from error
    if origin.tzinfo is None:
        origin = origin.replace(tzinfo=UTC)
    return origin.timestamp()


def _make_market(config: TrainConfig, name: str, index: int) -> Any:
    from p2p_sac_jax.agent.market import MarketError, SimulatedMarket, check_market

    if not _MARKET.value:
        return SimulatedMarket(config, index if _STORE.value < 0 else _STORE.value)
    module, _, factory = _MARKET.value.partition(":")
    if not (module and factory):
        raise ConfigError(f"--market={_MARKET.value!r} must be MODULE:FACTORY")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--market={_MARKET.value!r}: {error}") from error
    except Exception as error:
        raise MarketError(f"--market={_MARKET.value}", error) from error
    try:
        market = make(config, name) if callable(make) else make
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"--market={_MARKET.value!r}: {error}") from error
    except Exception as error:
        raise MarketError(f"--market={_MARKET.value}", error) from error
    check_market(market, f"--market={_MARKET.value}")
    return market


def _log_as_json() -> None:
    from p2p_sac_jax.agent.ops.monitor import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOG.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = sys.unraisablehook = lambda failed: _log_failure(
        failed.exc_value
    )


def _log_failure(error: BaseException | None) -> None:
    from p2p_sac_jax.agent.market import MarketError

    line = str(error) if isinstance(error, MarketError) else repr(error)
    data = {"error": " ".join(line.split())}
    LOG.error("failed", exc_info=error, extra={"data": data})


if __name__ == "__main__":
    main()
